"""`client.files`, asynchronous."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path

from .._core.actions import Emit, Finish, Lost, Open, Outcome, Read, Wait, Waited
from .._core.retry import OnReconnect, ReconnectNotifier
from .._files.calls import (
    UploadMachine,
    delete_file,
    get_file,
    list_files,
    upload_file,
)
from .._files.download import BytesInOrder, DownloadMachine, Piece
from .._files.local import Content, Progress, Readable, Target, readable
from .._http.async_io import Source, sleep, to_thread
from ..errors import ConnectionLost, StreamError
from ..models import File, Page
from .transport import AsyncConnection, AsyncTransport


class AsyncFiles:
    """Files, of any size in constant memory. All methods raise StreamError.

    `on_progress(done, size)` is called for every block, with numbers of bytes. `on_reconnect` is
    called with a Reconnection before each new attempt, and once when it goes on.
    """

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def upload(
        self,
        source: Source,
        *,
        name: str | None = None,
        content_type: str | None = None,
        checksum: str | None = None,
        subject: str | None = None,
        on_progress: Progress | None = None,
        idempotency_key: str | None = None,
        on_reconnect: OnReconnect | None = None,
    ) -> File:
        """Store a file, whole or not at all.

        `source`: a path, the content itself, an open binary file, or an iterable of bytes.
        `name` defaults to the path's, `content_type` to what the name's ending says. `checksum`:
        the SHA-256 in hexadecimal, for the server to refuse anything else; what it stored is
        compared with what was sent in any case. `size` in `on_progress` is None where nobody
        knows it.

        A lost connection is tried again where the source can be read again; an iterator cannot.
        Raises OSError and ValueError for a source that cannot be read or changes meanwhile.
        """
        body = await _body(source, name, on_progress)
        content = body.content
        call = upload_file(
            content.name,
            size=content.size,
            content_type=content_type,
            checksum=checksum,
            subject=subject,
            key=idempotency_key,
        )
        machine = UploadMachine(call, self._transport.settings, content.can_repeat)
        made = await self._transport.run(machine, body.blocks, ReconnectNotifier(on_reconnect))
        if made.sha256 != content.sha256:
            problem = ConnectionLost(
                "the server stored something else, not what was sent",
                status=201,
                details={"file_id": made.id},
            )
            try:
                await self.delete(made.id)
            except StreamError as error:
                raise problem from error
            raise problem
        return made

    async def download(
        self,
        file_id: str | File,
        to: str | os.PathLike[str],
        *,
        replace: bool = True,
        on_progress: Progress | None = None,
        on_reconnect: OnReconnect | None = None,
    ) -> Path:
        """Save a file's content, and return where.

        `file_id`: its id, or the File itself, which spares a request. `to`: a path, or a
        directory, where it gets its own name. A file that stood there is replaced at the end, in
        one step, and only by the whole content, checked against its SHA-256; with
        `replace=False` it is a FileExistsError. A lost connection is resumed where it broke off.
        Raises OSError for a place that cannot be written.
        """
        file = await self._file(file_id)
        target = await to_thread(Target, to, file.name, replace)
        try:
            async with _AsyncDownload(self._transport, file, on_reconnect) as pieces:
                async for piece in pieces:
                    await to_thread(target.write, piece.offset, piece.data)
                    if on_progress is not None:
                        on_progress(piece.offset + len(piece.data), file.size)
            await to_thread(target.keep)
        finally:
            await to_thread(target.discard)
        return target.path

    async def stream(
        self,
        file_id: str | File,
        *,
        on_progress: Progress | None = None,
        on_reconnect: OnReconnect | None = None,
    ) -> AsyncIterator[bytes]:
        """A file's content as it comes, in blocks: for a pipe, or where no copy on disk is needed.

        `file_id`: its id, or the File itself. Each byte comes once, over as many connections as
        it takes. Only at the end can the whole be compared with the file's SHA-256;
        ConnectionLost is raised if it differs.
        """
        file = await self._file(file_id)
        reader = BytesInOrder(file)
        async with _AsyncDownload(self._transport, file, on_reconnect) as pieces:
            async for piece in pieces:
                block = reader.take(piece)
                if block:
                    yield block
                    if on_progress is not None:
                        on_progress(reader.taken, file.size)
        reader.check()

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
        """Delete a file."""
        await self._transport.call(delete_file(file_id))

    async def _file(self, file_id: str | File) -> File:
        return file_id if isinstance(file_id, File) else await self.get(file_id)


class _AsyncUploadBody:
    """The bodies of one upload, one for each attempt."""

    def __init__(self, content: Content, source: Readable | Source) -> None:
        self.content = content
        self._source = source

    async def blocks(self) -> AsyncIterator[bytes]:
        """The body of one attempt. Raises OSError, ValueError."""
        # async only
        if isinstance(self._source, AsyncIterable):
            self.content.begin()
            async for block in self._source:
                if block:
                    yield self.content.take(block)
            self.content.end()
        if isinstance(self._source, Readable):
            blocks = self.content.blocks(self._source.blocks())
            while (read := await to_thread(next, blocks, None)) is not None:
                yield read


async def _body(source: Source, name: str | None, on_progress: Progress | None) -> _AsyncUploadBody:
    # async only
    if isinstance(source, AsyncIterable):
        return _AsyncUploadBody(Content(name, None, False, on_progress), source)
    found = await to_thread(readable, source)
    return _AsyncUploadBody(
        Content(name or found.name, found.size, found.rewinds, on_progress), found
    )


class _AsyncDownload:
    """A file's pieces, over as many connections as it takes."""

    def __init__(
        self, transport: AsyncTransport, file: File, on_reconnect: OnReconnect | None
    ) -> None:
        self._transport = transport
        self._machine = DownloadMachine(file, transport.settings)
        self._notifier = ReconnectNotifier(on_reconnect)
        self._connection: AsyncConnection | None = None

    async def __aenter__(self) -> _AsyncDownload:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._disconnect()

    async def __aiter__(self) -> AsyncIterator[Piece]:
        while True:
            action = self._machine.next()
            if isinstance(action, Emit):
                self._notifier.connected(self._machine.offset)
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
            self._notifier.waiting(action, self._machine.offset)
            await sleep(action.seconds)
            return Waited()
        return Lost("closed")

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()
