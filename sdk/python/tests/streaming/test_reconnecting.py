"""`ReconnectingWebSocket` and `maintain_connection`, over real sockets."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from resonantgenesis.streaming import (
    ReconnectingWebSocket,
    maintain_connection,
)

from ..conftest import KEY
from ..support.fake_socket import FakeSocketServer

pytestmark = pytest.mark.anyio


def quick(server: FakeSocketServer, **options: Any) -> ReconnectingWebSocket:
    socket = ReconnectingWebSocket(server.uri, KEY, **options)
    assert (socket.uri, socket.api_key, socket.ws) == (server.uri, KEY, None)
    assert (socket.reconnect_delay, socket.max_delay) == (1, 60)
    socket.reconnect_delay = 0.01
    return socket


async def greet(ws: Any) -> None:
    await ws.send('{"type":"subscribe","channels":["app"],"format":"envelope"}')


async def test_listen_comes_back_and_subscribes_again(server: FakeSocketServer) -> None:
    socket = quick(server, on_connect=greet)
    seen: list[str] = []

    async def handler(message: dict[str, Any]) -> None:
        seen.append(message["type"])
        if len(seen) == 3:
            await socket.aclose()
        else:
            server.connections[0].transport.abort()

    async with asyncio.timeout(20):
        await socket.listen(handler)
    assert seen == ["subscribed"] * 3 and len(server.handshakes) == 3
    with pytest.raises(RuntimeError, match="closed"):
        await socket.connect()


async def test_the_connection_that_connect_made_is_used(server: FakeSocketServer) -> None:
    socket = quick(server)
    async with socket:
        assert socket.ws is not None
        await socket.ws.send('{"type":"ping"}')
        heard: list[Any] = []

        def handler(message: dict[str, Any]) -> None:
            heard.append(message)
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            await socket.listen(handler)
    assert heard == [{"type": "pong"}] and len(server.handshakes) == 1
    await server.until(lambda: not server.sockets)


async def test_a_failing_handler_is_logged_if_that_is_wanted(
    server: FakeSocketServer, caplog: pytest.LogCaptureFixture
) -> None:
    socket = quick(server, on_handler_error="log")
    seen = 0

    async def handler(message: dict[str, Any]) -> None:
        nonlocal seen
        seen += 1
        if seen == 2:
            await socket.aclose()
        raise KeyError("mine")

    await socket.connect()
    assert socket.ws is not None
    for text in ('{"type":"ping"}', '{"type":"ping"}'):
        await socket.ws.send(text)
    await socket.listen(handler)
    assert seen == 2 and len([r for r in caplog.records if r.exc_info]) == 2
    with pytest.raises(ValueError, match="on_handler_error"):
        ReconnectingWebSocket("ws://h", "k", on_handler_error="ignore")  # type: ignore[arg-type]


async def test_a_wrong_key_and_a_draining_server_are_not_asked_in_a_tight_loop(
    server: FakeSocketServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", "resonantgenesis")
    server.refuse.extend([(401, {}), (401, {}), (401, {}), (503, {"Retry-After": "0.05"})])
    socket = quick(server)
    began = time.monotonic()
    async with socket:
        # 10, 20, 40 and 80 ms, half of each at least, and what the server asked for.
        assert time.monotonic() - began >= 0.005 + 0.01 + 0.02 + 0.04 + 0.05
        assert socket.reconnect_delay == pytest.approx(0.16)
        assert "UNAUTHENTICATED" in caplog.messages[0] and KEY not in caplog.text
        assert socket.ws is not None
        await socket.ws.send('{"type":"ping"}')
        got = asyncio.Event()
        listening = asyncio.create_task(socket.listen(lambda message: got.set()))
        await got.wait()
        # Only what has come through makes the next wait short again.
        assert socket.reconnect_delay == 0.01
    async with asyncio.timeout(20):
        await listening
    socket = quick(server)
    socket.reconnect_delay, socket.max_delay = 0.01, 0.02
    server.refuse.extend([(401, {})] * 3)
    await socket.connect()
    assert socket.reconnect_delay == 0.02
    await socket.aclose()


async def test_closing_ends_a_wait(server: FakeSocketServer) -> None:
    server.refuse.append((401, {}))
    socket = quick(server)
    socket.reconnect_delay = 1000
    listening = asyncio.create_task(socket.listen(lambda message: None))
    while not server.handshakes:
        await asyncio.sleep(0.001)
    await socket.aclose()
    async with asyncio.timeout(20):
        await listening


async def test_pings_until_the_connection_ends(server: FakeSocketServer) -> None:
    async with quick(server) as socket:
        assert socket.ws is not None
        beating = asyncio.create_task(maintain_connection(socket.ws, interval=0.01))
        await server.until(lambda: len(server.heard("ping")) >= 3)
        slow = asyncio.create_task(maintain_connection(socket.ws))
        await server.until(lambda: len(server.heard("ping")) >= 4)
        server.connections[0].transport.abort()
        async with asyncio.timeout(20):
            await beating
            await slow
        await maintain_connection(socket.ws)
