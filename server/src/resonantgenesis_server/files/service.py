"""Files for every transport: uploads, the quota, access, and the removal of unused content.

Several nodes may share the records and the store. They agree by one row for each digest: the first
upload of a content names its blob there, later uploads drop theirs, and the node that deletes the
row removes the blob.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Sequence,
)
from functools import partial
from types import TracebackType
from typing import Self

import structlog

from .. import metrics
from ..model.errors import Internal, NotFound, PayloadTooLarge, Unavailable
from ..model.ids import is_id
from ..records.base import KeyUsed, ListPage, Once, StoreError
from ..records.files import Content, FileRecord, FileRepository, Owner
from .base import Blob, BlobDamaged, BlobError, BlobGone, Blobs, BlobsFull, BlobWriter

log_ = structlog.get_logger("resonantgenesis.files")

#: Bytes gathered for one write: a hop to a thread for every packet would cost more than to write.
_GATHER = 256 * 1024
#: Seconds after which a client may try again when there is no room.
_RETRY_AFTER = 10.0
#: The name of the limit on an organization's files.
QUOTA = "organization_files"
#: Seconds after which a blob without a row belongs to nobody: every upload is recorded earlier, or
#: never.
ABANDONED = 86_400.0
#: How often a file's blob is looked for: it may be another one by the time it is opened.
_LOOKS = 5
#: How often the quota asks the records while other files are recorded.
_COUNTS = 10


class Upload:
    """The content of a file under way, at most `limit` bytes; made by `FileService.receiving`."""

    def __init__(self, writer: BlobWriter, limit: int) -> None:
        self.size = 0
        self._writer = writer
        self._limit = limit
        self._waiting: list[bytes] = []
        self._waiting_size = 0

    async def write(self, data: bytes) -> None:
        """Append; returns when the store can take more. Raises PayloadTooLarge, Unavailable."""
        self.size += len(data)
        if self.size > self._limit:
            raise too_large(self._limit)
        self._waiting.append(data)
        self._waiting_size += len(data)
        if self._waiting_size >= _GATHER:
            await self._flush()

    async def finish(self) -> str:
        """The content's SHA-256 in hexadecimal. It is stored now, but belongs to no file yet."""
        await self._flush()
        with _as_api_errors():
            return await self._writer.finish()

    async def keep(self) -> str:
        """Let the content be found; the name of its blob. The service calls this."""
        with _as_api_errors():
            return await self._writer.keep()

    async def _flush(self) -> None:
        waiting, self._waiting, self._waiting_size = self._waiting, [], 0
        if waiting:
            with _as_api_errors():
                await self._writer.write(b"".join(waiting))


#: The address of a blob in its store, for a client; with a Content-Disposition.
BlobAddress = Callable[[str, str], Awaitable[str]]
#: Called with the organization that met the quota, and the quota in bytes; never waits nor raises.
QuotaReached = Callable[[str, int], None]


def ignore_reached(_organization_id: str, _limit: int) -> None:
    """For a server without events."""


class Quota:
    """How many bytes the files of one organization may have together.

    The records are asked once for an organization, and again before an upload is refused: sessions
    that were deleted since have freed room. Where other nodes take files as well, they are asked
    again after some seconds.
    """

    def __init__(
        self,
        limit: int,
        used: Callable[[str], Awaitable[int]],
        reached: QuotaReached,
        *,
        recount: float = math.inf,
    ) -> None:
        """`limit` 0: any number of bytes. `used`: how many an organization has in the records.
        `recount`: seconds for which the answer of the records counts."""
        self._limit = limit
        self._used = used
        self._reached = reached
        self._recount = recount
        self._counted: dict[str, float] = {}
        # Never too low: files that are being recorded count.
        self._known: dict[str, int] = {}
        self._recording: Counter[str] = Counter()
        # How many recordings have ended.
        self._recorded = 0
        # Held while the room is checked, so that two uploads do not take the room of one.
        self._checking = asyncio.Lock()

    async def check(self, organization_id: str, size: int) -> None:
        """Raises PayloadTooLarge when `size` bytes more find no room now."""
        if not self._limit:
            return
        known = self._known.get(organization_id)
        now = time.monotonic()
        if now - self._counted.get(organization_id, now) > self._recount:
            known = None
        if known is None or known + size > self._limit:
            known = self._known[organization_id] = await self._count(organization_id)
            self._counted[organization_id] = now
        if known + size > self._limit:
            self._reached(organization_id, self._limit)
            raise PayloadTooLarge(
                f"the files of this organization may have {self._limit} bytes together; delete some"
                " first",
                details={"limit": QUOTA, "most": self._limit},
            )

    async def _count(self, organization_id: str) -> int:
        """The bytes that are recorded or about to be.

        A file whose recording ends while the records are asked would be in neither number: then
        they are asked again.
        """
        for _ in range(_COUNTS):
            recorded = self._recorded
            used = await self._used(organization_id)
            if recorded == self._recorded:
                break
        return used + self._recording[organization_id]

    @contextlib.asynccontextmanager
    async def recording(self, organization_id: str, size: int) -> AsyncIterator[None]:
        """Around the recording of a file; the room is free again if the block fails.

        Raises PayloadTooLarge."""
        async with self._checking:
            await self.check(organization_id, size)
            if self._limit:
                self._known[organization_id] += size
                self._recording[organization_id] += size
        try:
            yield
        except BaseException:
            if self._limit:
                self._known[organization_id] -= size
            raise
        finally:
            if self._limit:
                self._recording[organization_id] -= size
                self._recorded += 1


