"""Workers over several nodes: one that is connected anywhere serves turns of every node."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets
from resonantgenesis import AgentFailed, ResonantGenesis
from support.fleet import PATIENCE, Fleet, client_of, running, until
from support.postgres import PostgresServer
from support.server import KEY, ServerProcess, bearer
from support.serving import CuttingProxy, WorkerProcess, listed
from support.wire import execute, read_all

pytestmark = pytest.mark.anyio

Start = Callable[..., WorkerProcess]
SETTINGS: dict[str, Any] = {"limits__worker_grace": 8, "limits__worker_lease": 4}


@pytest.fixture
def fleet(database: PostgresServer, tmp_path: Path) -> Iterator[Fleet]:
    with running(tmp_path, [database.database()] * 2, **SETTINGS) as started:
        yield started


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Start]:
    started: list[WorkerProcess] = []

    def start(node: ServerProcess, handler: str, **options: Any) -> WorkerProcess:
        made = WorkerProcess(node, "served", handler, tmp_path, **options)
        started.append(made)
        return made.ready()

    yield start
    for each in started:
        each.stop()


@asynccontextmanager
async def sdk_of(node: ServerProcess) -> AsyncIterator[ResonantGenesis]:
    async with ResonantGenesis(api_key=KEY, base_url=node.url, max_retries=30) as sdk:
        yield sdk


async def start_turn(node: ServerProcess, goal: str, **context: Any) -> str:
    async with client_of(node.url) as client:
        return str(
            (await execute(client, agent_id="served", goal=goal, context=context))["session_id"]
        )


async def ending(node: ServerProcess, session: str) -> tuple[str, str]:
    """How the only turn ended, and its text; the log is dense and has one end."""
    async with client_of(node.url) as client:
        kept = await read_all(client, session, resume_from=0)
    assert [frame.position for frame in kept] == list(range(1, len(kept) + 1))
    assert [frame.event for frame in kept].count("done") == 1
    text = "".join(frame.body["content"] for frame in kept if frame.event == "message")
    before, done = kept[-2:]
    return before.body["code"] if before.event == "error" else done.body["status"], text


def expected(goal: str, count: int) -> str:
    return "".join(f"{goal}-{piece:06d} " for piece in range(1, count + 1))


async def test_a_worker_at_one_node_serves_turns_of_the_other(fleet: Fleet, worker: Start) -> None:
    here, there = fleet.nodes
    mine = worker(there, "paced", capacity=50)
    assert [each["name"] for each in listed(here)] == [mine.name]
    async with sdk_of(here) as sdk:

        async def one(number: int) -> tuple[str, str | None]:
            context = {"count": 100, "pace": 200}
            result = await sdk.sessions.execute(
                agent_id="served", goal=f"t{number}", context=context
            )
            return result.status, result.output

        results = await asyncio.gather(*(one(number) for number in range(40)))
    assert results == [("success", expected(f"t{number}", 100)) for number in range(40)]


async def test_chunks_without_a_json_form_end_their_turn_alone(fleet: Fleet, worker: Start) -> None:
    """They travel between the nodes with those of other organizations."""
    here, there = fleet.nodes
    worker(there, "paced")
    async with client_of(here.url) as admin:
        made = (await admin.post("/v1/organizations", json={"name": "other"})).json()
    key = made["key"]["key"]
    session = await start_turn(here, "x", count=300, pace=100)
    async with ResonantGenesis(api_key=key, base_url=here.url) as sdk:
        await sdk.agents.create(id="deep", name="deep", engine="worker")
        for number in range(10):
            async with websockets.connect(
                f"{there.url.replace('http', 'ws', 1)}/v1/agents/deep/serve",
                additional_headers=bearer(key),
            ) as socket:
                hello = {"type": "hello", "worker_id": f"worker_number_{number:06d}", "capacity": 1}
                await socket.send(json.dumps(hello))
                await socket.recv()
                turn = asyncio.create_task(sdk.sessions.execute(agent_id="deep", goal="y"))
                assign = json.loads(await socket.recv())
                nested = "[" * 400 + "]" * 400
                chunk = {"type": "data", "name": "n", "data": "NESTED"}
                said = {"type": "chunks", "assignment": assign["assignment"], "seq": 1}
                text = json.dumps({**said, "chunks": [chunk]})
                await socket.send(text.replace('"NESTED"', nested))
                async with asyncio.timeout(PATIENCE):
                    with pytest.raises(AgentFailed, match="no JSON form"):
                        await turn
                assert json.loads(await socket.recv())["type"] == "cancel"
    async with sdk_of(here) as sdk, asyncio.timeout(PATIENCE):
        async for _ in sdk.sessions.join(session):
            pass
    assert await ending(there, session) == ("success", expected("x", 300))


async def test_a_turn_waits_for_a_worker_at_any_node_and_is_cancelled_there(
    fleet: Fleet, worker: Start, tmp_path: Path
) -> None:
    here, there = fleet.nodes
    async with sdk_of(here) as sdk:
        await sdk.agents.create(id="served", name="served", engine="worker")
        session = await start_turn(here, "x", ended=str(tmp_path / "ended"))
        await asyncio.to_thread(worker, there, "minding")
        async for chunk in sdk.sessions.join(session):
            if chunk.type == "text":
                await sdk.sessions.cancel(session)
        await until((tmp_path / "ended").exists)
        await until(lambda: [each["running"] for each in listed(there)] == [0])
    assert await ending(there, session) == ("cancelled", "waiting")


async def test_a_worker_goes_to_another_node_when_its_own_dies(fleet: Fleet, worker: Start) -> None:
    """The turn runs at one node, its worker's socket is at another one, which is killed."""
    here, there = fleet.nodes
    async with fleet.balancer.running():
        # The balancer gives its socket to one of the nodes: the turn runs at the other one.
        await asyncio.to_thread(worker, there, "paced", url=fleet.balancer.url)
        there = node_of_worker(fleet)
        here = fleet.other(there)
        session = await start_turn(here, "x", count=600, pace=60)
        async with client_of(here.url) as client:
            while (await client.get(f"/v1/sessions/{session}")).json()["position"] < 50:
                await asyncio.sleep(0.05)
        there.kill()
        async with asyncio.timeout(PATIENCE):
            while (end := await state(here, session)) == "running":
                await asyncio.sleep(0.1)
        assert end == "completed"
        assert await ending(here, session) == ("success", expected("x", 600))


