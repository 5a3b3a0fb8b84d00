"""The SDK through bad networks, against the real server: the same text, in bounded time."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable

import httpx
import pytest
from resonantgenesis import ResonantGenesis, SyncResonantGenesis, Timeouts
from support.proxy import EvilProxy
from support.server import KEY, ServerProcess
from support.wire import execute, read_all

COUNT = 300
TEXT = " ".join(str(number) for number in range(1, COUNT + 1))
PACED = {"words_per_second": 200}


def in_turn(*modes: str) -> Callable[[], str]:
    cycle = itertools.cycle(modes)
    return lambda: next(cycle)


def by_chance(rng: random.Random) -> Callable[[], str]:
    return lambda: rng.choice(["cut", "reset", "dribble", "stall", "pass"])


async def stream_through(
    server: ServerProcess, choose: Callable[[], str], seed: int = 1, *, budget: int = 8_000
) -> EvilProxy:
    """Execute and stream over such a network: every chunk once, and one turn only."""
    rng = random.Random(seed)
    proxy = EvilProxy(server.port, choose, rng)
    proxy.budget = lambda: rng.randrange(1, budget)
    goal = {"agent_id": "guide", "goal": f"count to {COUNT}", "context": PACED | {"seed": seed}}
    async with proxy.running(), server.client() as direct:
        async with (
            asyncio.timeout(60),
            ResonantGenesis(
                api_key=KEY, base_url=proxy.url, timeout=Timeouts(silence=2), max_retries=40
            ) as sdk,
        ):
            stream = sdk.sessions.execute_stream(**goal)
            chunks = [chunk async for chunk in stream]
        assert [chunk.position for chunk in chunks] == list(range(1, COUNT + 4))
        assert "".join(chunk.content for chunk in chunks) == TEXT == chunks[-1].output
        session_id = chunks[-1].session_id or ""
        kept = await read_all(direct, session_id, resume_from=0)
        assert [chunk.raw for chunk in chunks] == [frame.body for frame in kept]
        assert (await direct.get(f"/v1/sessions/{session_id}")).json()["turns"] == 1
    return proxy


@pytest.mark.parametrize("mode", ["cut", "reset", "dribble"])
async def test_the_text_is_the_same(server: ServerProcess, mode: str) -> None:
    async with server.client() as client:
        before = await count_sessions(client)
        proxy = await stream_through(server, in_turn(mode))
        assert await count_sessions(client) == before + 1
    assert mode == "dribble" or proxy.connections > 2


async def test_a_stalled_connection_is_left(server: ServerProcess) -> None:
    proxy = await stream_through(server, in_turn("stall", "stall", "pass"), budget=20_000)
    assert proxy.connections >= 3


async def test_behind_a_box_that_buffers_everything(server: ServerProcess) -> None:
    """Nothing of the stream comes through before its end; polling does, while the turn runs."""
    proxy = EvilProxy(server.port, in_turn("buffer"), random.Random(1))
    async with (
        proxy.running(),
        server.client() as direct,
        asyncio.timeout(60),
        ResonantGenesis(api_key=KEY, base_url=proxy.url, timeout=Timeouts(silence=1)) as sdk,
    ):
        stream = sdk.sessions.execute_stream(
            agent_id="guide", goal=f"count to {COUNT}", context={"words_per_second": 50}
        )
        first = await anext(stream)
        session = (await direct.get(f"/v1/sessions/{first.session_id}")).json()
        assert session["status"] == "running"
        found = [first, *[chunk async for chunk in stream]]
    assert [chunk.position for chunk in found] == list(range(1, COUNT + 4))
    assert "".join(chunk.content for chunk in found) == TEXT
    assert proxy.connections > 2


async def test_a_mixture_by_chance(server: ServerProcess) -> None:
    await stream_through(server, by_chance(random.Random(7)), 7)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 150))
async def test_mixtures_by_chance(server: ServerProcess, seed: int) -> None:
    await stream_through(server, by_chance(random.Random(seed)), seed)


async def test_the_synchronous_client_through_cuts(server: ServerProcess) -> None:
    rng = random.Random(3)
    proxy = EvilProxy(server.port, in_turn("cut", "reset"), rng)

    def read() -> list[int]:
        with SyncResonantGenesis(api_key=KEY, base_url=proxy.url, max_retries=40) as sdk:
            stream = sdk.sessions.execute_stream(
                agent_id="guide", goal=f"count to {COUNT}", context=PACED
            )
            return [chunk.position for chunk in stream]

    async with proxy.running(), asyncio.timeout(60):
        assert await asyncio.to_thread(read) == list(range(1, COUNT + 4))
    assert proxy.connections > 2


async def test_ten_streams_of_one_client_on_one_bad_network(server: ServerProcess) -> None:
    rng = random.Random(11)
    proxy = EvilProxy(server.port, by_chance(rng), rng)
    async with (
        proxy.running(),
        asyncio.timeout(90),
        ResonantGenesis(
            api_key=KEY, base_url=proxy.url, timeout=Timeouts(silence=2), max_retries=40
        ) as sdk,
        server.client() as direct,
    ):
        started = [
            await execute(direct, goal=f"count to {COUNT}", context=PACED) for _ in range(10)
        ]

        async def one(session_id: str) -> list[int]:
            stream = sdk.sessions.join(session_id, resume_from=0)
            return [chunk.position async for chunk in stream]

        found = await asyncio.gather(*(one(each["session_id"]) for each in started))
    assert found == [list(range(1, COUNT + 4))] * 10


async def count_sessions(client: httpx.AsyncClient) -> int:
    """How many sessions there are, over all pages."""
    total = 0
    cursor: str | None = None
    while True:
        params: dict[str, str | int] = {"limit": 500, **({"cursor": cursor} if cursor else {})}
        page = (await client.get("/v1/sessions", params=params)).json()
        total += len(page["data"])
        cursor = page["next_cursor"]
        if cursor is None:
            return total
