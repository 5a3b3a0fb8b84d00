"""Files as every transport offers them: taken in whole, found by those who may, removed at last."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Sequence,
)

import structlog

from .. import metrics
from ..model.errors import Internal, NotFound, PayloadTooLarge, Unavailable
from ..model.ids import is_id
from ..records.base import Once, Page, StoreError
from ..records.files import Content, FileRecord, FileRepository, Owner
from .base import Blob, BlobDamaged, BlobError, BlobGone, Blobs, BlobsFull, BlobWriter
from .quota import Quota, Reached, nobody_is_told

log_ = structlog.get_logger("resonantgenesis.files")

#: Bytes gathered before a thread is asked to write them: a hop for every packet would cost more
#: than the writing.
_GATHER = 256 * 1024
#: Seconds after which a client may try again when there is no room.
_RETRY_AFTER = 10.0


class Upload:
    """A file on its way in, of at most `limit` bytes; made by `FileService.receiving`."""

    def __init__(self, writer: BlobWriter, limit: int) -> None:
        self.size = 0
        self._writer = writer
        self._limit = limit
        self._waiting: list[bytes] = []
        self._waiting_size = 0

    async def write(self, data: bytes) -> None:
        """Returns when more can be taken. Raises PayloadTooLarge, Unavailable."""
        self.size += len(data)
        if self.size > self._limit:
            raise too_large(self._limit)
        self._waiting.append(data)
        self._waiting_size += len(data)
        if self._waiting_size >= _GATHER:
            await self._flush()

    async def finish(self) -> str:
        """The content's SHA-256 in hexadecimal; it is on disk now, but nobody's yet."""
        await self._flush()
        with _told():
            return await self._writer.finish()

    async def keep(self) -> None:
        """Called by the service."""
        with _told():
            await self._writer.keep()

    async def _flush(self) -> None:
        waiting, self._waiting, self._waiting_size = self._waiting, [], 0
        if waiting:
            with _told():
                await self._writer.write(b"".join(waiting))


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
        of_organization: int = 0,
        reached: Reached = nobody_is_told,
    ) -> None:
        """`settle` returns when the records show no file of a session that was deleted before.
        `of_organization`: bytes of all its files, 0: any number; who meets it is `reached`."""
        self.limit = limit
        self._quota = Quota(of_organization, self._used, reached)
        self._settle = settle
        self._records = records
        self._blobs = blobs
        #: Contents whose file is about to be recorded, and how often.
        self._held: Counter[str] = Counter()
        #: Held while contents are removed: none of them may come to be held meanwhile.
        self._removing = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def receiving(self, expected: int = 0) -> AsyncIterator[Upload]:
        """An upload, of `expected` bytes as far as is known; what has not become a file by the end
        of the block leaves nothing. Raises PayloadTooLarge, Unavailable."""
        if expected > self.limit:
            raise too_large(self.limit)
        with _told():
            writer = await self._blobs.begin(expected)
        try:
            yield Upload(writer, self.limit)
        finally:
            try:
                await writer.discard()
            except BlobError as error:  # the next start removes what is left
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
        async with (
            self._quota.recording(owner.organization_id, upload.size),
            self._holding(digest),
        ):
            await upload.keep()
            content = Content(name, content_type, upload.size, digest)
            return await self._records.create(owner, content, once=once)

    async def _used(self, organization_id: str) -> int:
        await self._settle()
        return await self._records.size_of(organization_id)

    async def check_room(self, organization_id: str, size: int) -> None:
        """Raises PayloadTooLarge when so many bytes more are too many for the organization."""
        await self._quota.check(organization_id, size)

    @contextlib.asynccontextmanager
    async def _holding(self, digest: str) -> AsyncIterator[None]:
        async with self._removing:
            self._held[digest] += 1
        try:
            yield
        finally:
            self._held[digest] -= 1
            if not self._held[digest]:
                del self._held[digest]

    async def get(self, seen_by: Owner, file_id: str) -> FileRecord:
        """Raises NotFound, whatever the reason."""
        await self._settle()
        found = await self._records.get(seen_by, file_id) if is_id(file_id) else None
        if found is None:
            raise _missing()
        return found

    async def list(self, seen_by: Owner, *, limit: int, cursor: str | None) -> Page[FileRecord]:
        """Newest first."""
        await self._settle()
        return await self._records.list(seen_by, limit=limit, cursor=cursor)

    async def open(self, file: FileRecord) -> Blob:
        """Its content. Raises NotFound if it was deleted just now, Internal if it is damaged."""
        try:
            with _told():
                blob = await self._blobs.find(file.content.sha256)
                if blob.size != file.content.size:
                    await _shut(blob)
                    raise BlobDamaged(f"{file.content.sha256}: has {blob.size} bytes")
                return blob
        except BlobGone as error:
            if await self._records.get(file.owner, file.id) is None:
                raise _missing() from error
            log_.error("content is missing", file=file.id, error=str(error))
            raise Internal("the file's content is missing") from error

    async def delete(self, seen_by: Owner, file_id: str) -> None:
        """Raises NotFound. Its content goes with the last file that holds it."""
        await self._settle()
        gone = await self._records.delete(seen_by, file_id) if is_id(file_id) else None
        if gone is None:
            raise _missing()
        try:
            await self._collect([gone.content.sha256])
        except (BlobError, StoreError) as error:
            # The file is deleted all the same; what is left of it is removed by the timer.
            log_.warning("content could not be removed", file=gone.id, error=str(error))

    async def collect(self) -> int:
        """Remove the content that no file holds; how many. A job of housekeeping. Raises BlobError
        and StoreError."""
        removed = 0
        async for digests in self._blobs.batches():
            removed += await self._collect(digests)
        return removed

    async def _collect(self, digests: Sequence[str]) -> int:
        async with self._removing:
            # Before the records are asked: what is let go meanwhile has a record they do not tell.
            asked = [one for one in digests if one not in self._held]
            held = await self._records.held(asked) if asked else frozenset()
            free = [one for one in asked if one not in held]
            return await self._blobs.remove(free) if free else 0


async def _shut(blob: Blob) -> None:
    async with blob:
        pass


async def pieces(blob: Blob, start: int, end: int, size: int) -> AsyncGenerator[bytes, None]:
    """Bytes from `start` up to `end`, at most `size` at a time. Raises Unavailable, Internal.

    The last piece of the whole is held back if that is not what was written; of a part nobody can
    say."""
    while start < end:
        with _told():
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
def _told() -> Iterator[None]:
    """What clients are told; the log has the reason."""
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
