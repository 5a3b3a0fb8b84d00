"""kill -9 of a node amid turns that viewers watch at other nodes; a node that is stopped, and wakes
up after it was declared dead."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.fleet import (
    ENDLESS,
    PATIENCE,
    SESSIONS,
    SLACK,
    Fleet,
    Viewer,
    check_log,
    client_of,
    enqueue,
    figures,
    last_codes,
    none_is_open,
    running,
    send_again,
    until,
    watched,
)
from support.postgres import PostgresServer
from support.server import ServerProcess
from support.wire import Frame, execute, read_all

pytestmark = pytest.mark.anyio

#: Every fourth session has a turn that waits behind the one that is killed.
QUEUED_EVERY = 4
#: A node that waited for its turns would show.
SLOW_TO_DRAIN: dict[str, Any] = {"drain_seconds": 60, "agents": {"silent": "support.agents:silent"}}


@dataclass
class Started:
    """A session, the node that runs it, and who watches it elsewhere."""

    session_id: str
    node: ServerProcess
    is_followed_up: bool
    viewer: Viewer


async def start(fleet: Fleet, count: int) -> list[Started]:
    """Endless turns, spread over the nodes; each viewer begins at another node than its turn."""

    async def one(number: int, node: ServerProcess, client: httpx.AsyncClient) -> Started:
        session_id = (await execute(client, **ENDLESS))["session_id"]
        queued = number % QUEUED_EVERY == 0
        if queued:
            # At any node: it is passed on to the one that runs the session.
            async with client_of(fleet.balancer.url) as anywhere:
                await enqueue(anywhere, session_id)
        addresses = fleet.addresses(fleet.other(node))
        viewer = Viewer(session_id, addresses, turns=2 if queued else 1)
        return Started(session_id, node, queued, viewer)

    clients = {node.port: node.client() for node in fleet.living}
    try:
        nodes = itertools.cycle(fleet.living)
        return await asyncio.gather(
            *(
                one(number, node, clients[node.port])
                for number, node in zip(range(count), nodes, strict=False)
            )
        )
    finally:
        for client in clients.values():
            await client.aclose()


async def check_ended(fleet: Fleet, started: Sequence[Started]) -> None:
    """What was seen is kept, everywhere the same; nothing runs or waits any more."""
    async with client_of(fleet.living[0].url) as client, client_of(fleet.living[-1].url) as another:
        for each in started:
            kept = await read_all(client, each.session_id, resume_from=0)
            check_log(kept, each.viewer.frames)
            assert await read_all(another, each.session_id, resume_from=0) == kept
            wanted = ["RUNNER_LOST", "success"] if each.is_followed_up else ["RUNNER_LOST"]
            assert last_codes(kept) == wanted
            shown = (await client.get(f"/v1/sessions/{each.session_id}")).json()
            assert shown["status"] == ("completed" if each.is_followed_up else "failed")


async def cancel(fleet: Fleet, started: Sequence[Started]) -> None:
    """From any node: what the living nodes still run ends."""
    async with client_of(fleet.balancer.url) as client:
        for each in started:
            path = f"/v1/sessions/{each.session_id}/cancel"
            await send_again(client, path, {}, each.session_id)


async def one_kill(fleet: Fleet, sessions: int, rng: random.Random) -> float:
    """Seconds from the kill until the last turn of the dead node had its end at its viewer."""
    started = await start(fleet, sessions)
    victim = rng.choice(fleet.nodes)
    hit = [each for each in started if each.node is victim]
    spared = [each for each in started if each.node is not victim]
    async with watched([each.viewer for each in started]) as tasks:
        target = rng.randrange(10, 40)
        await until(lambda: all(len(each.viewer.frames) > 2 for each in started))
        await until(lambda: max(len(each.viewer.frames) for each in hit) > target)
        killed = time.monotonic()
        await asyncio.to_thread(victim.kill)
        await until(lambda: all(each.viewer.done for each in hit), fleet.ttl + PATIENCE)
        took = max(each.viewer.ended_at[0] for each in hit) - killed
        # The other nodes' turns went on meanwhile.
        before = [len(each.viewer.frames) for each in spared]
        await until(
            lambda: all(len(e.viewer.frames) > n for e, n in zip(spared, before, strict=True))
        )
        assert not any(each.viewer.done for each in spared)
        await cancel(fleet, spared)
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*tasks)
    await check_ended(fleet, hit)
    await check_spared(fleet, spared)
    await none_is_open(fleet)
    return took


async def check_spared(fleet: Fleet, started: Sequence[Started]) -> None:
    async with client_of(fleet.balancer.url) as client:
        for each in started:
            kept = await read_all(client, each.session_id, resume_from=0)
            check_log(kept, each.viewer.frames)
            assert "RUNNER_LOST" not in last_codes(kept)


async def kills(fleet: Fleet, *, rounds: int, sessions: int) -> None:
    rng = random.Random(rounds)
    took: list[float] = []
    async with fleet.balancer.running():
        for _ in range(rounds):
            took.append(await one_kill(fleet, sessions, rng))
            print(f"takeover after {took[-1]:.2f} s")
            dead = next(node for node in fleet.nodes if node not in fleet.living)
            await asyncio.to_thread(dead.start)
    figures("takeover", took)
    assert max(took) <= fleet.ttl + 1 + SLACK


@pytest.mark.parametrize("databases", [1, 2])
async def test_nothing_seen_is_lost_when_a_node_is_killed(
    database: PostgresServer, tmp_path: Path, databases: int
) -> None:
    store = " ".join(database.database() for _ in range(databases))
    with running(tmp_path, [store] * 2) as fleet:
        await kills(fleet, rounds=1, sessions=8)


@pytest.mark.soak
async def test_nothing_seen_is_lost_in_twenty_kills_of_nodes(
    database: PostgresServer, tmp_path: Path
) -> None:
    with running(tmp_path, [database.database()] * 3, node_ttl=8, node_beat=1) as fleet:
        await kills(fleet, rounds=20, sessions=SESSIONS)


async def one_pause(fleet: Fleet, sessions: int) -> float:
    """Seconds from the wake-up of a node that was declared dead until it has ended."""
    started = await start(fleet, sessions)
    victim = fleet.nodes[0]
    hit = [each for each in started if each.node is victim]
    spared = [each for each in started if each.node is not victim]
    # Clients of the node itself: they must hear of the end, and not wait for ever. The agent of
    # the second has nothing to write meanwhile.
    direct = asyncio.create_task(read_to_the_end(victim, hit[0].session_id))
    answered = asyncio.create_task(
        ask(victim, 202, 503, agent_id="silent", context={"seconds": 600})
    )
    async with watched([each.viewer for each in started]) as tasks:
        await until(lambda: all(len(each.viewer.frames) > 5 for each in started))
        victim.process.send_signal(signal.SIGSTOP)
        await until(lambda: all(each.viewer.done for each in hit))
        # A request that it finds in its socket when it wakes up.
        late = asyncio.create_task(ask(victim, 503))
        await asyncio.sleep(0.2)
        woken = time.monotonic()
        victim.process.send_signal(signal.SIGCONT)
        code = await asyncio.to_thread(victim.wait)
        took = time.monotonic() - woken
        assert code == 1
        async with asyncio.timeout(10):
            await asyncio.gather(direct, late, answered)
        critical = [line["event"] for line in victim.records() if line["level"] == "critical"]
        assert critical == ["this node was declared dead; the server stops"]
        await cancel(fleet, spared)
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*tasks)
    await check_ended_by(fleet, hit)
    await check_spared(fleet, spared)
    await none_is_open(fleet)
    return took


async def check_ended_by(fleet: Fleet, hit: Sequence[Started]) -> None:
    """Nothing of the zombie's stands behind the end that the others wrote."""
    async with client_of(fleet.living[0].url) as client:
        for each in hit:
            kept = await read_all(client, each.session_id, resume_from=0)
            assert kept == each.viewer.frames
            check_log(kept, each.viewer.frames)