async def test_a_killed_node_loses_what_had_begun_and_the_rest_runs_elsewhere(
    fleet: Fleet, worker: Start, tmp_path: Path
) -> None:
    here, there = fleet.nodes
    hold = tmp_path / "hold"
    begins = worker(there, "early")
    begun = await start_turn(here, "x", hold=str(hold))
    async with client_of(there.url) as client:
        while (await client.get(f"/v1/sessions/{begun}")).json()["output"] != "begun ":
            await asyncio.sleep(0.05)
        begins.send(signal.SIGTERM)
        waiting = await start_turn(here, "y")
        here.kill()
        last = await asyncio.to_thread(worker, there, "late")
        async with asyncio.timeout(PATIENCE):
            while (
                await state(there, begun) == "running" or await state(there, waiting) == "running"
            ):
                await asyncio.sleep(0.1)
    assert await ending(there, begun) == ("RUNNER_LOST", "begun ")
    assert await ending(there, waiting) == ("success", f"y by {last.pid}")


async def test_cuts_between_workers_and_nodes_lose_and_double_nothing(
    fleet: Fleet, tmp_path: Path
) -> None:
    """Turns at both nodes, workers at both, and every socket is cut at random points."""
    here, there = fleet.nodes
    async with sdk_of(here) as sdk:
        await sdk.agents.create(id="served", name="served", engine="worker")
    rng = random.Random(11)
    async with fleet.balancer.running():
        proxy = CuttingProxy(fleet.balancer.port, rng, (4_000, 40_000))
        async with proxy.running(), sdk_of(here) as one, sdk_of(there) as other:
            workers = [
                await asyncio.to_thread(
                    WorkerProcess, here, "served", "paced", tmp_path, url=proxy.url, capacity=15
                )
                for _ in range(2)
            ]
            try:

                async def run(sdk: ResonantGenesis, number: int) -> tuple[str, str | None]:
                    context = {"count": 200, "pace": 100}
                    result = await sdk.sessions.execute(
                        agent_id="served", goal=f"t{number}", context=context
                    )
                    return result.status, result.output

                results = await asyncio.gather(
                    *(run(one if number % 2 else other, number) for number in range(24))
                )
            finally:
                for each in workers:
                    each.stop()
    assert results == [("success", expected(f"t{number}", 200)) for number in range(24)]
    assert proxy.cuts >= 4


async def state(node: ServerProcess, session: str) -> str:
    async with client_of(node.url) as client:
        return str((await client.get(f"/v1/sessions/{session}")).json()["status"])


def node_of_worker(fleet: Fleet) -> ServerProcess:
    """The node that has the only worker's socket."""
    said = {"event": "a worker is there"}.items()
    return next(
        node for node in fleet.nodes if any(said <= line.items() for line in node.records())
    )
