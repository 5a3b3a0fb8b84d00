"""Workers, networks and servers that die: no chunk is lost, none comes twice."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from resonantgenesis import AgentFailed, ResonantGenesis, SyncResonantGenesis
from support.server import KEY, PATIENCE, Serve, ServerProcess, bearer
from support.serving import CuttingProxy, WorkerProcess, listed

pytestmark = pytest.mark.anyio

#: Seconds: a worker that is gone is found gone soon, and a cut on a busy machine is still short.
SOON: dict[str, Any] = {"limits__worker_grace": 1, "limits__worker_lease": 2}
Start = Callable[..., WorkerProcess]


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Start]:
    started: list[WorkerProcess] = []

    def start(server: ServerProcess, handler: str, **options: Any) -> WorkerProcess:
        made = WorkerProcess(server, "served", handler, tmp_path, **options)
        started.append(made)
        return made.ready()

    yield start
    for each in started:
        each.stop()


def client_of(server: ServerProcess) -> SyncResonantGenesis:
    return SyncResonantGenesis(api_key=KEY, base_url=server.url, max_retries=30)


def execute_soon(server: ServerProcess, goal: str, **context: str) -> str:
    """Start a turn; the id of its session."""
    answer = httpx.post(
        f"{server.url}/v1/sessions/execute",
        json={"agent_id": "served", "goal": goal, "context": context},
        headers={**bearer(), "Prefer": "respond-async"},
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["session_id"])


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def texts_of(client: SyncResonantGenesis, session: str) -> list[str]:
    """The whole stream, once: every text, and the way in which the turn ended."""
    chunks = list(client.sessions.join(session, resume_from=0, raise_on_error=False))
    assert [chunk.position for chunk in chunks] == list(range(1, len(chunks) + 1))
    assert [chunk.type for chunk in chunks].count("done") == 1
    ends = [chunk.code or chunk.status or "" for chunk in chunks if chunk.type in {"error", "done"}]
    return [chunk.content for chunk in chunks if chunk.type == "text"] + ends


def pids(took: Path) -> list[int]:
    return [int(pid) for pid in took.read_text().split()] if took.exists() else []


def test_a_worker_killed_before_its_first_chunk_has_its_turn_given_to_another(
    serve: Serve, worker: Start, tmp_path: Path
) -> None:
    server = serve(**SOON)
    took, hold = tmp_path / "took", tmp_path / "hold"
    first = worker(server, "late")
    session = execute_soon(server, "x", took=str(took), hold=str(hold))
    until(lambda: pids(took) == [first.pid])
    second = worker(server, "late")
    first.kill()
    until(lambda: pids(took) == [first.pid, second.pid])
    hold.touch()
    with client_of(server) as client:
        assert texts_of(client, session) == [f"x by {second.pid}", "success"]


def test_a_worker_killed_after_its_first_chunk_loses_the_turn(
    serve: Serve, worker: Start, tmp_path: Path
) -> None:
    server = serve(**SOON)
    took = tmp_path / "took"
    first = worker(server, "early")
    session = execute_soon(server, "x", took=str(took), hold=str(tmp_path / "never"))
    with client_of(server) as client:
        stream = client.sessions.join(session)
        with pytest.raises(AgentFailed) as lost:
            for chunk in stream:
                if chunk.type == "text":
                    worker(server, "early")  # which must not get it
                    first.kill()
        assert (lost.value.code, lost.value.retryable) == ("RUNNER_LOST", True)
        assert texts_of(client, session) == ["begun ", "RUNNER_LOST", "failed"]
    assert pids(took) == [first.pid]


def test_three_workers_that_die_with_a_turn_end_it(
    serve: Serve, worker: Start, tmp_path: Path
) -> None:
    server = serve(**SOON)
    took = tmp_path / "took"
    workers = [worker(server, "late") for _ in range(4)]
    session = execute_soon(server, "x", took=str(took), hold=str(tmp_path / "never"))
    for count in (1, 2, 3):
        until(lambda count=count: len(pids(took)) == count)  # type: ignore[misc]
        (victim,) = [each for each in workers if each.pid == pids(took)[-1]]
        victim.kill()
    with client_of(server) as client:
        assert texts_of(client, session) == ["RUNNER_LOST", "failed"]
    assert len(pids(took)) == 3


def test_a_frozen_worker_that_wakes_up_changes_nothing(
    serve: Serve, worker: Start, tmp_path: Path
) -> None:
    server = serve(**SOON)
    took, hold = tmp_path / "took", tmp_path / "hold"
    frozen = worker(server, "late")
    session = execute_soon(server, "x", took=str(took), hold=str(hold))
    until(lambda: pids(took) == [frozen.pid])
    frozen.send(signal.SIGSTOP)
    other = worker(server, "late")
    until(lambda: pids(took) == [frozen.pid, other.pid])
    hold.touch()  # both may speak now, as soon as the first one is awake
    frozen.send(signal.SIGCONT)
    with client_of(server) as client:
        assert texts_of(client, session) == [f"x by {other.pid}", "success"]
        frozen.ready()
        other.kill()
        until(lambda: [each["name"] for each in listed(server)] == [frozen.name])
        assert client.sessions.execute(agent_id="served", goal="y").output == f"y by {frozen.pid}"
        assert texts_of(client, session) == [f"x by {other.pid}", "success"]


async def test_cuts_at_random_points_lose_and_double_nothing(serve: Serve, tmp_path: Path) -> None:
    """The worker's way to the server is cut again and again, in both directions."""
    server = serve()
    rng = random.Random(7)
    proxy = CuttingProxy(server.port, rng, (2_000, 30_000))
    async with proxy.running(), ResonantGenesis(api_key=KEY, base_url=server.url) as sdk:
        await sdk.agents.create(id="served", name="served", engine="worker")
        process = await asyncio.to_thread(
            WorkerProcess, server, "served", "paced", tmp_path, url=proxy.url, capacity=20
        )
        try:

            async def one(number: int) -> tuple[str, str | None]:
                context = {"count": 300, "pace": 150}
                result = await sdk.sessions.execute(
                    agent_id="served", goal=f"t{number}", context=context
                )
                return result.status, result.output

            results = await asyncio.gather(*(one(number) for number in range(20)))
        finally:
            process.stop()
    for number, result in enumerate(results):
        text = "".join(f"t{number}-{piece:06d} " for piece in range(1, 301))
        assert result == ("success", text)
    assert proxy.cuts >= 5


