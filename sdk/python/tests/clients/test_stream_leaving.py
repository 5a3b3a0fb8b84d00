"""A loop over a stream that is left closes its connection, even while the stream has a name."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from resonantgenesis import ResonantGenesis, SyncResonantGenesis
from resonantgenesis.streaming import BufferedStream, RateLimitedStream

from ..conftest import ServerThread, hasten
from ..support.fake_server import FakeServer
from ..support.fake_socket import FakeSocketServer

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def no_collector() -> Any:
    """What ends a connection is the loop's end, not a collector that happens to run."""
    gc.disable()
    yield
    gc.enable()


async def _break(stream: Any) -> None:
    async for _ in stream:
        break


async def _return(stream: Any) -> Any:
    async for chunk in stream:
        return chunk
    return None


async def _raise(stream: Any) -> None:
    with suppress(ZeroDivisionError):
        async for _ in stream:
            raise ZeroDivisionError


async def _cancelled_outside(stream: Any) -> None:
    async def read() -> None:
        async for _ in stream:
            seen.set()

    seen = asyncio.Event()
    task = asyncio.create_task(read())
    await seen.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _cancelled_in_the_body(stream: Any) -> None:
    with suppress(TimeoutError):
        async for _ in stream:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()


async def _own_generator(stream: Any) -> None:
    async def texts() -> AsyncIterator[str]:
        async for chunk in stream:
            yield chunk.content

    async for _ in texts():
        break


async def _nested(stream: Any) -> None:
    async for _ in BufferedStream(RateLimitedStream(stream, 1000), 2, max_wait=0):
        break


async def _closed_generator(stream: Any) -> None:
    iterator = aiter(stream)
    await anext(iterator)
    await iterator.aclose()


WAYS: list[Callable[[Any], Awaitable[Any]]] = [
    _break,
    _return,
    _raise,
    _cancelled_outside,
    _cancelled_in_the_body,
    _own_generator,
    _nested,
    _closed_generator,
]


@pytest.mark.parametrize("leave", WAYS)
async def test_leaving_the_loop_closes_the_connection(
    server: FakeServer, client: ResonantGenesis, leave: Callable[[Any], Awaitable[Any]]
) -> None:
    server.hold_at = 4
    stream = client.sessions.execute_stream("a", "9")
    await leave(stream)
    await server.wait_streams(0)
    assert "closed" in repr(stream)
    assert len(server.asked("POST", ".*/execute")) == 1
    # The turn goes on, and where the stream was left is known.
    assert not server.asked("POST", ".*/cancel")
    server.release.set()
    again = client.sessions.join(stream.session_id or "", resume_from=stream.position)
    assert [chunk.position async for chunk in again][-1] == 9


async def test_a_stream_is_looped_over_once(server: FakeServer, client: ResonantGenesis) -> None:
    stream = client.sessions.execute_stream("a", "9")
    async for _ in stream:
        break
    with pytest.raises(RuntimeError, match="position=1"):
        async for _ in stream:
            pass
    # One that has reached its end is at its end.
    whole = client.sessions.execute_stream("a", "9")
    assert len([chunk async for chunk in whole]) == 9
    assert [chunk async for chunk in whole] == []


async def test_resume_from_takes_up_what_a_loop_left(
    server: FakeServer, client: ResonantGenesis
) -> None:
    first = client.sessions.execute_stream("a", "9")
    async for chunk in first:
        if chunk.position == 3:
            break
    second = client.sessions.execute_stream("a", "9", resume_from=3)
    assert [chunk.position async for chunk in second] == [4, 5, 6, 7, 8, 9]
    assert len(server.sessions) == 1


async def test_reading_without_a_loop_keeps_the_connection(
    server: FakeServer, client: ResonantGenesis
) -> None:
    stream = client.sessions.execute_stream("a", "9")
    assert (await anext(stream)).position == 1
    assert server.open_streams == 1 or len(server.sessions["sess_1"].log) == 9
    assert [chunk.position async for chunk in stream] == list(range(2, 10))


def _for(stream: Any) -> None:
    for _ in stream:
        break


def _next_of_iter(stream: Any) -> None:
    next(iter(stream))


def _error(stream: Any) -> None:
    with suppress(ZeroDivisionError):
        for _ in stream:
            raise ZeroDivisionError


def _generator(stream: Any) -> None:
    def texts() -> Any:
        for chunk in stream:
            yield chunk.content

    for _ in texts():
        break


def _zipped(stream: Any) -> None:
    list(zip(range(2), stream, strict=False))


@pytest.mark.parametrize("leave", [_for, _next_of_iter, _error, _generator, _zipped])
def test_leaving_a_synchronous_loop_closes_the_connection(
    served: ServerThread, sync_client: SyncResonantGenesis, leave: Callable[[Any], None]
) -> None:
    served.server.hold_at = 4
    stream = sync_client.sessions.execute_stream("a", "9")
    leave(stream)
    served.run(lambda: served.server.wait_streams(0))
    assert "closed" in repr(stream)
    with pytest.raises(RuntimeError, match="was left"):
        next(iter(stream))


@pytest.fixture
async def sockets() -> AsyncIterator[FakeSocketServer]:
    fake = FakeSocketServer()
    await fake.start()
    yield fake
    await fake.stop()


async def test_leaving_a_loop_on_a_socket_leaves_the_channel(
    sockets: FakeSocketServer, make_client: Callable[..., ResonantGenesis]
) -> None:
    client = hasten(make_client(sockets.url))
    async with client.realtime() as rt:
        stream = rt.execute("a", "3")
        async for _ in stream:
            break
        await sockets.until(lambda: sockets.heard("unsubscribe"))
        with pytest.raises(RuntimeError, match="was left"):
            async for _ in stream:
                pass
