"""`client.files`, asynchronous."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path

from .._core.actions import Emit, Finish, Lost, Open, Outcome, Read, Wait, Waited
from .._files.calls import Progress, UploadMachine, delete_file, get_file, list_files, upload_file
from .._files.download import DownloadMachine, Piece
from .._files.local import Content, Readable, SyncSource, Target, readable
from ..errors import ConnectionLost
from ..models import File, Page
from .transport import AsyncConnection, AsyncTransport


class AsyncFiles:
    """Files, of any size in constant memory. All methods raise StreamError."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def upload(
        self,
        source: SyncSource | AsyncIterable[bytes],
        *,
        name: str | None = None,
        content_type: str | None = None,
        checksum: str | None = None,
        subject: str | None = None,
        on_progress: Progress | None = None,
        idempotency_key: str | None = None,
    ) -> File:
        """Stores a file, whole or not at all.

        `source`: a path, the content itself, an open binary file, or an iterable of bytes,
        asynchronous too. `name` defaults to the path's, `content_type` to what the name's ending
        says. `checksum`: the SHA-256 in hexadecimal, for the server to refuse anything else; what
        it stored is compared with what was sent in any case. `on_progress(sent, size)` is called
        for every block; `size` is None where nobody knows it.

        A lost connection is tried again where the source can be read again; an iterator cannot.
        Raises OSError and ValueError for a source that cannot be read or changes meanwhile.
        """
        if isinstance(source, AsyncIterable):
            content = Content(name, None, False, on_progress)
            attempts = _Attempts(content, source)
        else:
            found = await asyncio.to_thread(readable, source)
            content = Content(name or found.name, found.size, found.rewinds, on_progress)
            attempts = _Attempts(content, found)
        call = upload_file(
            content.name,
            size=content.size,
            content_type=content_type,
            checksum=checksum,
            subject=subject,
            key=idempotency_key,
        )
        machine = UploadMachine(call, self._transport.settings, content.can_repeat)
        made = await self._transport.run(machine, attempts.blocks)
        if made.sha256 != content.sha256:
            await self.delete(made.id)
            raise ConnectionLost("what the server stored is not what was sent")
        return made

    async def download(
        self,
        file_id: str,
        to: str | os.PathLike[str],
        *,
        on_progress: Progress | None = None,
    ) -> Path:
        """Saves a file's content, and returns where.

        `to`: a path, or a directory, where it gets its own name; what stood there is replaced at
        the end, in one step, and only by the whole content, checked against its SHA-256. A lost
        connection is resumed where it broke off. `on_progress(done, size)` is called for every
        block. Raises OSError for a place that cannot be written.
        """
        file = await self.get(file_id)
        target = await asyncio.to_thread(Target, to, file.name)
        try:
            async with _Descent(self._transport, file) as descent:
                async for piece in descent:
                    await asyncio.to_thread(target.write, piece.offset, piece.data)
                    if on_progress is not None:
                        on_progress(piece.offset + len(piece.data), file.size)
            await asyncio.to_thread(target.keep)
        finally:
            await asyncio.to_thread(target.discard)
        return target.path

    async def get(self, file_id: str) -> File:
        """What a file is, without its content."""
        return await self._transport.call(get_file(file_id))

    async def list(
        self,
        *,
        session_id: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[File]:
        """One page of files, newest first; those of one session, if it is named."""
        return await self._transport.call(list_files(session_id, limit, cursor))

    async def delete(self, file_id: str) -> None:
        """Deletes a file."""
        await self._transport.call(delete_file(file_id))


class _Attempts:
    """Bodies of one upload, one after the other, read without blocking the loop."""

    def __init__(self, content: Content, source: Readable | AsyncIterable[bytes]) -> None:
        self._content = content
        self._source = source

    async def blocks(self) -> AsyncIterator[bytes]:
        if isinstance(self._source, Readable):
            blocks = self._content.blocks(self._source.blocks())
            while (block := await asyncio.to_thread(next, blocks, None)) is not None:
                yield block
            return
        self._content.begin()
        async for block in self._source:
            if block:
                yield self._content.take(block)
        self._content.end()


class _Descent:
    """A download's pieces, over as many connections as it takes."""

    def __init__(self, transport: AsyncTransport, file: File) -> None:
        self._transport = transport
        self._machine = DownloadMachine(file, transport.settings)
        self._connection: AsyncConnection | None = None

    async def __aenter__(self) -> _Descent:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._disconnect()

    async def __aiter__(self) -> AsyncIterator[Piece]:
        while True:
            action = self._machine.next()
            if isinstance(action, Emit):
                yield action.item
            elif isinstance(action, Finish):
                if action.error is not None:
                    raise action.error
                return
            else:
                self._machine.give(await self._perform(action))

    async def _perform(self, action: object) -> Outcome:
        if isinstance(action, Read) and self._connection is not None:
            return await self._connection.read(action.timeout)
        await self._disconnect()
        if isinstance(action, Open):
            outcome, self._connection = await self._transport.open(action.request)
            return outcome
        if isinstance(action, Wait):
            await asyncio.sleep(action.seconds)
            return Waited()
        return Lost("closed")

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()
