"""The way between the log and its database, with everything that can become of one."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

_SOCKET = ".s.PGSQL.5432"


class Proxy:
    """A socket beside the server's own, in `folder`.

    `answers`: whether what the server says arrives. `open`: whether connections are taken.
    """

    def __init__(self, server: Path) -> None:
        self._server = server / _SOCKET
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.folder = Path()
        self.answers = True
        self.open = True
        self.swallowed = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        with tempfile.TemporaryDirectory(prefix="rg-pg-") as folder:
            self.folder = Path(folder)
            listening = await asyncio.start_unix_server(self._accept, self.folder / _SOCKET)
            try:
                yield self
            finally:
                listening.close()
                self.cut()
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    def url(self, url: str) -> str:
        return url.replace(str(self._server.parent), str(self.folder))

    def cut(self) -> None:
        """Break every connection that there is, towards the log; the server's sessions see the
        end only when they look."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if not self.open:
            writer.transport.abort()
            return
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            up_reader, up_writer = await asyncio.open_unix_connection(self._server)
            ways = [
                asyncio.create_task(self._copy(reader, up_writer)),
                asyncio.create_task(self._copy_back(up_reader, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                up_writer.close()
        self._writers.discard(writer)
        writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()

    async def _copy_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if self.answers:
                    writer.write(data)
                    await writer.drain()
                else:
                    self.swallowed += len(data)
