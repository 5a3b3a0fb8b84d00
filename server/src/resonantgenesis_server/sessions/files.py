"""The files of one turn: their owner, their number, and their end with the turn."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import Self

import structlog

from ..agents.base import StoredFile
from ..files.names import check_name, content_type_of
from ..files.service import FileService, Upload, pieces
from ..model.errors import AgentError, ApiError, PayloadTooLarge, Unavailable
from ..records.base import StoreError
from ..records.files import FileRecord, Owner
from .state import SessionInfo

log_ = structlog.get_logger("resonantgenesis.turns")

#: How many files a turn may store.
MAX_FILES = 100
#: Bytes of one piece of a file that is read.
PIECE = 256 * 1024
#: Seconds that an agent's thread waits for its file.
_THREAD_WAIT = 600.0


class SessionFiles:
    """The `TurnFiles` of a turn of this session, for the length of a `with` block.

    After the block every call fails, also those of an agent that ignores the end of its turn.
    """

    def __init__(self, files: FileService, info: SessionInfo) -> None:
        self._files = files
        self._owner = Owner(info.organization_id, info.subject, info.session_id, info.agent_id)
        self._seen = Owner(info.organization_id, info.subject)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._count = 0
        self._size = 0
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._closed = True

    async def store(
        self,
        name: str,
        content: bytes | AsyncIterable[bytes],
        content_type: str | None = None,
    ) -> StoredFile:
        self._check_open()
        check_name(name)
        kind = content_type_of(content_type, name)
        self._count += 1
        if self._count > MAX_FILES:
            raise AgentError(f"a turn stores at most {MAX_FILES} files", "PAYLOAD_TOO_LARGE")
        with _agent_errors():
            expected = len(content) if isinstance(content, bytes) else 0
            async with self._files.receiving(expected) as upload:
                if isinstance(content, bytes):
                    await self._write(upload, content)
                else:
                    async for piece in content:
                        await self._write(upload, piece)
                digest = await upload.finish()
                self._check_open()
                return _stored(await self._files.create(upload, self._owner, name, kind, digest))

    def store_from_thread(
        self, name: str, content: bytes, content_type: str | None = None
    ) -> StoredFile:
        if threading.get_ident() == self._thread:
            raise RuntimeError("this is the event loop: await store instead")
        stored = self.store(name, content, content_type)
        try:
            waiting = asyncio.run_coroutine_threadsafe(stored, self._loop)
        except RuntimeError:  # the server has stopped
            stored.close()
            raise
        return waiting.result(_THREAD_WAIT)

    async def get(self, file_id: str) -> StoredFile:
        self._check_open()
        with _agent_errors():
            return _stored(await self._files.get(self._seen, file_id))

    async def read(self, file_id: str) -> AsyncIterator[bytes]:
        self._check_open()
        with _agent_errors():
            file = await self._files.get(self._seen, file_id)
            async with await self._files.open(file) as blob:
                async for piece in pieces(blob, 0, file.content.size, PIECE):
                    self._check_open()
                    yield piece

    async def _write(self, upload: Upload, data: bytes) -> None:
        self._check_open()
        self._size += len(data)
        if self._size > self._files.limit:
            raise AgentError(
                f"a turn stores at most {self._files.limit} bytes", "PAYLOAD_TOO_LARGE"
            )
        await upload.write(data)

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the turn has ended")


def _stored(file: FileRecord) -> StoredFile:
    content = file.content
    return StoredFile(file.id, content.name, content.content_type, content.size, content.sha256)


@contextlib.contextmanager
def _agent_errors() -> Iterator[None]:
    """Turn errors into AgentErrors, which the client may see."""
    try:
        yield
    except PayloadTooLarge as error:
        raise AgentError(error.message, "PAYLOAD_TOO_LARGE") from error
    except ApiError as error:
        retryable = isinstance(error, Unavailable)
        raise AgentError(
            error.message, retryable=retryable, retry_after=error.retry_after
        ) from error
    except StoreError as error:
        log_.error("files cannot be recorded", error=str(error))
        raise AgentError(
            "files cannot be used right now", retryable=True, retry_after=1.0
        ) from error
