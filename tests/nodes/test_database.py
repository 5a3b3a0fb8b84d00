"""The database of several nodes dies and comes back; so does the network between it and one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.fleet import (
    PATIENCE,
    SESSIONS,
    SLACK,
    DatabaseWay,
    Fleet,
    Viewer,
    check_kept,
    check_log,
    client_of,
    figures,
    last_codes,
    running,
    send_again,
    until,
    watched,
)
from support.postgres import PostgresServer
from support.server import ServerProcess
from support.wire import Frame, execute, read_all

pytestmark = pytest.mark.anyio


async def start(fleet: Fleet, node: ServerProcess, count: int, goal: str) -> list[Viewer]:
    """Turns at this node, each with a viewer at another."""
    elsewhere = fleet.other(node)
    async with node.client() as client:
        body = {"goal": goal, "context": {"words_per_second": 20}}
        started = await asyncio.gather(*(execute(client, **body) for _ in range(count)))
    return [Viewer(each["session_id"], fleet.addresses(elsewhere)) for each in started]


#: More turns than this begin slower than they would end: theirs have no end of their own.
_FEW = 20


def goal_of(words: int, sessions: int) -> str:
    return f"count to {words if sessions <= _FEW else 100_000}"


async def to_the_end(
    fleet: Fleet, viewers: Sequence[Viewer], tasks: Sequence[asyncio.Task[list[Frame]]]
) -> None:
    """The turns of `goal_of`, which nothing but this ends."""
    are_few = len(viewers) <= _FEW
    if not are_few:
        await cancel(fleet, viewers)
    async with asyncio.timeout(2 * PATIENCE):
        await asyncio.gather(*tasks)
    await check(fleet, viewers, "success" if are_few else "cancelled")


async def cancel(fleet: Fleet, viewers: Sequence[Viewer]) -> None:
    async with client_of(fleet.balancer.url) as client:
        for each in viewers:
            path = f"/v1/sessions/{each.session_id}/cancel"
            await send_again(client, path, {}, each.session_id)


async def check(fleet: Fleet, viewers: Sequence[Viewer], ending: str) -> None:
    """At every node the log is what the viewers saw."""
    for node in fleet.living:
        async with client_of(node.url) as client:
            for viewer in viewers:
                await check_kept(client, viewer, [ending])


# -- the database ------------------------------------------------------------------------------


class Acknowledged:
    """Turns that clients start all the time, and the answers that they got."""

    def __init__(self) -> None:
        self.answers: dict[str, dict[str, object]] = {}

    @asynccontextmanager
    async def arriving(self, fleet: Fleet, name: str) -> AsyncIterator[None]:
        async def send() -> None:
            async with client_of(fleet.balancer.url) as client:
                for number in range(1_000_000):
                    key = f"{name}-{number}"
                    body = {"agent_id": "guide", "goal": "count to 3"}
                    self.answers[key] = await send_again(client, "/v1/sessions/execute", body, key)
                    await asyncio.sleep(0.02)

        tasks = [asyncio.create_task(send())]
        try:
            yield
            assert not tasks[0].done()
        finally:
            tasks[0].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def check(self, fleet: Fleet) -> None:
        """Each is kept, has run once, and is given again under its key."""
        async with client_of(fleet.balancer.url) as client:
            for key, answer in self.answers.items():
                body = {"agent_id": "guide", "goal": "count to 3"}
                again = await send_again(client, "/v1/sessions/execute", body, key)
                assert again["session_id"] == answer["session_id"]
                kept = await read_all(client, str(answer["session_id"]), resume_from=0)
                check_log(kept, kept)
                assert last_codes(kept) == ["success"]
        names = [answer["session_id"] for answer in self.answers.values()]
        assert len(set(names)) == len(names)


async def one_outage(
    database: PostgresServer, fleet: Fleet, name: str, away: float, sessions: int
) -> tuple[float, float]:
    """Seconds from when the database is back until every stream goes on, and until requests are
    answered."""
    share = sessions // len(fleet.nodes)
    goal = goal_of(int(20 * (away + 6)), sessions)
    viewers = [each for node in fleet.nodes for each in await start(fleet, node, share, goal)]
    acknowledged = Acknowledged()
    async with watched(viewers) as tasks:
        await until(lambda: all(len(each.frames) > 5 for each in viewers))
        async with acknowledged.arriving(fleet, name):
            await until(lambda: len(acknowledged.answers) > 5)
            await asyncio.to_thread(database.kill)
            await asyncio.sleep(away)
            await asyncio.to_thread(database.start)
            back = time.monotonic()
            seen = [len(each.frames) for each in viewers]
            known = len(acknowledged.answers)
            await until(
                lambda: all(len(each.frames) > n for each, n in zip(viewers, seen, strict=True))
            )
            streams = time.monotonic() - back
            await until(lambda: len(acknowledged.answers) > known + 1)
            requests = time.monotonic() - back
        await to_the_end(fleet, viewers, tasks)
    await acknowledged.check(fleet)
    assert fleet.living == fleet.nodes
    assert not [line for node in fleet.nodes for line in node.errors() if "dead" in line]
    return streams, requests


async def outages(
    database: PostgresServer, fleet: Fleet, *, rounds: int, away: float, sessions: int
) -> None:
    async with fleet.balancer.running():
        names = [f"{away:g}-{number}" for number in range(rounds)]
        took = [await one_outage(database, fleet, name, away, sessions) for name in names]
    streams, requests = zip(*took, strict=True)
    figures(f"after {away:g} s streams go on", streams)
    figures(f"after {away:g} s requests are answered", requests)
    assert max(streams + requests) < 2 + SLACK


async def test_an_outage_of_the_database_ends_no_turn_and_no_node(
    database: PostgresServer, tmp_path: Path
) -> None:
    with running(tmp_path, [database.database()] * 2) as fleet:
        await outages(database, fleet, rounds=1, away=5, sessions=6)


@pytest.mark.soak
async def test_ten_outages_and_a_long_one(database: PostgresServer, tmp_path: Path) -> None:
    with running(tmp_path, [database.database()] * 3) as fleet:
        await outages(database, fleet, rounds=10, away=0.5, sessions=SESSIONS)
        await outages(database, fleet, rounds=1, away=30, sessions=SESSIONS)


# -- the network -------------------------------------------------------------------------------


@asynccontextmanager
async def one_behind(
    database: PostgresServer, folder: Path, count: int
) -> AsyncIterator[tuple[Fleet, DatabaseWay]]:
    """Nodes of which the last one has a network of its own to the database."""
    url = database.database()
    name = url.partition("?")[0].rpartition("/")[2]
    way = DatabaseWay(database)
    async with way.running():
        fleet = Fleet(folder, [url] * (count - 1) + [way.url(name)], drain_seconds=60)
        try:
            await asyncio.to_thread(fleet.start)
            async with fleet.balancer.running():
                yield fleet, way
        finally:
            way.heal()
            await asyncio.to_thread(fleet.stop)


async def one_cut(
    fleet: Fleet, way: DatabaseWay, sessions: int, seconds: float, *, there: bool, back: bool
) -> None:
    """The last node's network is cut until it is dead, and for `seconds`."""
    cut_off = fleet.nodes[-1]
    viewers = await start(fleet, cut_off, sessions // 2, "count to 100000")
    spared = await start(fleet, fleet.nodes[0], sessions // 2, "count to 100000")
    async with watched(viewers + spared) as tasks:
        await until(lambda: all(len(each.frames) > 5 for each in viewers + spared))
        began = time.monotonic()
        way.cut(there=there, back=back)
        await until(lambda: all(each.done for each in viewers), fleet.ttl + PATIENCE)
        took = max(each.ended_at[0] for each in viewers) - began
        await asyncio.sleep(began + seconds - time.monotonic())
        way.heal()
        healed = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            assert await asyncio.to_thread(cut_off.wait) == 1
        print(f"takeover after {took:.2f} s, ended {time.monotonic() - healed:.2f} s after it")
        assert took < fleet.ttl + 1 + SLACK
        assert not any(each.done for each in spared)
        await cancel(fleet, spared)
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*tasks)
    await check(fleet, viewers, "RUNNER_LOST")
    await check(fleet, spared, "cancelled")


WAYS = {"both": (True, True), "there": (True, False), "back": (False, True)}


@pytest.mark.parametrize("name", WAYS)
async def test_a_node_without_its_database_is_fenced(
    database: PostgresServer, tmp_path: Path, name: str
) -> None:
    there, back = WAYS[name]
    async with one_behind(database, tmp_path, 2) as (fleet, way):
        await one_cut(fleet, way, 6, 5, there=there, back=back)


async def test_a_short_cut_ends_nothing(database: PostgresServer, tmp_path: Path) -> None:
    async with one_behind(database, tmp_path, 2) as (fleet, way):
        viewers = await start(fleet, fleet.nodes[-1], 3, "count to 120")
        async with watched(viewers) as tasks:
            await until(lambda: all(len(each.frames) > 5 for each in viewers))
            way.cut()
            await asyncio.sleep(1)
            way.heal()
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*tasks)
        await check(fleet, viewers, "success")


@pytest.mark.soak
@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("seconds", [5.0, 20.0, 60.0])
async def test_nodes_without_their_database_are_fenced(
    database: PostgresServer, tmp_path: Path, name: str, seconds: float
) -> None:
    there, back = WAYS[name]
    async with one_behind(database, tmp_path, 3) as (fleet, way):
        await one_cut(fleet, way, SESSIONS, seconds, there=there, back=back)
