"""`resonantgenesis.streaming`: the building blocks, over real sockets."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis import AuthenticationError, Unavailable, streaming
from resonantgenesis._realtime.keepalive import Keepalive, TokenBucket
from resonantgenesis.streaming import (
    BufferedStream,
    RateLimitedStream,
    ReconnectingWebSocket,
    StreamingPool,
    maintain_connection,
)

from ..conftest import KEY
from ..support.fake_socket import FakeSocketServer

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server() -> AsyncIterator[FakeSocketServer]:
    fake = FakeSocketServer()
    await fake.start()
    yield fake
    await fake.stop()


def test_all_is_exactly_what_is_exported() -> None:
    public = {
        name
        for name, value in vars(streaming).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public == set(streaming.__all__)
    assert all(inspect.getdoc(getattr(streaming, name)) for name in public)


# -- ReconnectingWebSocket -----------------------------------------------------------------------


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


# -- StreamingPool -------------------------------------------------------------------------------


def pool_of(server: FakeSocketServer, size: int, **options: Any) -> StreamingPool:
    return StreamingPool(max_connections=size, api_key=KEY, base_url=server.url, **options)


async def test_connections_are_used_again_and_never_too_many(server: FakeSocketServer) -> None:
    async with pool_of(server, 3) as pool:
        lent = 0

        async def use(number: int) -> None:
            nonlocal lent
            async with pool.get_connection() as connection:
                lent += 1
                assert lent <= 3 >= pool.size
                await connection.send({"type": "ping", "id": str(number)})
                assert json.loads(await connection.recv()) == {"type": "pong", "id": str(number)}
                lent -= 1

        await asyncio.gather(*(use(number) for number in range(50)))
        assert pool.size == 3 == len(server.handshakes)
    await server.until(lambda: not server.sockets)
    with pytest.raises(RuntimeError, match="closed"):
        async with pool.get_connection():
            pass


async def test_who_asks_first_gets_it_first(server: FakeSocketServer) -> None:
    order: list[int] = []

    async def use(number: int) -> None:
        async with pool.get_connection():
            order.append(number)
            await asyncio.sleep(0)

    async with pool_of(server, 1) as pool:
        await asyncio.gather(*(use(number) for number in range(20)))
    assert order == list(range(20))


async def test_broken_ones_are_replaced(server: FakeSocketServer) -> None:
    async with pool_of(server, 1) as pool:
        async with pool.get_connection() as first:
            pass
        server.connections[0].transport.abort()
        await first.ws.wait_closed()
        async with pool.get_connection() as second:
            assert second.is_open and second is not first
            server.connections[-1].transport.abort()
            assert [text async for text in second] == []
        async with pool.get_connection() as third:
            assert third.is_open
        with pytest.raises(KeyError):
            async with pool.get_connection():
                raise KeyError("mine")
        async with pool.get_connection() as fourth:
            assert fourth is not third and pool.size == 1


async def test_the_next_borrower_finds_nothing_of_the_last(server: FakeSocketServer) -> None:
    async with pool_of(server, 1) as pool:
        async with pool.get_connection() as connection:
            await connection.send({"type": "subscribe", "channels": ["app"], "since": "c_0"})
            execute = {"type": "execute", "goal": "g", "idempotency_key": "k"}
            await connection.send(json.dumps(execute))
            while json.loads(await connection.recv())["type"] != "started":
                continue
            await server.run_turns()
            while json.loads(await connection.recv())["type"] != "done":
                continue
            server.publish("app")
            await server.tell()
        assert server.heard("unsubscribe")[0]["channels"] == ["app"]
        server.publish("app")
        await server.tell()
        async with pool.get_connection() as same:
            assert same is connection
            await same.send({"type": "ping"})
            assert json.loads(await same.recv()) == {"type": "pong"}
            # A turn that has not ended would go on telling: such a socket is not used again.
            await same.send(execute | {"idempotency_key": "l"})
        async with pool.get_connection() as other:
            assert other is not same


async def test_opening_is_tried_again_and_at_last_raised(server: FakeSocketServer) -> None:
    server.refuse.append((503, {"Retry-After": "0"}))
    async with pool_of(server, 1, max_retries=1) as pool, pool.get_connection():
        assert len(server.handshakes) == 2
    server.refuse.extend([(503, {"Retry-After": "0"})] * 2)
    async with pool_of(server, 1, max_retries=1) as pool:
        with pytest.raises(Unavailable):
            async with pool.get_connection():
                pass
        server.tokens = set()
        with pytest.raises(AuthenticationError):
            async with pool.get_connection():
                pass
        server.tokens = {KEY}
        async with pool.get_connection():
            assert "1 lent, 0 idle" in repr(pool)
    with pytest.raises(ValueError, match="max_connections"):
        pool_of(server, 0)


# -- BufferedStream, RateLimitedStream -----------------------------------------------------------


async def numbers(count: int, *, fail: bool = False) -> AsyncIterator[int]:
    for number in range(count):
        yield number
    if fail:
        raise OSError("broke")


async def test_items_come_in_lots() -> None:
    lots = [lot async for lot in BufferedStream(numbers(25), buffer_size=10)]
    assert [len(lot) for lot in lots] == [10, 10, 5]
    assert [number for lot in lots for number in lot] == list(range(25))
    assert [lot async for lot in BufferedStream(numbers(20))] == [[*range(10)], [*range(10, 20)]]
    assert [lot async for lot in BufferedStream(numbers(0))] == []
    assert [lot async for lot in BufferedStream(numbers(2), buffer_size=1)] == [[0], [1]]
    for wrong in ({"buffer_size": 0}, {"max_wait": -1}):
        with pytest.raises(ValueError, match="buffer_size"):
            BufferedStream(numbers(1), **wrong)  # type: ignore[arg-type]


async def test_a_slow_stream_is_not_held_back() -> None:
    go_on = asyncio.Event()

    async def slow() -> AsyncIterator[int]:
        yield 1
        yield 2
        await go_on.wait()
        yield 3

    lots = aiter(BufferedStream(slow(), buffer_size=10, max_wait=0.01))
    async with asyncio.timeout(20):
        assert await anext(lots) == [1, 2]
        go_on.set()
        assert await anext(lots) == [3]
        with pytest.raises(StopAsyncIteration):
            await anext(lots)


async def test_an_error_comes_after_what_came_before_it() -> None:
    lots = aiter(BufferedStream(numbers(3, fail=True)))
    assert await anext(lots) == [0, 1, 2]
    with pytest.raises(OSError, match="broke"):
        await anext(lots)


async def test_leaving_ends_what_was_waited_for() -> None:
    ended = asyncio.Event()

    async def slow() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            ended.set()

    lots: Any = aiter(BufferedStream(slow(), max_wait=0.001))
    assert await anext(lots) == [1]
    await lots.aclose()
    assert ended.is_set()


async def test_no_more_than_so_many_a_second() -> None:
    began = time.monotonic()
    assert [n async for n in RateLimitedStream(numbers(101), rate_limit=1000)] == list(range(101))
    assert time.monotonic() - began >= 0.1
    with pytest.raises(ValueError, match="rate_limit"):
        RateLimitedStream(numbers(1), rate_limit=0)


@given(st.lists(st.floats(0, 0.5), max_size=60), st.floats(1, 1000), st.integers(1, 20))
def test_the_pace_holds_in_every_stretch_of_time(
    pauses: list[float], rate: float, burst: int
) -> None:
    pace, now, used = TokenBucket(rate, burst), 100.0, []
    for pause in pauses:
        now += pause
        now += pace.wait(now)
        used.append(now)
    for first, begin in enumerate(used):
        for last in range(first, len(used)):
            assert last - first + 1 <= burst + rate * (used[last] - begin) + 1e-6


def test_a_link_is_dead_when_nothing_follows_a_ping() -> None:
    watch = Keepalive(0.0, interval=30, patience=10)
    assert watch.due(29.9) is None and watch.next_at == 30
    assert watch.due(30) == "ping" and watch.next_at == 40
    watch.heard()
    assert watch.due(45) is None and watch.next_at == 60
    assert not watch.outlived(29) and watch.outlived(30)
    assert watch.due(61) == "ping" and watch.due(70.9) is None and watch.due(71) == "dead"
