"""Slow clients, silent clients, and what the connection itself does about them."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest
from ws_harness import KEY, Serve, Server, listening
from ws_raw import CLOSE, PING, PONG, TEXT, Frame, Raw, encode, inflate_alone

pytestmark = pytest.mark.anyio
BEARER = {"Authorization": f"Bearer {KEY}"}


def slow_raw(port: int, **options: Any) -> Raw:
    """A client whose receive buffer is small, so that what it does not take waits at the server."""
    return Raw(port, path="/v1/ws", headers=BEARER, timeout=30, **options)


def shrink_buffers(server: Server) -> None:
    """The kernel would hide a slow client behind megabytes of its own."""
    for connection in server.uvicorn.server_state.connections:
        transport = connection.transport  # type: ignore[union-attr]
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)


async def subscribe(raw: Raw, **fields: Any) -> None:
    raw.frame(TEXT, json.dumps({"type": "subscribe", **fields}).encode())
    answer = json.loads((await asyncio.to_thread(raw.read)).payload)
    assert answer["type"] == "subscribed"


def only_socket(server: Server) -> Any:
    (found,) = server.parts.sockets._sockets
    return found


async def test_a_client_that_takes_nothing_gets_everything_later(server: Server) -> None:
    """While it does not read, events pile up in the log and not in memory; then it is read on
    from there, and no event is lost, doubled or out of order."""
    count, size = 2_500, 2_000
    raw = await asyncio.to_thread(slow_raw, server.port)
    await subscribe(raw, channels=["app"])
    shrink_buffers(server)
    me = psutil.Process()
    held = 0
    before = me.memory_info().rss
    for n in range(0, count, 50):
        await server.publish_many(
            [("app.n", {"n": i, "text": "x" * size}) for i in range(n, n + 50)]
        )
        writer = only_socket(server)._writer
        held = max(held, writer.waiting + writer._transport.unsent)
    assert held < 64 * 1024 + 2 * 256 * 1024  # the bound, and a page that was being written
    assert me.memory_info().rss - before < 20 * 1024 * 1024

    def read_all() -> list[int]:
        return [json.loads(raw.read().payload)["n"] for _ in range(count)]

    assert await asyncio.to_thread(read_all) == list(range(count))
    raw.socket.close()


async def test_slow_subscriptions_share_the_socket(server: Server) -> None:
    """Several that are behind take turns; each keeps its own order."""
    raw = await asyncio.to_thread(slow_raw, server.port)
    made = [await server.http.post("/v1/sessions", json={"agent_id": "many"}) for _ in range(3)]
    sessions = [answer.json()["session_id"] for answer in made]
    for session in sessions:
        await subscribe(raw, channels=[f"session:{session}"], resume_from=0)
    await subscribe(raw, channels=["app"])
    shrink_buffers(server)
    for session in sessions:
        await server.execute("many", "600", session_id=session, context={"size": 500})
    for _ in range(3):
        await server.publish_many([("app.n", {"n": i, "t": "x" * 900}) for i in range(500)])
    for session in sessions:
        await server.finished(session)
    feeds = only_socket(server)._commands.table.subscriptions()
    assert not any(feed.attached for feed in feeds)
    seen: dict[str, list[int]] = {session: [] for session in sessions}
    events: list[int] = []

    def read_on() -> None:
        while len(events) < 1_500 or any(len(found) < 603 for found in seen.values()):
            message = json.loads(raw.read().payload)
            if "channel" in message:
                events.append(message["n"])
            elif "position" in message:
                seen[message["session_id"]].append(message["position"])

    await asyncio.to_thread(read_on)
    assert events == [*range(500)] * 3
    assert all(found == list(range(1, 604)) for found in seen.values())
    raw.socket.close()


async def test_a_client_without_any_progress_is_dropped(serve: Serve) -> None:
    server = await serve(stall=1.0)
    raw = await asyncio.to_thread(slow_raw, server.port)
    await subscribe(raw, channels=["app"])
    shrink_buffers(server)
    async with server.connect() as other:
        await other.ask("subscribed", "subscribe", channels=["app"])
        began = time.monotonic()
        for _ in range(100):
            await server.publish_many([("app.n", {"text": "x" * 10_000})] * 10)
        await server.settled(lambda: server.parts.sockets.count == 1)
        assert time.monotonic() - began < 10
        assert len(await other.events(1_000)) == 1_000
        await other.ask("pong", "ping")
    raw.socket.close()


async def test_revocation_does_not_wait_for_a_client_that_takes_nothing(serve: Serve) -> None:
    server = await serve(close_wait=0.5)
    credential, key_id = await server.make_key("events:read")
    raw = await asyncio.to_thread(
        lambda: Raw(
            server.port,
            path="/v1/ws",
            headers={"Authorization": f"Bearer {credential}"},
            timeout=30,
        )
    )
    await subscribe(raw, channels=["app"])
    shrink_buffers(server)
    for _ in range(50):
        await server.publish_many([("app.n", {"text": "x" * 10_000})] * 10)
    await server.http.delete(f"/v1/keys/{key_id}")
    await server.settled(lambda: server.parts.sockets.count == 0)
    assert not server.parts.events.hub.busy
    raw.socket.close()


async def test_a_ping_flood_without_reading_is_held_back(server: Server) -> None:
    raw = await asyncio.to_thread(slow_raw, server.port)
    shrink_buffers(server)
    raw.socket.settimeout(0.5)
    flood = encode(PING, b"p" * 125) * 1_000

    def fill() -> int:
        sent = 0
        try:
            while sent < 300:
                raw.send(flood)
                sent += 1
        except TimeoutError:
            return sent
        return sent

    assert await asyncio.to_thread(fill) < 300  # 39 MB, had all of it been taken
    (connection,) = [c for c in server.uvicorn.server_state.connections if hasattr(c, "connection")]
    assert connection.transport.get_write_buffer_size() < 1 << 20  # type: ignore[union-attr]
    raw.socket.close()


# -- pings and closes ------------------------------------------------------------------------


async def quiet(_scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] != "websocket.disconnect":
        for _ in range(int(message.get("text") or 0)):
            await send({"type": "websocket.send", "text": "x" * 1_000})


@asynccontextmanager
async def pinging(interval: float, timeout: float) -> AsyncIterator[tuple[int, Any]]:
    async with listening(quiet, ws_ping_interval=interval, ws_ping_timeout=timeout) as found:
        yield found


async def test_the_server_pings_and_an_answer_keeps_the_connection() -> None:
    async with pinging(0.1, 0.3) as (port, _):
        raw = await asyncio.to_thread(Raw, port)
        for _ in range(5):
            frame = await asyncio.to_thread(raw.read)
            assert frame.opcode == PING
            raw.frame(PONG, frame.payload)
        raw.socket.close()


async def test_without_an_answer_the_connection_is_closed() -> None:
    async with pinging(0.1, 0.2) as (port, server):
        raw = await asyncio.to_thread(Raw, port)
        began = time.monotonic()
        frames = [await asyncio.to_thread(raw.read) for _ in range(2)]
        assert [frame.opcode for frame in frames] == [PING, CLOSE]
        assert raw.at_end()
        assert time.monotonic() - began < 5
        raw.socket.close()
        async with asyncio.timeout(10):
            while server.server_state.connections:
                await asyncio.sleep(0.005)


async def test_a_pong_is_not_missed_while_bytes_wait() -> None:
    """Behind a megabyte that the client has not taken, the ping has not reached it."""
    async with pinging(0.1, 0.2) as (port, server):
        raw = await asyncio.to_thread(Raw, port)
        (protocol,) = server.server_state.connections
        taken = protocol.transport.get_extra_info("socket")
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        raw.frame(TEXT, b"12000")
        async with asyncio.timeout(10):
            while protocol.transport.get_write_buffer_size() == 0:
                await asyncio.sleep(0.005)
        waits = []
        timeout_seen = protocol.keepalive_timeout

        def counted() -> None:
            waits.append(1)
            timeout_seen()

        protocol.keepalive_timeout = counted
        async with asyncio.timeout(10):
            while len(waits) < 3:  # three times as long as an answer may take
                await asyncio.sleep(0.005)

        def read_on() -> tuple[int, Frame]:
            texts = 0
            while True:
                frame = raw.read()
                if frame.opcode == PING:
                    raw.frame(PONG, frame.payload)
                elif frame.opcode == TEXT:
                    texts += 1
                    if texts == 12_000:
                        return texts, frame

        assert (await asyncio.to_thread(read_on))[0] == 12_000
        raw.socket.close()


async def test_a_close_that_the_client_does_not_answer_ends_in_time() -> None:
    async def closing(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4_000})

    async with listening(closing) as (port, server):
        raw = await asyncio.to_thread(Raw, port)
        (protocol,) = server.server_state.connections
        assert (await asyncio.to_thread(raw.read)).opcode == CLOSE
        assert protocol._abort_timer is not None
        raw.socket.close()


# -- compression of real messages ------------------------------------------------------------


async def test_one_compressed_frame_serves_all_sockets(server: Server) -> None:
    offer = "permessage-deflate; client_max_window_bits"
    raws = [await asyncio.to_thread(slow_raw, server.port, extensions=offer) for _ in range(3)]
    plain = await asyncio.to_thread(slow_raw, server.port)
    for raw in [*raws, plain]:
        raw.frame(TEXT, b'{"type":"subscribe","channels":["app"]}')
        assert b"subscribed" in (await asyncio.to_thread(raw.read)).payload
    for _ in range(2):
        await server.publish("app.n", text="words and words and words " * 10)
        frames = {await asyncio.to_thread(raw.read) for raw in raws}
        assert len(frames) == 1
        (frame,) = frames
        assert frame.rsv
        original = (await asyncio.to_thread(plain.read)).payload
        assert inflate_alone(frame.payload, 12) == original
        assert len(frame.payload) < len(original)
    for raw in [*raws, plain]:
        raw.socket.close()


# -- other servers ---------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The `websockets` impl")
@pytest.mark.parametrize("name", ["websockets", "websockets-sansio"])
async def test_the_shell_works_under_any_implementation(serve: Serve, name: str) -> None:
    server = await serve(uvicorn_options={"ws": name})
    async with server.connect() as client:
        await client.ask("subscribed", "subscribe", channels=["app"])
        for n in range(5):
            await server.publish("app.n", n=n)
        assert [event["n"] for event in await client.events(5)] == list(range(5))
        started = await client.ask("started", "execute", agent_id="many", goal="100")
        assert len(await client.done(started["session_id"])) == 103
        for _ in range(20):
            await client.send_raw("nonsense")
        assert await client.closed() == 4400


async def test_a_stream_is_dropped_however_little_waits_for_its_client(serve: Serve) -> None:
    """Less than the bound of what may be unsent: nothing else would ever notice."""
    server = await serve(limits={"stall": 1.0})
    viewer = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    request = f"GET /v1/events/subscribe HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n"
    viewer.sendall(request.encode())
    await asyncio.to_thread(viewer.recv, 12)
    connection = next(
        each
        for each in server.uvicorn.server_state.connections
        if each.transport.get_extra_info("peername") == viewer.getsockname()  # type: ignore[union-attr]
    )
    shrink_buffers(server)
    transport = connection.transport  # type: ignore[union-attr]
    while not transport.get_write_buffer_size():
        await server.publish_many([("app.n", {"text": "x" * 5_000})])
        await asyncio.sleep(0)
    assert transport.get_write_buffer_size() < 60_000
    await server.settled(lambda: transport.is_closing() and not server.parts.events.hub.busy)
    viewer.close()
