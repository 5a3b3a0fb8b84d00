"""A restart of three nodes, one after the other: nothing is lost, and nobody notices but by a new
connection."""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path

import pytest
from support.fleet import (
    PATIENCE,
    Fleet,
    Viewer,
    check_log,
    client_of,
    last_codes,
    running,
    until,
    watched,
)
from support.postgres import PostgresServer
from support.wire import execute, read_all

pytestmark = pytest.mark.anyio


#: Seconds by which each node's turns outlast those of the node that is restarted before.
RESTART = 7


async def roll(fleet: Fleet, turns: int, streams: int, seconds: float) -> None:
    """SIGTERM each node in turn, amid its turns; each second one has another that waits."""
    queued: set[str] = set()
    viewers: list[Viewer] = []
    clients = [node.client() for node in fleet.nodes]
    for number, client in zip(range(turns), itertools.cycle(clients), strict=False):
        words = int(20 * (seconds + RESTART * (number % len(clients))))
        goal = {"goal": f"count to {words}", "context": {"words_per_second": 20}}
        session_id = (await execute(client, **goal))["session_id"]
        if number % 2:
            queued.add(session_id)
            waiting = {"goal": "count to 3", "session_id": session_id, "if_busy": "enqueue"}
            assert (await execute(client, **waiting))["turn"] == 2
        for each in range(streams // turns):
            node = fleet.nodes[(number + each) % len(fleet.nodes)]
            expected = 2 if session_id in queued else 1
            viewers.append(Viewer(session_id, fleet.addresses(node), turns=expected))
    for client in clients:
        await client.aclose()
    async with watched(viewers) as tasks:
        await until(lambda: all(len(viewer.frames) > 2 for viewer in viewers))
        for node in fleet.nodes:
            began = time.monotonic()
            node.terminate()
            assert await asyncio.to_thread(node.wait, PATIENCE) == 0
            print(f"a node ended after {time.monotonic() - began:.1f} s")
            await asyncio.to_thread(node.start)
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*tasks)
    async with client_of(fleet.balancer.url) as client:
        for viewer in viewers:
            kept = await read_all(client, viewer.session_id, resume_from=0)
            assert kept == viewer.frames
            check_log(kept, viewer.frames)
            waited = ["success"] if viewer.session_id in queued else []
            assert last_codes(kept) == ["success", *waited]
        for status in ("running", "queued"):
            found = await client.get("/v1/sessions", params={"status": status})
            assert found.json()["data"] == []
    assert not [line for node in fleet.nodes for line in node.errors()]


async def waits_elsewhere(fleet: Fleet) -> float:
    """Seconds until a turn runs elsewhere that waits behind one that outlasts the drain."""
    leaving, staying = fleet.nodes[:2]
    async with leaving.client() as client:
        endless = {"goal": "count to 100000", "context": {"words_per_second": 20}}
        session_id = (await execute(client, **endless))["session_id"]
        waiting = {"goal": "count to 3", "session_id": session_id, "if_busy": "enqueue"}
        await execute(client, **waiting)
    viewer = Viewer(session_id, fleet.addresses(staying), turns=2)
    async with watched([viewer]) as (task,):
        await until(lambda: len(viewer.frames) > 5)
        leaving.terminate()
        async with asyncio.timeout(PATIENCE):
            await task
    took = viewer.ended_at[1] - viewer.ended_at[0]
    check_log(viewer.frames, viewer.frames)
    assert last_codes(viewer.frames) == ["cancelled", "success"]
    assert await asyncio.to_thread(leaving.wait) == 0
    await asyncio.to_thread(leaving.start)
    return took


async def test_a_rolling_restart_loses_nothing(database: PostgresServer, tmp_path: Path) -> None:
    with running(tmp_path, [database.database()] * 3, drain_seconds=30) as fleet:
        async with fleet.balancer.running():
            await roll(fleet, 6, 12, 5)


async def test_what_waits_runs_elsewhere_when_its_node_leaves(
    database: PostgresServer, tmp_path: Path
) -> None:
    with running(tmp_path, [database.database()] * 2, drain_seconds=1) as fleet:
        async with fleet.balancer.running():
            took = await waits_elsewhere(fleet)
            print(f"the turn that waited had its end {took:.2f} s later")
            assert took < 3


@pytest.mark.soak
async def test_a_rolling_restart_of_fifty_turns(database: PostgresServer, tmp_path: Path) -> None:
    with running(tmp_path, [database.database()] * 3, drain_seconds=60) as fleet:
        async with fleet.balancer.running():
            await roll(fleet, 50, 500, 30)