async def _nothing_to_settle() -> None:
    pass


class FileService:
    """Raises ApiError, and StoreError when the records cannot be used."""

    def __init__(
        self,
        records: FileRepository,
        blobs: Blobs,
        *,
        limit: int,
        settle: Callable[[], Awaitable[None]] = _nothing_to_settle,
        quota: int = 0,
        reached: QuotaReached = ignore_reached,
        recount: float = math.inf,
        abandoned: float = ABANDONED,
        address: BlobAddress | None = None,
    ) -> None:
        """`settle` returns when the records have dropped the files of every deleted session.
        `quota`: bytes of all files of an organization, 0: any number; `reached` hears who met it;
        `recount`: see `Quota`. `abandoned`: see `ABANDONED`. `address`: None where the server
        sends all content itself.
        """
        self.limit = limit
        self._quota = Quota(quota, self._used, reached, recount=recount)
        self._settle = settle
        self._records = records
        self._blobs = blobs
        self._abandoned = abandoned
        self._address = address
        self._swept: float | None = None

    @contextlib.asynccontextmanager
    async def receiving(self, expected: int = 0) -> AsyncIterator[Upload]:
        """An upload of `expected` bytes, 0 if unknown. An upload that has not become a file by the
        end of the block leaves nothing. Raises PayloadTooLarge, Unavailable."""
        if expected > self.limit:
            raise too_large(self.limit)
        with _as_api_errors():
            writer = await self._blobs.begin(expected)
        try:
            yield Upload(writer, self.limit)
        finally:
            try:
                await writer.discard()
            except BlobError as error:  # the next start removes it
                log_.warning("an upload could not be removed", error=str(error))

    async def create(
        self,
        upload: Upload,
        owner: Owner,
        name: str,
        content_type: str,
        digest: str,
        *,
        once: Once[FileRecord] | None = None,
    ) -> FileRecord:
        """The file of a finished upload; durable when this returns. Raises KeyUsed, and
        PayloadTooLarge when the organization has too many bytes with it."""
        async with self._quota.recording(owner.organization_id, upload.size):
            await self._check_held(digest, upload.size)
            blob = await upload.keep()
            content = Content(name, content_type, upload.size, digest)
            try:
                made = await self._records.create(owner, content, blob=blob, once=once)
            except KeyUsed:  # nothing was recorded; after another error that is not known
                await self._give_up(blob)
                raise
        await self._give_up_spare(digest, blob)
        return made

    async def _check_held(self, digest: str, size: int) -> None:
        """Mark the blob that holds this content already as damaged, unless it is there and whole:
        so the new blob takes its place."""
        held = await self._records.blob_of(digest)
        if held is None:
            return
        try:
            with _as_api_errors():
                found = await self._blobs.size(held)
        except BlobGone:
            found = -1
        if found != size:
            await self._records.mark_damaged(digest, held)

    async def _give_up_spare(self, digest: str, blob: str) -> None:
        """Remove the blob unless the row names it: no row ever will."""
        try:
            if await self._records.blob_of(digest) != blob:
                await self._give_up(blob)
        except StoreError as error:
            log_.warning("content could not be removed", blob=blob, error=str(error))

    async def _give_up(self, blob: str) -> None:
        """Remove the blob; `collect` does so later if this fails."""
        try:
            await self._blobs.remove([blob])
        except BlobError as error:
            log_.warning("content could not be removed", blob=blob, error=str(error))

    async def _used(self, organization_id: str) -> int:
        await self._settle()
        return await self._records.size_of(organization_id)

    async def check_room(self, organization_id: str, size: int) -> None:
        """Raises PayloadTooLarge when the organization has no room for `size` bytes more."""
        await self._quota.check(organization_id, size)

    async def get(self, seen_by: Owner, file_id: str) -> FileRecord:
        """Raises NotFound, whatever the reason."""
        await self._settle()
        found = await self._records.get(seen_by, file_id) if is_id(file_id) else None
        if found is None:
            raise _missing()
        return found

    async def list(self, seen_by: Owner, *, limit: int, cursor: str | None) -> ListPage[FileRecord]:
        """Newest first."""
        await self._settle()
        return await self._records.list(seen_by, limit=limit, cursor=cursor)

    async def open(self, file: FileRecord, start: int = 0, end: int | None = None) -> Blob:
        """The file's content, to be read from `start` up to `end`. Raises NotFound if the file was
        deleted meanwhile, Internal if its content is damaged."""
        digest, missing = file.content.sha256, None
        for _ in range(_LOOKS):
            name = await self._records.blob_of(digest)
            if name is None or name == missing:
                break
            damaged = partial(self._mark_damaged, digest, name)
            try:
                with _as_api_errors():
                    found = await self._blobs.find(name, digest, start=start, end=end)
                    blob = _Content(name, found, damaged)
                    await blob.check_size(file.content.size)
                    return blob
            except BlobGone:
                missing = name
        if await self._records.get(file.owner, file.id) is None:
            raise _missing()
        if missing is not None:
            await self._mark_damaged(digest, missing)
        log_.error("content is missing", file=file.id, sha256=digest)
        raise Internal("the file's content is missing")

    async def address(self, file: FileRecord, disposition: str) -> str | None:
        """Where a client may fetch the content from the storage for a short time, if anywhere."""
        if self._address is None or not file.content.size:
            return None
        name = await self._records.blob_of(file.content.sha256)
        if name is None:
            return None  # `open` tells why
        with _as_api_errors():
            return await self._address(name, disposition)

    async def _mark_damaged(self, digest: str, blob: str) -> None:
        """Let the next upload of this content replace the blob."""
        try:
            await self._records.mark_damaged(digest, blob)
        except StoreError as error:
            log_.warning("damage could not be recorded", error=str(error))

    async def delete(self, seen_by: Owner, file_id: str) -> None:
        """Raises NotFound. Its content goes with the last file that holds it."""
        await self._settle()
        gone = await self._records.delete(seen_by, file_id) if is_id(file_id) else None
        if gone is None:
            raise _missing()
        try:
            await self._release([gone.content.sha256])
        except (BlobError, StoreError) as error:
            # The file is deleted all the same; housekeeping removes its content later.
            log_.warning("content could not be removed", file=gone.id, error=str(error))

    async def collect(self) -> int:
        """Remove the contents that no file holds, and return their number. A job of housekeeping.
        Raises BlobError and StoreError."""
        removed = 0
        while digests := await self._records.unheld():
            released = await self._release(digests)
            removed += released
            if not released:  # others were faster
                break
        if self._swept is None or time.monotonic() - self._swept >= self._abandoned:
            removed += await self._sweep()
            self._swept = time.monotonic()
        return removed

    async def _release(self, digests: Sequence[str]) -> int:
        """Give up the contents that no file holds; return their number."""
        blobs = await self._records.release(digests)
        if blobs:
            await self._blobs.remove(blobs)
        return len(blobs)

    async def _sweep(self) -> int:
        """Remove what dead processes left: blobs that no row names, and unfinished uploads."""
        removed = await self._blobs.clear(self._abandoned)
        async for names in self._blobs.batches(self._abandoned):
            named = await self._records.named(names) if names else frozenset()
            free = [name for name in names if name not in named]
            removed += await self._blobs.remove(free) if free else 0
        return removed


