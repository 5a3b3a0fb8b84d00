"""A TCP proxy that treats what comes from the server as bad networks do."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

Mode = Literal["pass", "cut", "reset", "stall", "dribble", "buffer", "buffer-body"]


class EvilProxy:
    """`mode` names the treatment of the next connection; the random bytes come from `seed`.

    cut / reset / stall: after a random number of bytes. dribble: one byte a write. buffer: holds
    event streams back until their last byte, with the head or (buffer-body) without.
    """

    def __init__(self, upstream: int, mode: Callable[[], Mode], seed: int = 1) -> None:
        self._upstream = upstream
        self._mode = mode
        self._rng = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.connections = 0
        self.most_bytes = 6000
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        mode = self._mode()
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        up = asyncio.create_task(_copy(reader, up_writer))
        try:
            with suppress(ConnectionError, asyncio.CancelledError):
                await self._down(mode, up_reader, writer)
        finally:
            up.cancel()
            await asyncio.gather(up, return_exceptions=True)
            up_writer.close()
            writer.close()
            self._tasks.discard(task)

    async def _down(
        self, mode: Mode, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if mode == "pass":
            await _copy(reader, writer)
        elif mode == "dribble":
            while data := await reader.read(65536):
                for index in range(len(data)):
                    writer.write(data[index : index + 1])
                    await writer.drain()
                    if index % 64 == 0:
                        await asyncio.sleep(0)
        elif mode in ("buffer", "buffer-body"):
            await self._buffer(reader, writer, keep_head=mode == "buffer-body")
        else:
            await self._break_off(mode, reader, writer)

    async def _break_off(
        self, mode: Mode, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        left = self._rng.randrange(1, self.most_bytes)
        while left and (data := await reader.read(min(left, 65536))):
            writer.write(data)
            await writer.drain()
            left -= len(data)
        if mode == "stall":
            await asyncio.Event().wait()
        elif mode == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()

    async def _buffer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, keep_head: bool
    ) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            if b"text/event-stream" not in head:
                size = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                writer.write(head + await reader.readexactly(size))
                continue
            if keep_head:
                writer.write(head)
            held = b""
            while not held.endswith(b"\r\n0\r\n\r\n"):
                data = await reader.read(65536)
                if not data:
                    return
                held += data
            writer.write(held if keep_head else head + held)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, asyncio.CancelledError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
