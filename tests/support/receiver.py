"""A receiver of webhooks on 127.0.0.1, which does what the test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from .server import PATIENCE


@dataclass
class Delivered:
    """A request as it came; the names of headers in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


#: The status and further headers of the answer; None: there is none until the receiver is closed.
Answer = Callable[[Delivered], "tuple[int, dict[str, str]] | None"]


def ok(_request: Delivered) -> tuple[int, dict[str, str]]:
    return 200, {}


@dataclass
class Receiver:
    """Everything that came is in `requests`, and what was taken (2xx) in `taken`."""

    answer: Answer = ok
    port: int = 0
    requests: list[Delivered] = field(default_factory=list)
    taken: list[Delivered] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    async def start(self) -> None:
        """Listen; on the same port as before, if it had one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def kill(self) -> None:
        """Break off all connections, and refuse further ones."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._open):
            writer.transport.abort()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Receiver]:
        await self.start()
        try:
            yield self
        finally:
            await self.kill()

    def of(self, path: str) -> list[Delivered]:
        return [each for each in self.taken if each.path == path]

    async def until(self, there: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not there():
                await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                pairs = [line.split(": ", 1) for line in head[1:] if line]
                headers = {name.lower(): value for name, value in pairs}
                body = await reader.readexactly(int(headers["content-length"]))
                request = Delivered(head[0].split()[1], headers, body)
                self.requests.append(request)
                answer = self.answer(request)
                if answer is None:
                    await reader.read(1)
                    return
                status, more = answer
                fields = "".join(f"{name}: {value}\r\n" for name, value in more.items())
                if 200 <= status < 300:
                    self.taken.append(request)
                said = f"HTTP/1.1 {status} X\r\n{fields}Content-Length: 4\r\n\r\nsaid"
                writer.write(said.encode())
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()