class _Content:
    """A Blob of a file; tells once its content turns out to be damaged."""

    def __init__(self, name: str, blob: Blob, damaged: Callable[[], Awaitable[None]]) -> None:
        self._name = name
        self._blob = blob
        self._damaged = damaged

    @property
    def size(self) -> int:
        return self._blob.size

    async def check_size(self, size: int) -> None:
        if self.size != size:
            async with self:
                await self._damaged()
            raise BlobDamaged(f"{self._name}: has {self.size} bytes instead of {size}")

    async def read(self, offset: int, size: int) -> bytes:
        try:
            return await self._blob.read(offset, size)
        except BlobDamaged:
            await self._damaged()
            raise

    async def __aenter__(self) -> Self:
        await self._blob.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._blob.__aexit__(kind, error, trace)


async def pieces(blob: Blob, start: int, end: int, size: int) -> AsyncGenerator[bytes, None]:
    """Bytes from `start` up to `end`, at most `size` at a time. Raises Unavailable, Internal.

    The last piece of a whole content is held back if the digest is wrong. A part has no digest."""
    while start < end:
        with _as_api_errors():
            data = await blob.read(start, min(size, end - start))
        if not data:
            metrics.file_damaged()
            log_.error("content is shorter than its file says", missing=end - start)
            raise Internal("the file's content is damaged")
        start += len(data)
        yield data


def too_large(limit: int) -> PayloadTooLarge:
    """For a file over the limit, in bytes."""
    return PayloadTooLarge(f"the file is over {limit} bytes", details={"limit": limit})


def _missing() -> NotFound:
    return NotFound("no such file")


@contextlib.contextmanager
def _as_api_errors() -> Iterator[None]:
    """Log the store's errors with their reasons, and raise those that clients may see."""
    try:
        yield
    except BlobGone:
        raise
    except BlobDamaged as error:
        metrics.file_damaged()
        log_.error("a file's content is damaged; restore it from a backup", error=str(error))
        raise Internal("the file's content is damaged") from error
    except BlobsFull as error:
        log_.error("no room for files", error=str(error))
        raise Unavailable("there is no room for files", retry_after=_RETRY_AFTER) from error
    except BlobError as error:
        log_.error("files cannot be used", error=str(error))
        raise Unavailable("files cannot be used right now", retry_after=1.0) from error
