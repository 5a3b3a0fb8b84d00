"""What a store of blobs promises, whatever holds it.

A blob is content without a name: it lies under its digest (SHA-256, in hexadecimal), once, however
many files hold it. Every store promises:

- **Whole or not at all.** What a writer was given can be opened only once `keep` has returned, and
  is then on stable storage. A writer that is discarded leaves nothing, nor does one whose process
  dies: what is left of it is removed at the next start.
- **Constant memory**, whatever the size, and nothing that blocks the event loop.
- **Readers are safe.** A blob that was opened is read to its end, even if it is removed meanwhile.
- **What was changed is not given out as whole.** Who reads a blob from its beginning on, piece by
  piece, gets `BlobDamaged` instead of the last piece if it is not what was written.
- A store that cannot be used right now raises `BlobError`; no other exception leaves it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Protocol, Self


class BlobError(Exception):
    """The store cannot be used; the message is one line, written for the operator."""


class BlobsFull(BlobError):
    """There is no room, or no more than is to be left to others."""


class BlobDamaged(BlobError):
    """What is kept under a digest has another: the disk has changed it."""


class BlobGone(BlobError):
    """There is no blob under this digest."""


class BlobWriter(Protocol):
    """Content on its way in. Its methods are called one after the other, `finish` before `keep`."""

    async def write(self, data: bytes) -> None:
        """Append; returns when the store can take more."""

    async def finish(self) -> str:
        """The digest of all that was written, which is on stable storage now."""
        ...

    async def keep(self) -> None:
        """Let it be opened under its digest, durably."""

    async def discard(self) -> None:
        """Give up what has not been kept, whatever state it is in; may be called more than once."""


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
        """Remove those of these blobs that exist; how many."""
        ...

    def batches(self) -> AsyncIterator[list[str]]:
        """The digests of all blobs, a bounded number at a time; those that come or go meanwhile
        may be missing."""
        ...

    async def close(self) -> None:
        """Writers and open blobs are of no use afterwards."""
