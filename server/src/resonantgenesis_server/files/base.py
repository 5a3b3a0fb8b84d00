"""What every store of blobs promises.

A blob is content without a name. It lies under its digest (SHA-256, in hexadecimal) once, however
many files hold it. Every store promises:

- **Whole or not at all.** A blob can be opened only once `keep` has returned, and is then on stable
  storage. A discarded writer leaves nothing. The next start removes what a dead process left.
- **Constant memory**, whatever the size, and nothing that blocks the event loop.
- **Readers are safe.** A blob that was opened is read to its end, even if it is removed meanwhile.
- **Damage is noticed.** A reader that reads a blob in order from its beginning gets `BlobDamaged`
  in place of the last piece if the digest is wrong.
- A store that cannot be used right now raises `BlobError`; no other exception leaves it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Protocol, Self


class BlobError(Exception):
    """The store cannot be used; the message is one line, written for the operator."""


class BlobsFull(BlobError):
    """There is no room, or only the reserve."""


class BlobDamaged(BlobError):
    """The content under a digest has another digest: the storage has changed it."""


class BlobGone(BlobError):
    """There is no blob under this digest."""


class BlobWriter(Protocol):
    """A blob being written. Its methods are called one after the other, `finish` before `keep`."""

    async def write(self, data: bytes) -> None:
        """Append; returns when the store can take more."""

    async def finish(self) -> str:
        """The digest of all written bytes, which are on stable storage now."""
        ...

    async def keep(self) -> None:
        """Let the blob be opened under its digest, durably."""

    async def discard(self) -> None:
        """Drop a blob that was not kept; may be called in any state, and more than once."""


class Blob(Protocol):
    """An open blob, to be used with `async with`."""

    @property
    def size(self) -> int: ...

    async def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on; less only at the end."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Blobs(Protocol):
    async def begin(self, expected: int = 0) -> BlobWriter:
        """A new writer. Raises BlobsFull where `expected` bytes would find no room."""
        ...

    async def find(self, digest: str) -> Blob:
        """The blob, open. Raises BlobGone."""
        ...

    async def remove(self, digests: Sequence[str]) -> int:
        """Remove the blobs that exist among these; return their number."""
        ...

    def batches(self) -> AsyncIterator[list[str]]:
        """The digests of all blobs, a bounded number at a time. Blobs that come or go meanwhile may
        be missing."""
        ...

    async def close(self) -> None:
        """Writers and open blobs are of no use afterwards."""
