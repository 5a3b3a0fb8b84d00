"""TCP proxies; one does to a server's answers what bad networks and boxes on the way do."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self

#: What can become of a connection; `pass` leaves it alone.
MODES = ("pass", "cut", "reset", "stall", "dribble", "buffer")


class TcpProxy:
    """A TCP proxy: its connections and their end."""

    def __init__(self) -> None:
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            # Cancelled when it closes: the task's owner is a callback that would complain.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError


class EvilProxy(TcpProxy):
    """`choose` names the treatment of each connection, in the order in which they come.

    cut, reset, stall: after `budget()` bytes. dribble: one byte at a time. buffer: everything is
    held back until the server closes or sends the last piece of a chunked body.
    """

    def __init__(self, upstream: int, choose: Callable[[], str], rng: random.Random) -> None:
        super().__init__()
        self.connections = 0
        self.budget: Callable[[], int] = lambda: rng.randrange(1, 8_000)
        self._upstream = upstream
        self._choose = choose

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        mode = self._choose()
        with contextlib.suppress(asyncio.IncompleteReadError):
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
            upward = asyncio.create_task(_copy(reader, up_writer))
            try:
                await self._downward(mode, up_reader, writer)
            finally:
                upward.cancel()
                await asyncio.gather(upward, return_exceptions=True)
                up_writer.close()

    async def _downward(
        self, mode: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if mode == "pass":
            await _copy(reader, writer)
        elif mode == "dribble":
            await self._dribble(reader, writer)
        elif mode == "buffer":
            await self._hold_back(reader, writer)
        else:
            await self._break_off(mode, reader, writer)

    async def _dribble(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            for index in range(len(data)):
                writer.write(data[index : index + 1])
                await writer.drain()
                if index % 16 == 0:
                    await asyncio.sleep(0)

    async def _hold_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held = b""
        while data := await reader.read(65_536):
            held += data
            head, _, body = held.partition(b"\r\n\r\n")
            streams = b"text/event-stream" in head
            if not body or (streams and not held.endswith(b"0\r\n\r\n")):
                continue
            writer.write(held)
            await writer.drain()
            held = b""
        writer.write(held)

    async def _break_off(
        self, mode: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        left = self.budget()
        while left and (data := await reader.read(min(left, 65_536))):
            writer.write(data)
            await writer.drain()
            left -= len(data)
        if mode == "stall":
            await asyncio.Event().wait()
        elif mode == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
