"""`serve --workers N`: real processes on one port, over a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from resonantgenesis import ResonantGenesis
from support.server import COMMAND, KEY, PATIENCE, Serve, ServerProcess, bearer
from support.wire import Frame, dense, execute, frames, read_all, text_of

pytestmark = pytest.mark.anyio

SECRET = "5e" * 32


def start(serve: Serve, store: str, **options: Any) -> ServerProcess:
    """Two workers. They tell of the careless settings of the tests' database."""
    return serve(may_complain=True, store=store, secret=SECRET, workers=2, **options)


def workers_of(server: ServerProcess) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children()


def spread(server: ServerProcess) -> Counter[int]:
    """The open connections of each worker."""
    found = Counter({worker.pid: 0 for worker in workers_of(server)})
    for worker in workers_of(server):
        with contextlib.suppress(psutil.NoSuchProcess):
            for each in worker.net_connections("tcp"):
                is_client = each.status == psutil.CONN_ESTABLISHED and each.laddr
                found[worker.pid] += bool(is_client) and each.laddr[1] == server.port
    return found


async def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def worker_behind(server: ServerProcess, response: httpx.Response) -> psutil.Process:
    """The worker that has the connection of this response."""
    client = response.extensions["network_stream"].get_extra_info("client_addr")
    for worker in workers_of(server):
        for each in worker.net_connections("tcp"):
            if each.raddr and each.raddr[1] == client[1] and each.laddr[1] == server.port:
                return worker
    raise AssertionError("no worker has the connection")


