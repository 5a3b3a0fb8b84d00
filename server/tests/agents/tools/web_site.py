"""A web server for tests: real sockets on 127.0.0.1, answers given byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """`hold`: after the body the connection stays open and silent."""

    body: bytes = b""
    status: str = "200 OK"
    headers: dict[str, str] = field(default_factory=dict)
    hold: bool = False


@dataclass
class WebSite:
    """`answers` by path; `requests` are those that came."""

    port: int
    scheme: str = "http"
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    _came: asyncio.Queue[None] = field(default_factory=asyncio.Queue)
    _left: asyncio.Queue[None] = field(default_factory=asyncio.Queue)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    async def came(self) -> None:
        """Waits until a request has come."""
        await asyncio.wait_for(self._came.get(), 10)

    async def left(self) -> None:
        """Waits until a connection is over."""
        await asyncio.wait_for(self._left.get(), 10)

    def page(
        self, path: str, body: bytes | str, content_type: str = "text/html", **more: str
    ) -> str:
        """Answers `path` with this; its address."""
        data = body.encode() if isinstance(body, str) else body
        headers = {"Content-Type": content_type} if content_type else {}
        named = {name.replace("_", "-"): value for name, value in more.items()}
        self.answers[path] = Answer(data, headers=headers | named)
        return self.url(path)

    def redirect(self, path: str, location: str, status: str = "302 Found") -> str:
        self.answers[path] = Answer(status=status, headers={"Location": location})
        return self.url(path)


@contextlib.asynccontextmanager
async def open_site(tls: ssl.SSLContext | None = None) -> AsyncIterator[WebSite]:
    site = WebSite(0, "https" if tls else "http")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await _read(reader)
            site.requests.append(request)
            site._came.put_nowait(None)
            answer = site.answers.get(
                request.path.partition("?")[0], Answer(status="404 Not Found")
            )
            writer.write(f"HTTP/1.1 {answer.status}\r\n".encode())
            for name, value in answer.headers.items():
                writer.write(f"{name}: {value}\r\n".encode())
            writer.write(b"\r\n" + answer.body)
            await writer.drain()
            if answer.hold:
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left: what some tests are about
        finally:
            writer.close()
            site._left.put_nowait(None)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    site.port = server.sockets[0].getsockname()[1]
    try:
        yield site
    finally:
        server.close()


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, path, headers, body)
