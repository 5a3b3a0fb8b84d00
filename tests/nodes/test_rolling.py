"""A restart of three nodes, one after the other: nothing is lost, and nobody notices but by a new
connection."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from support.fleet import (
    ENDLESS,
    PATIENCE,
    Fleet,
    Viewer,
    check_kept,
    check_log,
    client_of,
    enqueue,
    last_codes,
    none_is_open,
    running,
    until,
    watched,
)
from support.postgres import PostgresServer
from support.server import ServerProcess
from support.wire import Frame, execute

pytestmark = pytest.mark.anyio


async def start(
    fleet: Fleet, node: ServerProcess, turns: int, streams: int, seconds: float
) -> list[Viewer]:
    """Turns of this node with viewers at all; each second one has another that waits."""
    viewers: list[Viewer] = []
    async with node.client() as client:
        for number in range(turns):
            goal = {"goal": f"count to {int(20 * seconds)}"}
            paced = {**goal, "context": {"words_per_second": 20}}
            session_id = (await execute(client, **paced))["session_id"]
            if number % 2:
                await enqueue(client, session_id)
            nodes = itertools.islice(itertools.cycle(fleet.nodes), streams // turns)
            viewers += [Viewer(session_id, fleet.addresses(n), turns=1 + number % 2) for n in nodes]
    return viewers


async def roll(fleet: Fleet, turns: int, streams: int, seconds: float) -> None:
    """SIGTERM each node in turn, amid turns of its own that last `seconds`."""
    share = len(fleet.nodes)
    viewers: list[Viewer] = []
    tasks: list[asyncio.Task[list[Frame]]] = []
    async with AsyncExitStack() as stack:
        for node in fleet.nodes:
            begun = await start(fleet, node, turns // share, streams // share, seconds)
            viewers += begun
            tasks += await stack.enter_async_context(watched(begun))
            async with asyncio.timeout(PATIENCE):
                while not all(len(viewer.frames) > 2 for viewer in begun):
                    await asyncio.sleep(0.005)
            began = time.monotonic()
            node.terminate()
            assert await asyncio.to_thread(node.wait, PATIENCE) == 0
            print(f"a node ended after {time.monotonic() - began:.1f} s")
            await asyncio.to_thread(node.start)
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*tasks)
    async with client_of(fleet.balancer.url) as client:
        for viewer in viewers:
            await check_kept(client, viewer, ["success"] * viewer.turns)
    await none_is_open(fleet)
    assert not [line for node in fleet.nodes for line in node.errors()]


async def waits_elsewhere(fleet: Fleet) -> float:
    """Seconds until a turn runs elsewhere that waits behind one that outlasts the drain."""
    leaving, staying = fleet.nodes[:2]
    async with leaving.client() as client:
        session_id = (await execute(client, **ENDLESS))["session_id"]
        await enqueue(client, session_id)
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
