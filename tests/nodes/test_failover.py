"""The primary of a fleet's database dies, and its standby takes over: with all that was
acknowledged, or without."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from nodes.test_database import Acknowledged, goal_of, start, to_the_end
from support.fleet import (
    ENDLESS,
    PATIENCE,
    SECRET,
    SESSIONS,
    SLACK,
    DatabaseWay,
    Fleet,
    client_of,
    figures,
    running,
    until,
    watched,
)
from support.postgres import PostgresServer
from support.server import ServerProcess
from support.wire import execute, read_all

pytestmark = pytest.mark.anyio
#: Nobody is to die here but the database.
PATIENT = {"node_ttl": 12, "node_beat": 1}


class Standbys:
    """Standbys of a database, each made of the one that is the primary then."""

    def __init__(self) -> None:
        self._made: list[PostgresServer] = []

    def of(self, primary: PostgresServer) -> PostgresServer:
        """One that follows; nothing waits for it."""
        self._made.append(PostgresServer({}, primary=primary))
        return self._made[-1].start()

    def close(self) -> None:
        for each in self._made:
            each.close()


@pytest.fixture
def standbys() -> Iterator[Standbys]:
    made = Standbys()
    yield made
    made.close()


def is_followed(primary: PostgresServer, state: str) -> bool:
    return primary.sql("SELECT sync_state FROM pg_stat_replication") == state


async def wait_until(what: str, of: PostgresServer) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await asyncio.to_thread(is_followed, of, what):
            await asyncio.sleep(0.05)


async def made_synchronous(primary: PostgresServer) -> None:
    await asyncio.to_thread(primary.set, "synchronous_standby_names", "*")
    await wait_until("sync", of=primary)


def of_both(url: str, primary: PostgresServer, standby: PostgresServer) -> str:
    folder = str(primary.folder)
    return url.replace(folder, f"{folder},{standby.folder}")


async def one_failover(
    fleet: Fleet,
    primary: PostgresServer,
    standby: PostgresServer,
    name: str,
    sessions: int,
    move: Callable[[], None] = lambda: None,
) -> float:
    """Nobody who runs or watches a turn, or starts one, sees more than a pause: its seconds.
    `move` leads new connections to the standby."""
    share = sessions // len(fleet.nodes)
    viewers = [
        each
        for node in fleet.nodes
        for each in await start(fleet, node, share, goal_of(400, sessions))
    ]
    acknowledged = Acknowledged()
    async with watched(viewers) as tasks:
        await until(lambda: all(len(each.frames) > 5 for each in viewers))
        async with acknowledged.arriving(fleet, name):
            await until(lambda: len(acknowledged.answers) > 5)
            await asyncio.to_thread(primary.kill)
            move()
            await asyncio.to_thread(standby.sql, "SELECT pg_promote()")
            back = time.monotonic()
            seen, known = [len(each.frames) for each in viewers], len(acknowledged.answers)
            before = list(zip(viewers, seen, strict=True))
            await until(lambda: all(len(each.frames) > n or each.done for each, n in before))
            await until(lambda: len(acknowledged.answers) > known + 1)
            took = time.monotonic() - back
        await to_the_end(fleet, viewers, tasks)
    await cancelled_elsewhere(fleet)
    await acknowledged.check(fleet)
    assert fleet.living == fleet.nodes
    assert not [line for node in fleet.nodes for line in node.errors() if "dead" in line]
    return took


async def cancelled_elsewhere(fleet: Fleet) -> None:
    """The nodes still reach one another through the database."""
    here, there = fleet.nodes[:2]
    async with client_of(here.url) as client, client_of(there.url) as other:
        session_id = (await execute(client, **ENDLESS))["session_id"]
        answer = await other.post(f"/v1/sessions/{session_id}/cancel", json={})
        assert answer.status_code == 200, answer.text


async def test_a_failover_to_a_synchronous_standby_loses_nothing(
    database: PostgresServer, standbys: Standbys, tmp_path: Path
) -> None:
    url = database.database()
    standby = standbys.of(database)
    await made_synchronous(database)
    with running(tmp_path, [of_both(url, database, standby)] * 2, **PATIENT) as fleet:
        async with fleet.balancer.running():
            took = await one_failover(fleet, database, standby, "first", 6)
            figures("all goes on after the promotion", [took])
            assert took < 4 + 4 * SLACK


@pytest.mark.soak
async def test_five_failovers_behind_one_address(
    database: PostgresServer, standbys: Standbys, tmp_path: Path
) -> None:
    name = database.database().partition("?")[0].rpartition("/")[2]
    way = DatabaseWay(database)
    async with way.running():
        fleet = Fleet(tmp_path, [way.url(name)] * 3, **PATIENT)
        try:
            # The way is served by this loop.
            standby = await asyncio.to_thread(standbys.of, database)
            await made_synchronous(database)
            await asyncio.to_thread(fleet.start)
            took: list[float] = []
            async with fleet.balancer.running():
                for number in range(5):
                    move = partial(setattr, way, "database", standby)
                    primary = way.database
                    took.append(
                        await one_failover(fleet, primary, standby, str(number), SESSIONS, move)
                    )
                    standby = await asyncio.to_thread(standbys.of, way.database)
                    await made_synchronous(way.database)
            figures("all goes on after the promotion", took)
            assert max(took) < 4 + 4 * SLACK
        finally:
            await asyncio.to_thread(fleet.stop)


@pytest.mark.parametrize("sessions", [4, pytest.param(SESSIONS, marks=pytest.mark.soak)])
async def test_a_failover_that_loses_something_ends_the_nodes_and_the_epoch(
    database: PostgresServer, standbys: Standbys, tmp_path: Path, sessions: int
) -> None:
    url = database.database()
    standby = standbys.of(database)
    with running(tmp_path, [of_both(url, database, standby)] * 2, **PATIENT) as fleet:
        async with fleet.balancer.running():
            await lose_something(fleet, database, standby, sessions // 2)


async def lose_something(
    fleet: Fleet, primary: PostgresServer, standby: PostgresServer, share: int
) -> None:
    goal = "count to 100000"
    viewers = [each for node in fleet.nodes for each in await start(fleet, node, share, goal)]
    async with client_of(fleet.balancer.url) as client:
        durability = (await client.get("/readyz")).json()["durability"]
        assert "a failover may lose" in durability
        old = (await execute(client, goal="count to 20"))["session_id"]
        last = (await read_all(client, old))[-1]
        epoch = await epoch_of(client, old)
        await until_replayed(primary, standby)
    async with watched(viewers):
        await until(lambda: all(len(each.frames) > 5 for each in viewers))
        # What is acknowledged from now on the standby never gets.
        await asyncio.to_thread(standby.set, "primary_conninfo", "")
        await wait_until("", of=primary)
        known = [len(each.frames) for each in viewers]
        await until(
            lambda: all(len(each.frames) > n + 9 for each, n in zip(viewers, known, strict=True))
        )
        seen = {each.session_id: list(each.frames) for each in viewers}
        await asyncio.to_thread(primary.kill)
        await asyncio.to_thread(standby.sql, "SELECT pg_promote()")
        for node in fleet.nodes:
            assert await asyncio.to_thread(node.wait, PATIENCE) == 1
            critical = {line["event"] for line in node.records() if line["level"] == "critical"}
            assert critical == {"the database has lost what it had acknowledged; the server stops"}
    await asyncio.to_thread(fleet.start)
    async with client_of(fleet.balancer.url) as client:
        for session_id, frames in seen.items():
            kept = await read_all(client, session_id, resume_from=0)
            assert frames[:5] == kept[:5]
            assert len(kept) < len(frames), "nothing was lost after all"
            # A place of before means something else now, so it is refused and not answered.
            await is_refused(client, session_id, str(frames[-1].id), epoch)
        assert await epoch_of(client, old) != epoch
        await is_refused(client, old, str(last.id), epoch)
        assert len(await read_all(client, old, resume_from=0)) == last.position


async def until_replayed(primary: PostgresServer, standby: PostgresServer) -> None:
    """Return once the standby has what the primary has now."""
    place = await asyncio.to_thread(primary.sql, "SELECT pg_current_wal_lsn()")
    query = f"SELECT pg_last_wal_replay_lsn() >= '{place}'"
    async with asyncio.timeout(PATIENCE):
        while await asyncio.to_thread(standby.sql, query) != "t":
            await asyncio.sleep(0.05)


async def epoch_of(client: httpx.AsyncClient, session_id: str) -> str:
    page = await client.get(f"/v1/sessions/{session_id}/events?after=0&limit=1")
    return str(page.headers["x-log-epoch"])


async def is_refused(client: httpx.AsyncClient, session_id: str, place: str, epoch: str) -> None:
    headers = {"Last-Event-ID": place, "X-Log-Epoch": epoch}
    answer = await client.get(f"/v1/sessions/{session_id}/stream", headers=headers)
    assert answer.status_code == 410, answer.text
    assert answer.json()["error"]["code"] == "POSITION_EXPIRED"


async def test_a_standby_is_no_primary(
    database: PostgresServer, standbys: Standbys, tmp_path: Path
) -> None:
    url = database.database()
    standby = await asyncio.to_thread(standbys.of, database)
    store = url.replace(str(database.folder), str(standby.folder))
    node = ServerProcess(tmp_path / "node", store=store, secret=SECRET)
    node.launch()
    assert await asyncio.to_thread(node.wait, PATIENCE) == 2
    (line,) = node.log.splitlines()
    print(line)
    assert line.startswith("resonantgenesis: ")
    node.stop()
