"""A client that dribbles its headers holds a connection for a bounded time only."""

from __future__ import annotations

import asyncio
import socket

import pytest
import uvicorn
from resonantgenesis_server.http.serving import acceptor as door
from resonantgenesis_server.http.serving import http_connection as protocol
from starlette.responses import PlainTextResponse

pytestmark = pytest.mark.anyio


async def cut_after(sent: bytes, port: int) -> bool:
    """Whether the server drops a connection on which this came and nothing more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        async with asyncio.timeout(10):
            while await reader.read(4096):
                pass
    except ConnectionResetError:
        return True
    finally:
        writer.close()
    return True


async def test_headers_must_come_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEADERS_WITHIN", 0.2)
    monkeypatch.setattr(door, "HEADERS_WITHIN", 0.2)
    config = uvicorn.Config(
        PlainTextResponse("here"),
        http=door.ConnectionAcceptor(),  # type: ignore[arg-type]
        lifespan="off",
        log_config=None,
        ws="none",
    )
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started:
                await asyncio.sleep(0.01)
            assert await cut_after(b"", port)
            assert await cut_after(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", port)
            # A whole request in time is answered, and its connection may be used again.
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(2):
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                async with asyncio.timeout(10):
                    assert (await reader.readuntil(b"here")).startswith(b"HTTP/1.1 200")
            writer.close()
        finally:
            server.should_exit = True
            await running