def test_a_turn_that_waits_for_a_worker_outlives_the_server(serve: Serve, worker: Start) -> None:
    server = serve()
    with client_of(server) as client:
        client.agents.create(id="served", name="served", engine="worker")
        session = execute_soon(server, "x")
        until(lambda: client.sessions.get(session).status == "running")
        server.kill()
        server.start()
        mine = worker(server, "late")
        assert texts_of(client, session) == [f"x by {mine.pid}", "success"]


def test_a_turn_that_waits_for_a_worker_outlives_a_stop(serve: Serve, worker: Start) -> None:
    server = serve(drain_seconds=0.5)
    with client_of(server) as client:
        client.agents.create(id="served", name="served", engine="worker")
        session = execute_soon(server, "x")
        until(lambda: client.sessions.get(session).status == "running")
        server.terminate()
        assert server.wait() == 0
        server.start()
        mine = worker(server, "late")
        assert texts_of(client, session) == [f"x by {mine.pid}", "success"]


def test_a_worker_outlives_the_server_and_its_turns_go_by_the_rule(
    serve: Serve, worker: Start, tmp_path: Path
) -> None:
    """A turn that had begun is lost, and the worker serves on."""
    server = serve(**SOON)
    took, hold = tmp_path / "took", tmp_path / "hold"
    mine = worker(server, "early")
    with client_of(server) as client:
        begun = execute_soon(server, "x", took=str(took), hold=str(hold))
        until(lambda: client.sessions.get(begun).output == "begun ")
        server.kill()
        server.start()
        mine.ready()
        assert texts_of(client, begun) == ["begun ", "RUNNER_LOST", "failed"]
        hold.touch()
        result = client.sessions.execute(agent_id="served", goal="y")
        assert result.output == "begun ended"
        assert texts_of(client, begun) == ["begun ", "RUNNER_LOST", "failed"]
    assert pids(took) == [mine.pid]


def test_a_server_that_stops_lets_turns_in_workers_end(
    serve: Serve, worker: Start, tmp_path: Path
) -> None:
    server = serve(drain_seconds=20)
    hold = tmp_path / "hold"
    mine = worker(server, "early")
    with client_of(server) as client:
        session = execute_soon(server, "x", hold=str(hold))
        until(lambda: client.sessions.get(session).output == "begun ")
        server.terminate()
        hold.touch()
        assert server.wait() == 0
        server.start()
        assert texts_of(client, session) == ["begun ", "ended", "success"]
        mine.ready()
        assert client.sessions.execute(agent_id="served", goal="y").status == "success"
