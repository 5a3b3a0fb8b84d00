"""What every store of blobs promises.

A blob is content under a name that the store chooses and never uses again. The records say which
blob has which content. Every store promises:

- **Whole or not at all.** A blob can be opened only once `keep` has returned, and is then on stable
  storage. A discarded writer leaves nothing. `clear`, or the next start, removes what a dead
  process left.
- **Bounded memory**, whatever the size, and nothing that blocks the event loop.
- **Readers are safe.** A blob that was opened is read to its end, even if it is removed meanwhile,
  as far as the storage allows.
- **Damage is noticed.** A reader that reads a blob in order from its beginning gets `BlobDamaged`
  in place of the last piece if the digest is wrong.
- A store that cannot be used right now raises `BlobError`; no other exception leaves it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Protocol, Self


class BlobError(Exception):
    """The store cannot be used; the message is one line, written for the operator."""


class BlobsFull(BlobError):
    """There is no room, or only the reserve."""


class BlobDamaged(BlobError):
    """A blob has another digest than when it was written: the storage has changed it."""


class BlobGone(BlobError):
    """There is no blob of this name."""


class BlobsRefused(BlobError):
    """The store answers, but will not be used like this: other settings are needed."""


class BlobWriter(Protocol):
    """A blob being written. Its methods are called one after the other, `finish` before `keep`."""

    async def write(self, data: bytes) -> None:
        """Append; returns when the store can take more."""

    async def finish(self) -> str:
        """The digest of all written bytes, which are on stable storage now."""
        ...

    async def keep(self) -> str:
        """Let the blob be opened, durably; return its name."""
        ...

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

    async def find(self, name: str, digest: str, *, start: int = 0, end: int | None = None) -> Blob:
        """The blob of this digest, open, for a reader that begins at `start` and stops at `end`
        (None: at the blob's end). Raises BlobGone."""
        ...

    async def size(self, name: str) -> int:
        """The blob's size in bytes. Raises BlobGone."""
        ...

    async def remove(self, names: Sequence[str]) -> int:
        """Remove these blobs; return how many there were, as far as the storage tells. Names of
        another store are let pass."""
        ...

    def batches(self, older: float) -> AsyncIterator[list[str]]:
        """The names of all blobs older than so many seconds by the storage's own clock, a bounded
        number at a time. Blobs that come or go meanwhile may be missing."""
        ...

    async def clear(self, older: float) -> int:
        """Remove the rests of writers that were not used for so many seconds; return their
        number."""
        ...

    async def close(self) -> None:
        """Writers and open blobs are of no use afterwards."""


_BLOCK = 1024 * 1024


async def copy_blob(source: Blobs, target: Blobs, name: str, digest: str) -> str:
    """Copy a blob into another store; its name there. Raises BlobError, and BlobDamaged before
    anything is kept."""
    async with await source.find(name, digest) as blob:
        return (await write_blob(target, blob.size, blob.read))[0]


async def write_blob(
    target: Blobs, size: int, read: Callable[[int, int], Awaitable[bytes]]
) -> tuple[str, str]:
    """Write what `read` gives from an offset on; name and digest of the new blob."""
    writer = await target.begin(size)
    try:
        offset = 0
        while data := await read(offset, _BLOCK):
            await writer.write(data)
            offset += len(data)
        digest = await writer.finish()
        return await writer.keep(), digest
    except BaseException:
        await writer.discard()
        raise