async def read_to_the_end(node: ServerProcess, session_id: str) -> list[Frame]:
    async with client_of(node.url) as client:
        try:
            return await read_all(client, session_id, timeout=PATIENCE)
        except httpx.TransportError:
            return []


async def ask(node: ServerProcess, *answers: int, **body: Any) -> None:
    """Wait for a turn at a node that dies: it closes the connection, or gives one of these
    answers."""
    async with client_of(node.url) as client:
        body = {"agent_id": "guide", "goal": "count to 3", **body}
        try:
            answer = await client.post("/v1/sessions/execute", json=body, timeout=60)
        except httpx.ReadTimeout:
            raise AssertionError("the client of a dead node was left waiting") from None
        except httpx.TransportError:
            return
        assert answer.status_code in answers, answer.text


async def test_a_node_that_wakes_up_too_late_writes_nothing_and_ends(
    database: PostgresServer, tmp_path: Path
) -> None:
    with running(tmp_path, [database.database()] * 2, **SLOW_TO_DRAIN) as fleet:
        async with fleet.balancer.running():
            took = await one_pause(fleet, 6)
            print(f"ended {took:.2f} s after it woke up")
            assert took < 6


@pytest.mark.soak
async def test_nodes_that_wake_up_too_late_ten_times(
    database: PostgresServer, tmp_path: Path
) -> None:
    url = database.database()
    with running(tmp_path, [url] * 3, node_ttl=8, node_beat=1, **SLOW_TO_DRAIN) as fleet:
        async with fleet.balancer.running():
            took: list[float] = []
            for _ in range(10):
                took.append(await one_pause(fleet, SESSIONS))
                await asyncio.to_thread(fleet.nodes[0].start)
            figures("ended after it woke up", took)
            assert max(took) < 10
