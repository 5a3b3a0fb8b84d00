"""Turns of teams over two nodes: read, answered and cancelled at another one, whichever dies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from resonantgenesis import ResonantGenesis
from support.fleet import PATIENCE, Fleet, client_of, running
from support.postgres import PostgresServer
from support.server import KEY, ServerProcess
from support.wire import read_all

pytestmark = pytest.mark.anyio

NAMES = ("upper", "numbers", "in_thread", "failing", "endless", "asks", "stops", "lead")


@contextlib.contextmanager
def two_nodes(database: PostgresServer, folder: Path) -> Iterator[Fleet]:
    agents = {name: f"support.team_agents:{name}" for name in NAMES}
    with running(folder, [database.database()] * 2, agents=agents) as started:
        yield started


@pytest.fixture(scope="module")
def fleet(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """Two that live through all tests that kill none."""
    with two_nodes(postgres_server, tmp_path_factory.mktemp("teams")) as started:
        yield started


@pytest.fixture
def mortal(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Fleet]:
    with two_nodes(postgres_server, tmp_path) as started:
        yield started


@asynccontextmanager
async def sdk_of(node: ServerProcess) -> AsyncIterator[ResonantGenesis]:
    async with ResonantGenesis(api_key=KEY, base_url=node.url, max_retries=30) as sdk:
        yield sdk


async def team(sdk: ResonantGenesis, strategy: str, *members: str, **fields: Any) -> str:
    named = [{"agent_id": each} for each in members]
    return (await sdk.teams.create(name="t", strategy=strategy, members=named, **fields)).id


async def begin(sdk: ResonantGenesis, team_id: str, until: str, **fields: Any) -> str:
    """A turn's session, once the first chunk of type `until` is there."""
    stream = sdk.sessions.execute_stream(agent_id=team_id, **fields)
    async for chunk in stream:
        if chunk.type == until:
            return str(stream.session_id)
    raise AssertionError(f"the turn ended without {until}")


async def log_of(node: ServerProcess, session: str) -> list[dict[str, Any]]:
    """The chunks as this node gives them: dense, with one end."""
    async with asyncio.timeout(PATIENCE), client_of(node.url) as http:
        while (await http.get(f"/v1/sessions/{session}")).json()["status"] in (
            "running",
            "waiting",
        ):
            await asyncio.sleep(0.05)
        kept = await read_all(http, session, resume_from=0)
    assert [frame.position for frame in kept] == list(range(1, len(kept) + 1))
    assert [frame.event for frame in kept].count("done") == 1
    return [frame.body for frame in kept]


def text_of(chunks: list[dict[str, Any]], member: str) -> str:
    texts = [each for each in chunks if each["type"] == "text" and each.get("agent_id") == member]
    return "".join(each["content"] for each in texts)


async def events_of(sdk: ResonantGenesis, session: str) -> list[str]:
    found = sdk.events.replay(
        since="2026-01-01", events=["team.*"], filters={"session_id": session}
    )
    return [event.type async for event in found]


async def test_each_node_reads_the_turn_of_the_other(fleet: Fleet) -> None:
    here, there = fleet.nodes
    numbers = "".join(f"{number} " for number in range(200))
    async with sdk_of(here) as sdk, sdk_of(there) as other:
        made = await team(sdk, "parallel", "numbers", "in_thread", "upper")
        stream = sdk.sessions.execute_stream(agent_id=made, goal="hi", context={"count": 200})
        first = await anext(aiter(stream))
        session = str(first.raw["session_id"])
        seen = [chunk.raw async for chunk in other.sessions.join(session, resume_from=0)]
        assert seen == await log_of(here, session) == await log_of(there, session)
        assert text_of(seen, "numbers") == text_of(seen, "in_thread") == numbers
        for reader in (sdk, other):
            kinds = await events_of(reader, session)
            assert (kinds[0], kinds[-1]) == ("team.execution.started", "team.execution.completed")
            assert kinds.count("team.task.completed") == 3


async def test_the_answers_come_to_the_other_node(fleet: Fleet) -> None:
    """One member awaits its answer in its place, the other has returned."""
    here, there = fleet.nodes
    async with sdk_of(here) as sdk, sdk_of(there) as other:
        made = await team(sdk, "parallel", "asks", "stops")
        session = await begin(sdk, made, "waiting", goal="hi")
        asked: set[str] = set()
        async with asyncio.timeout(PATIENCE):
            while asked != {"call_1_1.name", "call_1_2.name"}:
                state = await other.sessions.get(session)
                for ask in state.waiting:
                    await other.sessions.input(session, ask.call_id, payload="Bo")
                    asked.add(ask.call_id)
                await asyncio.sleep(0.02)
    chunks = await log_of(there, session)
    assert text_of(chunks, "asks") == "May I? Hello Bo."
    assert text_of(chunks, "stops") == "May I? Hello Bo; said May I? "


async def test_a_cancel_at_the_other_node_reaches_all(fleet: Fleet) -> None:
    here, there = fleet.nodes
    async with sdk_of(here) as sdk, sdk_of(there) as other:
        made = await team(sdk, "parallel", "endless", "upper", "asks")
        session = await begin(sdk, made, "text", goal="hi")
        await other.sessions.cancel(session)
        chunks = await log_of(here, session)
        assert chunks[-1]["status"] == "cancelled"
        assert (await events_of(other, session))[-1] == "team.execution.cancelled"


async def test_a_killed_node_loses_what_worked_and_nothing_that_waited(mortal: Fleet) -> None:
    """A lead whose member waits goes on at the other node, and no task of its is done twice."""
    here, there = mortal.nodes
    async with sdk_of(here) as sdk, sdk_of(there) as other:
        members = ("lead", "upper", "stops", "failing")
        led = await team(sdk, "hierarchical", *members, lead="lead", on_failure="continue")
        waiting = await begin(sdk, led, "waiting", goal="upper:one;stops:two;failing:three")
        row = await team(sdk, "sequential", "upper", "stops")
        after = await begin(sdk, row, "waiting", goal="hi")
        working = await begin(
            sdk, await team(sdk, "parallel", "endless", "upper"), "tool_result", goal="hi"
        )
        here.kill()
        await other.sessions.input(waiting, "d1.name", payload="Bo")
        await other.sessions.input(after, "call_1_2.name", payload="Bo")
        chunks = await log_of(there, waiting)
        said = "ONE / May I? Hello Bo; said May I?  / the shop is closed"
        assert chunks[-1]["output"] == f"Let me ask 3. {said}"
        results = [each for each in chunks if each["type"] == "tool_result"]
        assert sorted(each["call_id"] for each in results if "parent" not in each) == [
            "d0", "d1", "d2",
        ]  # fmt: skip
        chunks = await log_of(there, after)
        assert (text_of(chunks, "upper"), chunks[-1]["status"]) == ("HI", "success")
        assert text_of(chunks, "stops") == "May I? Hello Bo; said May I? "
        kinds = await events_of(other, after)
        assert kinds.count("team.task.assigned") == kinds.count("team.task.completed") == 2
        lost = await log_of(there, working)
        assert [each["type"] for each in lost[-2:]] == ["error", "done"]
        assert lost[-2]["code"] == "RUNNER_LOST"
        assert (await events_of(other, working))[-1] == "team.execution.failed"
