"""A restart of three nodes, one after the other: nothing is lost, and nobody notices but by a new
connection."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.fleet import (
    ENDLESS,
    PATIENCE,
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
from support.wire import execute, read_all

pytestmark = pytest.mark.anyio
#: Turns that a viewer waits for until it is told how many there are.
_MANY = 1_000_000


@dataclass
class Conversation:
    """Turns of one session, one behind the other, that viewers at all nodes read from the start."""

    fleet: Fleet
    number: int
    seconds: float
    rate: int
    viewers: list[Viewer] = field(default_factory=list)

    async def begin(self, client: httpx.AsyncClient, streams: int) -> None:
        session_id = await self._send(client, 1)
        nodes = itertools.islice(itertools.cycle(self.fleet.nodes), streams)
        self.viewers = [Viewer(session_id, self.fleet.addresses(n), _MANY) for n in nodes]

    async def go_on(self, client: httpx.AsyncClient, over: asyncio.Event) -> None:
        """Until `over`, and one turn more. In every second conversation a turn always waits."""
        waits = self.number % 2
        for turn in itertools.count(2):
            while self.viewers[0].done < turn - 1 - waits:
                await asyncio.sleep(0.02)
            is_last = over.is_set()
            if is_last:
                for viewer in self.viewers:
                    viewer.turns = turn
            await self._send(client, turn)
            if is_last:
                return

    async def _send(self, client: httpx.AsyncClient, turn: int) -> str:
        body: dict[str, Any] = {
            "agent_id": "guide",
            "goal": f"count to {int(self.rate * self.seconds)}",
            "context": {"words_per_second": self.rate},
            "if_busy": "enqueue",
        }
        if self.viewers:
            body["session_id"] = self.viewers[0].session_id
        key = f"{self.number}-{turn}"
        return str((await send_again(client, "/v1/sessions/execute", body, key))["session_id"])


async def roll(fleet: Fleet, turns: int, streams: int, seconds: float, rate: int = 20) -> None:
    """SIGTERM each node in turn. All the time `turns` turns run, and `streams` streams are open."""
    conversations = [Conversation(fleet, number, seconds, rate) for number in range(turns)]
    over = asyncio.Event()
    took: list[float] = []
    async with client_of(fleet.balancer.url) as client:
        await asyncio.gather(*(each.begin(client, streams // turns) for each in conversations))
        viewers = [viewer for each in conversations for viewer in each.viewers]
        async with watched(viewers) as tasks, asyncio.TaskGroup() as going_on:
            await until(lambda: all(len(viewer.frames) > 2 for viewer in viewers))
            for each in conversations:
                going_on.create_task(each.go_on(client, over))
            for node in fleet.nodes:
                began = time.monotonic()
                node.terminate()
                assert await asyncio.to_thread(node.wait, PATIENCE) == 0
                took.append(time.monotonic() - began)
                await asyncio.to_thread(node.start)
            over.set()
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*tasks)
        figures("a node ended", took)
        for each in conversations:
            kept = await read_all(client, each.viewers[0].session_id, resume_from=0)
            for viewer in each.viewers:
                assert viewer.frames == kept
            check_log(kept, kept)
            assert last_codes(kept) == ["success"] * each.viewers[0].turns
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
            await roll(fleet, 6, 12, 2)


async def test_what_waits_runs_elsewhere_when_its_node_leaves(
    database: PostgresServer, tmp_path: Path
) -> None:
    with running(tmp_path, [database.database()] * 2, drain_seconds=1) as fleet:
        async with fleet.balancer.running():
            took = await waits_elsewhere(fleet)
            print(f"the turn that waited had its end {took:.2f} s later")
            assert took < 3


@pytest.mark.soak
async def test_a_rolling_restart_of_fifty_turns_and_five_hundred_streams(
    database: PostgresServer, tmp_path: Path
) -> None:
    # A node must not be late by 3 s, as those of short tests, while 500 streams come at once.
    patience = {"drain_seconds": 60, "node_ttl": 10, "node_beat": 1}
    with running(tmp_path, [database.database()] * 3, **patience) as fleet:
        async with fleet.balancer.running():
            await roll(fleet, 50, 500, 10, rate=5)