class Watch:
    """A client with one open stream of a session, on a connection of its own."""

    def __init__(self, server: ServerProcess, session_id: str, after: int = 0) -> None:
        self._client = httpx.AsyncClient(base_url=server.url, headers=bearer(), timeout=60)
        self._server, self._path = server, f"/v1/sessions/{session_id}/stream?resume_from={after}"
        self.seen: list[Frame] = []

    async def open(self) -> Watch:
        request = self._client.build_request("GET", self._path)
        self.response = await self._client.send(request, stream=True)
        assert self.response.status_code == 200
        self.worker = worker_behind(self._server, self.response)
        self._task = asyncio.create_task(self._read())
        return self

    async def _read(self) -> None:
        async for frame in frames(self.response):
            self.seen.append(frame)

    async def end(self) -> None:
        """Wait for the end of the stream. Raises httpx.TransportError if it was cut."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._task
        finally:
            await self._client.aclose()


async def test_connections_are_spread_evenly(serve: Serve, postgres: str) -> None:
    server = start(serve, postgres)
    assert {line["workers"] for line in server.logged("serving")} == {2}
    async with server.client() as client:
        path = "/v1/events/subscribe"
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(30):  # one after the other
                await stack.enter_async_context(client.stream("GET", path))
            first = spread(server)
            assert sum(first.values()) == 30
            assert max(first.values()) - min(first.values()) <= 2
            many = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(200)]
            await until(lambda: sum(spread(server).values()) == 230)
            assert max(spread(server).values()) <= 1.2 * min(spread(server).values())
            for each in many:
                each.close()
    names = sorted(entry.name for entry in server.data.iterdir())
    assert [name for name in names if name.startswith(("clock", "lock"))] == [
        "clock-1",
        "clock-2",
        "lock",
    ]
    # The settings alone are shown by the parent, the rest by both.
    assert {line.get("worker") for line in server.logged("the log is on PostgreSQL")} == {1, 2}


async def test_a_killed_worker(serve: Serve, postgres: str) -> None:
    # Nobody waits until its beat has stood still: its parent knows that it has ended.
    server = start(serve, postgres, node_ttl=300)
    async with server.client() as client:
        body = {"goal": "count to 300", "context": {"words_per_second": 15}}
        sessions = [(await execute(client, **body))["session_id"] for _ in range(2)]
    watches = [await Watch(server, each).open() for each in sessions * 2]
    await until(lambda: all(len(watch.seen) > 3 for watch in watches))
    victim = watches[0].worker
    others = [watch for watch in watches if watch.worker != victim]
    assert 0 < len(others) < len(watches)
    victim.kill()
    (line,) = server.logged("a worker ended")
    assert line["pid"] == victim.pid and line["signal"] == "SIGKILL"
    for watch in watches:
        if watch.worker == victim:
            with pytest.raises(httpx.TransportError):
                await watch.end()
            # It comes back where it was, to whoever is there.
            again = await Watch(server, watch.seen[0].body["session_id"], len(watch.seen)).open()
            await again.end()
            watch.seen += again.seen
        else:
            await watch.end()
        dense(watch.seen)
        assert [frame.event for frame in watch.seen].count("done") == 1
    # Turns of the dead worker end; those of the other one are not touched.
    ends = {watch.seen[-1].body["status"] for watch in watches}
    assert ends <= {"success", "failed"}
    await until(lambda: len(workers_of(server)) == 2)
    new = next(
        each for each in workers_of(server) if each.pid not in {victim.pid, others[0].worker.pid}
    )
    # The new one has the fewest connections, so it gets one of the next ones.
    with contextlib.ExitStack() as stack:

        def is_reached() -> bool:
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            return spread(server)[new.pid] > 0

        await until(is_reached)


async def scraped(server: ServerProcess) -> dict[str, dict[str, float]]:
    """Every sample by its name and other label, and then by its worker."""
    async with httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.get("/metrics")
    assert answer.status_code == 200, answer.text
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = dict(sample.labels)
            worker = labels.pop("worker")
            workers = found.setdefault(" ".join([sample.name, *labels.values()]), {})
            assert worker not in workers, "Prometheus refuses a series that is there twice"
            workers[worker] = sample.value
    return {name.removeprefix("resonantgenesis_"): found[name] for name in found}


async def test_metrics_are_those_of_all_workers(serve: Serve, postgres: str) -> None:
    server = start(serve, postgres, drain_seconds=20)
    pids = {worker.pid for worker in workers_of(server)}
    body = {"goal": "count to 300", "context": {"words_per_second": 15}}
    async with server.client(headers={**bearer(), "Connection": "close"}) as client:
        sessions = [(await execute(client, **body))["session_id"] for _ in range(6)]
    watches = [await Watch(server, each).open() for each in sessions]
    assert {watch.worker.pid for watch in watches} == pids
    for _ in range(3):  # whoever answers
        async with asyncio.timeout(PATIENCE):
            while sum((await scraped(server))["streams_open sse"].values()) != len(watches):
                await asyncio.sleep(0.05)
        found = await scraped(server)
        assert found["streams_open sse"].keys() == {"1", "2"}
        assert all(found["streams_open sse"].values())
        assert sum(found["turns_open running"].values()) == len(sessions)
        assert found["nodes_alive"] == {"1": 2, "2": 2}
        assert sum(found["entries_appended_total chunks"].values()) > len(sessions)
        assert found["commit_seconds_bucket +Inf"] == found["commit_seconds_count"]
        assert all(found["process_resident_memory_bytes"].values())
        assert found["python_gc_collections_total 0"].keys() == {"1", "2"}
    # Its successor has another name, since both live for a while.
    server.process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(60):
        while not {"1", "1b"} <= (await scraped(server))["draining"].keys():
            await asyncio.sleep(0.02)
        for watch in watches:
            with contextlib.suppress(httpx.TransportError):
                await watch.end()
        while (await scraped(server))["draining"] != {"1b": 0, "2b": 0}:
            await asyncio.sleep(0.05)


async def test_all_workers_are_killed_at_once(serve: Serve, postgres: str) -> None:
    server = start(serve, postgres, node_ttl=300)
    victims = workers_of(server)
    async with server.client() as client:
        body = {"goal": "count to 3000", "context": {"words_per_second": 5}}
        sessions = [(await execute(client, **body))["session_id"] for _ in range(2)]
    for victim in victims:
        victim.kill()
    server.logged("a worker ended", 2)
    began = time.monotonic()
    async with server.client() as client:
        # The port is the parent's, so nobody is refused meanwhile.
        for each in sessions:
            found = await read_all(client, each)
            assert [frame.body["code"] for frame in found if frame.event == "error"] == [
                "RUNNER_LOST"
            ]
    print(f"back after {time.monotonic() - began:.2f} s")
    await until(lambda: len(workers_of(server)) == 2)
    assert not {victim.pid for victim in victims} & {each.pid for each in workers_of(server)}


async def test_a_stop_drains(serve: Serve, postgres: str) -> None:
    server = start(serve, postgres, drain_seconds=20)
    async with server.client() as client:
        body = {"goal": "count to 30", "context": {"words_per_second": 15}}
        sessions = [(await execute(client, **body))["session_id"] for _ in range(4)]
    watches = [await Watch(server, each).open() for each in sessions]
    assert len({watch.worker for watch in watches}) == 2
    server.terminate()
    assert await asyncio.to_thread(server.wait) == 0
    for watch in watches:
        with contextlib.suppress(httpx.TransportError):
            await watch.end()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/readyz")
    assert server.logged("draining the workers in turn; a second signal stops at once")
    server.start()
    async with server.client() as client:
        for each in sessions:
            found = await read_all(client, each)
            assert found[-1].body["status"] == "success"
            assert text_of(found).split() == [str(number) for number in range(1, 31)]


async def test_a_second_signal_stops_at_once(serve: Serve, postgres: str) -> None:
    server = start(serve, postgres, drain_seconds=600)
    async with server.client() as client:
        body = {"goal": "count to 3000", "context": {"words_per_second": 5}}
        for _ in range(2):
            await execute(client, **body)
    workers = workers_of(server)
    server.terminate()
    server.logged("draining; a second signal stops at once")
    server.process.send_signal(signal.SIGINT)
    await asyncio.to_thread(server.wait, 20)
    assert not any(worker.is_running() for worker in workers)


async def test_a_roll(serve: Serve, postgres: str, tmp_path: Path) -> None:
    config = tmp_path / "resonantgenesis.toml"
    config.write_text("[limits]\ngoal = 20\n")
    server = start(serve, postgres, drain_seconds=20)
    before = {worker.pid for worker in workers_of(server)}
    async with server.client() as client, ResonantGenesis(api_key=KEY, base_url=server.url) as sdk:
        assert await _long_goal(client) == 413
        body = {"goal": "count to 60", "context": {"words_per_second": 12}}
        sessions = [(await execute(client, **body))["session_id"] for _ in range(4)]

        async def watch(session_id: str) -> list[int]:
            stream = sdk.sessions.join(session_id, resume_from=0)
            return [int(str(chunk.raw["position"])) async for chunk in stream]

        watching = [asyncio.create_task(watch(each)) for each in sessions]
        config.write_text("[limits]\ngoal = 2000\n")
        server.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(60):
            for positions in await asyncio.gather(*watching):
                assert positions == list(range(1, len(positions) + 1))
        await until(lambda: not before & {worker.pid for worker in workers_of(server)})
        await until(lambda: len(workers_of(server)) == 2)
        # Not before: a worker that drains refuses a join.
        for each in sessions:
            found = await read_all(client, each)
            assert found[-1].body["status"] == "success"
        assert [await _long_goal(client) for _ in range(4)] == [202] * 4

        # Settings that cannot be, or not without a restart, leave the workers alone.
        config.write_text("[limits]\ngoal = -1\n")
        server.process.send_signal(signal.SIGHUP)
        server.logged("the settings are refused; the workers go on with theirs")
        config.write_text("host = 'localhost'\n")
        server.process.send_signal(signal.SIGHUP)
        server.logged("only a restart can change these settings; the workers go on")
        assert await _long_goal(client) == 202


async def test_a_roll_is_not_seen_by_new_connections(serve: Serve, postgres: str) -> None:
    server = start(serve, postgres)
    before = {worker.pid for worker in workers_of(server)}
    answers: Counter[int] = Counter()

    async def ask_for_ever() -> None:
        while True:
            async with server.client() as client:
                answer = await client.get("/readyz")
                answers[answer.status_code] += 1
            if answer.status_code == 503:  # it was just connected when its worker was to leave
                assert answer.headers["retry-after"] == "1"
                async with server.client() as client:
                    assert (await client.get("/readyz")).status_code == 200

    asking = [asyncio.create_task(ask_for_ever()) for _ in range(3)]
    server.process.send_signal(signal.SIGHUP)
    await asyncio.to_thread(server.logged, "a worker is replaced", 2)
    await until(lambda: len(workers_of(server)) == 2)
    assert not before & {worker.pid for worker in workers_of(server)}
    assert [task.exception() for task in asking if task.done()] == []
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    assert answers[200] == answers.total() - answers[503] > 20


async def test_workers_drain_one_after_the_other(serve: Serve, postgres: str) -> None:
    server = start(serve, postgres, drain_seconds=60)  # the second hears of it after 30 s at most
    body = {"goal": "count to 45", "context": {"words_per_second": 15}}
    async with server.client(headers={**bearer(), "Connection": "close"}) as client:
        for _ in range(4):
            await execute(client, **body)
        drains = {"event": "draining; a second signal stops at once"}
        server.terminate()
        server.logged(**drains)
        one = min(workers_of(server), key=lambda worker: worker.pid)  # it was started first
        answered = 0
        while one.is_running() and one.status() != psutil.STATUS_ZOMBIE:
            assert [line["worker"] for line in server.logged(**drains)] == [1]
            answered += (await client.get("/readyz")).status_code == 200
        assert answered > 1
    assert [line["worker"] for line in server.logged(**drains, count=2)] == [1, 2]
    assert await asyncio.to_thread(server.wait) == 0


async def test_workers_have_one_generated_key(serve: Serve, postgres: str) -> None:
    server = start(serve, postgres, key=None)
    file = server.data / "api-key"
    assert [line for line in server.log.splitlines() if "API key" in line] == [
        f"API key is in {file}"
    ]
    headers = {**bearer(file.read_text().strip()), "Connection": "close"}
    async with server.client(headers=headers) as client:
        for _ in range(6):
            answer = await client.get("/v1/keys")
            assert [key["name"] for key in answer.json()["data"]] == ["bootstrap"]


async def _long_goal(client: httpx.AsyncClient) -> int:
    """The answer to a goal of more than 20 letters, on a new connection."""
    body = {"agent_id": "guide", "goal": "what is a position, and what is it for?"}
    headers = {"Prefer": "respond-async", "Connection": "close"}
    return (await client.post("/v1/sessions/execute", json=body, headers=headers)).status_code


async def test_a_parent_that_is_killed(serve: Serve, postgres: str) -> None:
    server = start(serve, postgres)
    workers = workers_of(server)
    server.kill()
    # The port and the directory are free at once, and the workers end by themselves.
    server.start()
    await until(lambda: not any(worker.is_running() for worker in workers))


def test_a_start_that_fails_says_one_line(tmp_path: Path) -> None:
    store = f"postgresql:///nobody?host={tmp_path}"
    server = ServerProcess(tmp_path / "data", store=store, secret=SECRET, workers=2)
    server.launch()
    assert server.wait(60) == 2
    (line,) = server.log.splitlines()
    assert line.startswith("resonantgenesis: ") and "Traceback" not in line
    server.stop()


def test_workers_that_end_time_after_time(postgres: str, tmp_path: Path) -> None:
    (tmp_path / "mortal.py").write_text("import os\nos._exit(7)\n")
    agents = {"mortal": "mortal:answer"}
    options = {"store": postgres, "secret": SECRET, "workers": 2, "agents": agents}
    server = ServerProcess(tmp_path / "data", **options)
    server.launch()
    assert server.wait(60) == 1
    assert {line["exit_code"] for line in server.logged("a worker ended", 5)} == {7}
    (last,) = [line for line in server.records() if line["level"] == "critical"]
    assert "time after time" in last["event"]
    server.stop()


def test_an_embedded_store_has_one_process(tmp_path: Path, serve: Serve) -> None:
    command = [*COMMAND, "serve", "--workers", "2", "--data", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "workers: 2 are not possible" in line and "`store`" in line
    assert not (tmp_path / "none").exists()
    server = serve(workers="auto")
    (said,) = [line for line in server.records() if "workers is auto" in line["event"]]
    assert "one process" in said["event"]
    assert not workers_of(server)
