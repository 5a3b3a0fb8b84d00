"""More than one node dies: the heir amid its inheritance, two at once, all at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from nodes.test_kill import Started, check_ended, start
from support.fleet import (
    PATIENCE,
    SESSIONS,
    Fleet,
    check_log,
    client_of,
    last_codes,
    none_is_open,
    running,
    until,
    watched,
)
from support.postgres import PostgresServer
from support.server import ServerProcess
from support.wire import read_all

pytestmark = pytest.mark.anyio


async def ends(fleet: Fleet, started: Sequence[Started], since: float) -> None:
    """Every turn of a dead node ends, and what waited behind it has run."""
    viewers = [each.viewer for each in started]
    await until(lambda: all(v.done == v.turns for v in viewers), fleet.ttl + PATIENCE)
    print(f"takeover after {max(viewer.ended_at[0] for viewer in viewers) - since:.2f} s")


async def heir_dies(fleet: Fleet, sessions: int) -> None:
    """The node that takes up sessions is killed as soon as somebody has seen it do so."""
    started = await start(fleet, sessions)
    first, *others = fleet.nodes
    mine = [each for each in started if each.node is first]
    async with watched([each.viewer for each in started]) as tasks:
        await until(lambda: all(len(each.viewer.frames) > 5 for each in started))
        began = time.monotonic()
        await asyncio.to_thread(first.kill)
        await until(lambda: any(each.viewer.done for each in mine), fleet.ttl + PATIENCE)
        await asyncio.to_thread(others[0].kill)
        ended = [each for each in started if each.node is not fleet.nodes[-1]]
        await ends(fleet, ended, began)
        await asyncio.to_thread(fleet.nodes[-1].kill)
        await asyncio.to_thread(fleet.start)
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*tasks)
    async with client_of(fleet.balancer.url) as client:
        for each in started:
            kept = await read_all(client, each.session_id, resume_from=0)
            check_log(kept, each.viewer.frames)
            # A turn that waited may have been running at the heir.
            codes = last_codes(kept)
            assert codes[0] == "RUNNER_LOST" and set(codes[1:]) <= {"RUNNER_LOST", "success"}
            assert len(codes) == each.viewer.turns
    await none_is_open(fleet)


async def some_die(fleet: Fleet, sessions: int, victims: Sequence[ServerProcess]) -> None:
    """These nodes are killed in one moment, and all that is dead is started again."""
    started = await start(fleet, sessions)
    hit = [each for each in started if each.node in victims]
    async with watched([each.viewer for each in started]) as tasks:
        await until(lambda: all(len(each.viewer.frames) > 5 for each in started))
        began = time.monotonic()
        for victim in victims:
            victim.process.kill()
        for victim in victims:
            await asyncio.to_thread(victim.wait)
        if not fleet.living:
            await asyncio.to_thread(fleet.start)
        await ends(fleet, hit, began)
        rest = [node for node in fleet.nodes if node not in victims]
        for node in rest:
            assert not any(each.viewer.done for each in started if each.node is node)
            await asyncio.to_thread(node.kill)
        if rest:
            await asyncio.to_thread(fleet.start)
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*tasks)
    await check_ended(fleet, started)
    await none_is_open(fleet)


@pytest.mark.soak
async def test_the_heir_dies_amid_its_inheritance(database: PostgresServer, tmp_path: Path) -> None:
    with running(tmp_path, [database.database()] * 3) as fleet:
        async with fleet.balancer.running():
            await heir_dies(fleet, 12)


async def test_two_and_then_all_nodes_die_at_once(database: PostgresServer, tmp_path: Path) -> None:
    with running(tmp_path, [database.database()] * 3) as fleet:
        async with fleet.balancer.running():
            await some_die(fleet, 9, fleet.nodes[:2])
            await some_die(fleet, 9, fleet.nodes)


@pytest.mark.soak
async def test_heirs_and_whole_fleets_die(database: PostgresServer, tmp_path: Path) -> None:
    with running(tmp_path, [database.database()] * 3, node_ttl=8, node_beat=1) as fleet:
        async with fleet.balancer.running():
            for _ in range(5):
                await heir_dies(fleet, SESSIONS)
                await some_die(fleet, SESSIONS, fleet.nodes[:2])
                await some_die(fleet, 200, fleet.nodes)
