"""Streaming over bad networks: the same chunks, no gap, no duplicate, in bounded time."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from resonantgenesis import (
    ConnectionLost,
    PositionExpired,
    RateLimited,
    ResonantGenesis,
    Timeouts,
    Unavailable,
)

from ..conftest import MakeClient
from ..support.evil_proxy import EvilProxy, Mode
from ..support.fake_server import FakeServer

pytestmark = pytest.mark.anyio

EXECUTE = "/v1/sessions/execute"


@pytest.fixture
async def through(server: FakeServer) -> AsyncIterator[Callable[..., Any]]:
    """Starts a proxy before the server; its modes are those of successive connections."""
    proxies: list[EvilProxy] = []

    async def start(modes: Any, seed: int = 1) -> EvilProxy:
        proxy = EvilProxy(server.port, lambda: next(modes), seed)
        await proxy.start()
        proxies.append(proxy)
        return proxy

    yield start
    for proxy in proxies:
        await proxy.stop()


def forever(*modes: Mode) -> Any:
    return itertools.cycle(modes)


async def positions(stream: Any) -> list[int]:
    async with asyncio.timeout(30):
        return [chunk.position async for chunk in stream]


@pytest.mark.parametrize("mode", ["cut", "reset", "dribble", "stall"])
async def test_whatever_the_network_does_the_text_is_the_same(
    server: FakeServer, make_client: MakeClient, through: Any, mode: Mode
) -> None:
    server.heartbeat = 0.1
    proxy = await through(forever(mode, mode, "pass") if mode == "stall" else forever(mode))
    client = make_client(proxy.url, max_retries=50, timeout=Timeouts(silence=0.5))
    stream = client.sessions.execute_stream(agent_id="a", goal="300")
    chunks = [chunk async for chunk in stream]
    assert [chunk.position for chunk in chunks] == list(range(1, 301))
    assert "".join(chunk.content for chunk in chunks) == server.sessions["sess_1"].text()
    assert len(server.sessions) == 1 and server.sessions["sess_1"].turns == 1
    assert proxy.connections > 1 or mode == "dribble"


async def test_a_mixture_with_cancellations_of_the_network_by_chance(
    server: FakeServer, make_client: MakeClient, through: Any
) -> None:
    server.heartbeat = 0.1
    modes: list[Mode] = ["cut", "reset", "dribble", "stall", "pass"]
    for seed in range(5):
        rng = random.Random(seed)
        proxy = await through(iter(lambda rng=rng: rng.choice(modes), None), seed)
        proxy.most_bytes = 12000
        client = make_client(proxy.url, max_retries=50, timeout=Timeouts(silence=0.5))
        stream = client.sessions.execute_stream(agent_id="a", goal="120")
        assert await positions(stream) == list(range(1, 121))
    assert len(server.sessions) == 5


@pytest.mark.parametrize("mode", ["buffer", "buffer-body"])
async def test_behind_a_buffering_proxy_the_stream_is_polled(
    server: FakeServer, make_client: MakeClient, through: Any, mode: Mode
) -> None:
    server.heartbeat, server.hold_at = 0.1, 150
    proxy = await through(forever(mode))
    client = make_client(proxy.url, timeout=Timeouts(silence=0.2))
    stream = client.sessions.execute_stream(agent_id="a", goal="300")
    seen = []
    async with asyncio.timeout(30):
        async for chunk in stream:
            seen.append(chunk.position)
            if chunk.position == 150:
                # Half of it got through while the turn was running: nothing waits for its end.
                server.release.set()
    assert seen == list(range(1, 301))
    assert server.asked("GET", "/v1/sessions/sess_1/events")
    assert len(server.sessions) == 1 and server.sessions["sess_1"].turns == 1


async def test_a_later_turn_behind_a_buffering_proxy_begins_with_itself(
    server: FakeServer, make_client: MakeClient, through: Any
) -> None:
    server.heartbeat = 0.1
    direct, proxy = make_client(server.url), await through(forever("buffer"))
    session = await direct.sessions.create(agent_id="a")
    assert len(await positions(session.execute_stream(goal="40"))) == 40
    server.hold_at = 5
    client = make_client(proxy.url, timeout=Timeouts(silence=0.2))
    stream = client.sessions.execute_stream(agent_id="a", goal="30", session_id=session.id)
    seen = []
    async for chunk in stream:
        seen.append(chunk.position)
        server.release.set()
    assert seen == list(range(41, 71))
    server.release.clear()
    turn = session.execute_stream(goal="30")
    assert (await anext(turn)).position == 71
    joined = client.sessions.join(session.id)
    assert (await anext(joined)).position == 71
    server.release.set()
    assert await positions(joined) == list(range(72, 101))
    await turn.aclose()


async def test_a_known_turn_is_joined_where_it_broke_off(
    server: FakeServer, make_client: MakeClient, through: Any
) -> None:
    proxy = await through(itertools.chain(["cut"], forever("pass")))
    proxy._rng.randrange = lambda low, high: 1500
    client = make_client(proxy.url)
    assert await positions(client.sessions.execute_stream(agent_id="a", goal="50", compact=False))
    first, second = server.requests
    assert (first.method, first.path) == ("POST", EXECUTE)
    assert (second.method, second.path) == ("GET", "/v1/sessions/sess_1/stream")
    assert second.query["turn"] == "1" and int(second.query["resume_from"]) > 0


async def test_an_execute_whose_answer_never_came_is_repeated_with_its_key(
    server: FakeServer, make_client: MakeClient, through: Any
) -> None:
    proxy = await through(itertools.chain(["cut"], forever("pass")))
    proxy._rng.randrange = lambda low, high: 10
    client = make_client(proxy.url)
    stream = client.sessions.execute_stream(agent_id="a", goal="50")
    assert await positions(stream) == list(range(1, 51))
    keys = [request.headers["idempotency-key"] for request in server.asked("POST", EXECUTE)]
    assert len(keys) == 2 and len(set(keys)) == 1
    assert len(server.sessions) == 1 and server.sessions["sess_1"].turns == 1


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_proxys_error_page_is_tried_again(
    server: FakeServer, client: ResonantGenesis, status: int
) -> None:
    server.fail_next(EXECUTE, status, "<html>bad gateway</html>")
    stream = client.sessions.execute_stream(agent_id="a", goal="9")
    assert await positions(stream) == list(range(1, 10))


async def test_retry_after_is_the_least_wait(server: FakeServer, client: ResonantGenesis) -> None:
    body = {"error": {"code": "RATE_LIMITED", "message": "slow down", "retry_after": 0.07}}
    server.fail_next(EXECUTE, 429, body)
    begin = asyncio.get_running_loop().time()
    assert await positions(client.sessions.execute_stream(agent_id="a", goal="9"))
    assert asyncio.get_running_loop().time() - begin >= 0.07


async def test_a_long_retry_after_is_the_callers_to_obey(
    server: FakeServer, client: ResonantGenesis
) -> None:
    body = {"error": {"code": "RATE_LIMITED", "message": "tomorrow"}}
    server.fail_next(EXECUTE, 429, body, {"Retry-After": "86400"})
    with pytest.raises(RateLimited) as raised:
        await positions(client.sessions.execute_stream(agent_id="a", goal="9"))
    assert raised.value.retry_after == 86400.0
    assert len(server.requests) == 1


async def test_refusals_are_raised_once_the_retries_are_spent(
    server: FakeServer, make_client: MakeClient
) -> None:
    client = make_client(server.url, max_retries=2)
    for status, kind in ((503, Unavailable), (429, RateLimited)):
        server.requests.clear()
        for _ in range(3):
            server.fail_next(EXECUTE, status, {}, {"Retry-After": "0"})
        with pytest.raises(kind) as raised:
            await positions(client.sessions.execute_stream(agent_id="a", goal="9"))
        assert len(server.requests) == 3
        assert raised.value.retry_after == 0.0


async def test_a_dead_server_is_connection_lost_with_the_place(
    server: FakeServer, make_client: MakeClient
) -> None:
    client = make_client(server.url, max_retries=3)
    server.hold_at = 5
    stream = client.sessions.execute_stream(agent_id="a", goal="9")
    for _ in range(5):
        await anext(stream)
    await server.stop()
    with pytest.raises(ConnectionError) as raised:
        await positions(stream)
    lost = raised.value
    assert isinstance(lost, ConnectionLost) and lost.code == "CONNECTION_LOST" and lost.retryable
    assert (lost.session_id, lost.position, stream.position) == ("sess_1", 5, 5)


async def test_progress_gives_the_retries_back(
    server: FakeServer, make_client: MakeClient, through: Any
) -> None:
    proxy = await through(forever("cut"))
    # Each connection carries the headers and a few chunks more: far more cuts than retries.
    proxy._rng.randrange = lambda low, high: 1900
    client = make_client(proxy.url, max_retries=1)
    stream = client.sessions.execute_stream(agent_id="a", goal="60")
    assert await positions(stream) == list(range(1, 61))
    assert proxy.connections >= 5


async def test_a_store_with_another_history_is_an_error(
    server: FakeServer, client: ResonantGenesis
) -> None:
    server.hold_at = 5
    stream = client.sessions.execute_stream(agent_id="a", goal="9")
    assert (await anext(stream)).position == 1
    server.epoch = "e2"
    await cut_streams(server)
    with pytest.raises(PositionExpired) as raised:
        await positions(stream)
    assert raised.value.details["epoch"] == "e2"


async def cut_streams(server: FakeServer) -> None:
    """Ends what is connected without stopping the turns."""
    serving = [task for task in server._tasks if "_serve" in repr(task.get_coro())]
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)


async def test_gaps_are_read_again_and_duplicates_dropped(
    server: FakeServer, client: ResonantGenesis
) -> None:
    dropped = {7, 20}

    def corrupt(chunk: dict[str, Any]) -> dict[str, Any] | None:
        if chunk["position"] in dropped:
            dropped.discard(chunk["position"])
            return None
        return chunk

    server.corrupt = corrupt
    stream = client.sessions.execute_stream(agent_id="a", goal="40")
    assert await positions(stream) == list(range(1, 41))
    assert [request.query["resume_from"] for request in server.asked("GET", ".*")] == ["6", "19"]


async def test_an_error_frame_outside_the_log_ends_the_connection_only(
    server: FakeServer, client: ResonantGenesis
) -> None:
    once = ["UNAVAILABLE"]

    def corrupt(chunk: dict[str, Any]) -> dict[str, Any] | None:
        if chunk["position"] == 5 and once:
            code = once.pop()
            return {"type": "error", "code": code, "message": "draining", "retry_after": 0}
        return chunk

    server.corrupt = corrupt
    assert await positions(client.sessions.execute_stream(agent_id="a", goal="9")) == [
        *range(1, 10)
    ]


async def test_heartbeats_keep_a_quiet_stream_alive(
    server: FakeServer, make_client: MakeClient
) -> None:
    server.heartbeat, server.hold_at = 0.15, 4
    client = make_client(server.url, max_retries=0)
    stream = client.sessions.execute_stream(agent_id="a", goal="9")
    for _ in range(4):
        await anext(stream)
    waiting = asyncio.create_task(anext(stream))
    await server.wait_heartbeats(4)
    assert not waiting.done()
    server.release.set()
    assert (await waiting).position == 5
    assert len(server.requests) == 1
    await stream.aclose()
