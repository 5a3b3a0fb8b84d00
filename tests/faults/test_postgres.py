"""One whole node on PostgreSQL: it streams, is killed and goes on; so does its database."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.postgres import PostgresServer
from support.server import COMMAND, Serve, ServerProcess, bearer
from support.wire import Frame, dense, execute, read_all, streaming, text_of

pytestmark = pytest.mark.anyio

SECRET = "5e" * 32
#: At a pace that leaves time for a kill in the middle.
COUNT = {"goal": "count to 200", "context": {"words_per_second": 100}}


@pytest.fixture
def database() -> Iterator[PostgresServer]:
    """Durable, and the test's own: it is killed."""
    server = PostgresServer({})
    yield server.start()
    server.close()


def client_of(server: ServerProcess) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.url, headers=bearer(), timeout=60)


async def first_frames(client: httpx.AsyncClient, session_id: str, count: int) -> list[Frame]:
    seen: list[Frame] = []
    path = f"/v1/sessions/{session_id}/stream"
    async with streaming(client, "GET", path) as (_, frames):
        async for frame in frames:
            seen.append(frame)
            if len(seen) == count:
                break
    return seen


async def test_a_node_that_is_killed_goes_on(serve: Serve, postgres: str) -> None:
    # It says that the node of the killed process is dead.
    server = serve(may_complain=True, store=postgres, secret=SECRET)
    async with client_of(server) as client:
        session_id = (await execute(client, **COUNT))["session_id"]
        queued = {"goal": "count to 3", "session_id": session_id, "if_busy": "enqueue"}
        await execute(client, **queued)
        seen = await first_frames(client, session_id, 20)
        server.kill()
        server.start()
        found = await read_all(client, session_id, turn=1)
        dense(found)
        assert [(f.id, f.event, f.data) for f in found[:20]] == [
            (f.id, f.event, f.data) for f in seen
        ]
        assert [frame.event for frame in found].count("done") == 1
        assert found[-2].body["code"] == "RUNNER_LOST"
        second = await read_all(client, session_id, turn=2)
        dense(second, first=found[-1].position + 1)
        assert second[-1].body["status"] == "success"
        assert text_of(second).split() == ["1", "2", "3"]
        listed = (await client.get("/v1/sessions")).json()["data"]
        assert [(row["session_id"], row["turns"]) for row in listed] == [(session_id, 2)]
        usage = (await client.get("/v1/usage")).json()
        assert usage["totals"]["turns"] == 2


async def test_nodes_that_start_at_once_make_one_key(postgres: str, tmp_path: Path) -> None:
    nodes = [
        ServerProcess(tmp_path / f"node{n}", key=None, store=postgres, secret=SECRET)
        for n in range(4)
    ]
    try:
        for node in nodes:
            node.launch()
        for node in nodes:
            node.wait_ready()
        (file,) = tmp_path.glob("node*/api-key")
        key = file.read_text().strip()
        for node in nodes:
            answer = httpx.get(f"{node.url}/v1/keys", headers=bearer(key), timeout=30)
            assert [each["name"] for each in answer.json()["data"]] == ["bootstrap"]
    finally:
        for node in nodes:
            node.stop()


async def test_nodes_tell_of_all_until_one_is_stopped(postgres: str, tmp_path: Path) -> None:
    first, second = (
        ServerProcess(tmp_path / f"node{n}", store=postgres, secret=SECRET) for n in range(2)
    )
    try:
        first.start()
        second.start()
        async with client_of(first) as client, client_of(second) as other:

            async def nodes() -> list[dict[str, Any]]:
                listed: list[dict[str, Any]] = (await client.get("/v1/nodes")).json()["data"]
                return listed

            async with asyncio.timeout(30):
                while len(found := await nodes()) < 2 or found[1]["started_at"] is None:
                    await asyncio.sleep(0.05)
                assert found[0]["id"] != found[1]["id"]
                made = await other.post("/v1/sessions", json={"agent_id": "guide"})
                path = f"/v1/sessions/{made.json()['session_id']}/stream?follow=true"
                async with streaming(other, "GET", path):
                    while (found := await nodes())[1]["open_streams"] != 1:
                        await asyncio.sleep(0.05)
                assert found[1]["running_turns"] == 0
                second.process.send_signal(signal.SIGSTOP)
                while (found := await nodes())[1]["started_at"] is not None:
                    await asyncio.sleep(0.05)
                assert found[1]["open_streams"] is None
                while len(await nodes()) != 1:
                    await asyncio.sleep(0.1)
            second.process.send_signal(signal.SIGCONT)
            assert second.wait() == 1
            assert (await client.get("/readyz")).json()["durability"]
    finally:
        for node in (first, second):
            node.process.send_signal(signal.SIGCONT)
            node.stop()


async def test_an_outage_of_the_database_loses_nothing_and_is_over_by_itself(
    serve: Serve, database: PostgresServer
) -> None:
    server = serve(may_complain=True, store=database.database(), secret=SECRET)
    async with client_of(server) as client:
        before = (await execute(client, goal="count to 30"))["session_id"]
        whole = await read_all(client, before)
        session_id = (await execute(client, **COUNT))["session_id"]
        seen = await first_frames(client, session_id, 20)
        database.kill()
        assert (await client.get("/readyz")).status_code == 503
        database.start()
        async with asyncio.timeout(10):
            while (await client.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.05)
        found = await read_all(client, session_id, turn=1)
        dense(found)
        assert [frame.data for frame in found[:20]] == [frame.data for frame in seen]
        assert [frame.event for frame in found].count("done") == 1
        assert [f.data for f in await read_all(client, before, turn=1)] == [f.data for f in whole]
        after = await execute(client, goal="count to 3", session_id=session_id)
        assert after["turn"] == 2
        assert (await read_all(client, session_id, turn=2))[-1].body["status"] == "success"


def refused(*arguments: str) -> str:
    """What a start that fails says."""
    done = subprocess.run(
        [*COMMAND, "serve", "--port=0", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


async def test_a_start_that_cannot_be_is_refused(
    serve: Serve, postgres: str, tmp_path: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESONANTGENESIS_DATA", f"{tmp_path}/node")
    monkeypatch.setenv("RESONANTGENESIS_STORE", postgres)
    assert "secret: is needed" in refused()
    monkeypatch.setenv("RESONANTGENESIS_STORE_DIRECT", postgres)
    monkeypatch.delenv("RESONANTGENESIS_STORE")
    assert "store_direct: is of use only" in refused()
    monkeypatch.delenv("RESONANTGENESIS_STORE_DIRECT")
    monkeypatch.setenv("RESONANTGENESIS_STORE", postgres)
    monkeypatch.setenv("RESONANTGENESIS_SECRET", SECRET)
    monkeypatch.setenv("RESONANTGENESIS_STORE_UPGRADE", "false")
    assert "run `resonantgenesis store init`" in refused()
    subprocess.run([*COMMAND, "store", "init"], check=True, timeout=60)
    serve(store=postgres, secret=SECRET, store_upgrade="false").stop()
    monkeypatch.setenv("RESONANTGENESIS_SECRET", "00" * 32)
    assert "the secret is not the one" in refused()


async def test_any_node_serves_any_session(serve: Serve, postgres: str) -> None:
    runs = serve(may_complain=True, store=postgres, secret=SECRET)
    other = serve(may_complain=True, store=postgres, secret=SECRET)
    async with client_of(runs) as here, client_of(other) as elsewhere:
        session_id = (await execute(here, **COUNT))["session_id"]
        found = await read_all(elsewhere, session_id)
        dense(found)
        assert found[-1].body["status"] == "success"
        assert text_of(found).split() == [str(number) for number in range(1, 201)]
        ended = await execute(elsewhere, goal="count to 3", session_id=session_id)
        dense(await read_all(elsewhere, session_id, turn=ended["turn"]), found[-1].position + 1)

        cancelled = (await execute(here, **COUNT))["session_id"]
        answer = await elsewhere.post(f"/v1/sessions/{cancelled}/cancel", json={})
        assert answer.json()["cancelled"] == [1]
        assert (await read_all(here, cancelled))[-1].body["status"] == "cancelled"

        lost = (await execute(here, **COUNT))["session_id"]
        seen = await first_frames(elsewhere, lost, 10)
        runs.kill()
        found = await read_all(elsewhere, lost, timeout=60)
        dense(found)
        assert [frame.data for frame in found[:10]] == [frame.data for frame in seen]
        assert found[-2].body["code"] == "RUNNER_LOST"
        assert [frame.event for frame in found].count("done") == 1
        totals = (await elsewhere.get("/v1/usage")).json()["totals"]
        assert totals["turns"] == 4


@pytest.mark.parametrize(
    ("fault", "signals"),
    [
        (signal.SIGSTOP, 1),
        (signal.SIGKILL, 2),
        pytest.param(signal.SIGKILL, 1, marks=pytest.mark.soak),
        pytest.param(signal.SIGSTOP, 2, marks=pytest.mark.soak),
    ],
)
async def test_a_stop_while_the_database_is_away_ends_in_time(
    serve: Serve, database: PostgresServer, fault: signal.Signals, signals: int
) -> None:
    drain = 1.5 if signals == 1 else 60.0
    url = database.database()
    server = serve(may_complain=True, store=url, secret=SECRET, drain_seconds=drain)
    async with client_of(server) as client:
        slow = {"goal": "count to 400", "context": {"words_per_second": 20}}
        session_id = (await execute(client, **slow))["session_id"]
        seen = await first_frames(client, session_id, 20)
        with database.away(fault):
            if fault == signal.SIGKILL:
                await asyncio.to_thread(server.logged, "the database is away, appends wait")
            began = time.monotonic()
            server.terminate()
            if signals == 2:
                await asyncio.to_thread(server.logged, "draining; a second signal stops at once")
                server.terminate()
            await asyncio.to_thread(server.wait)
            took = time.monotonic() - began
            assert took < (drain if signals == 1 else 0) + 10
    server.start()
    async with client_of(server) as client:
        found = await read_all(client, session_id, turn=1)
        dense(found)
        assert [frame.data for frame in found[:20]] == [frame.data for frame in seen]
        assert [frame.event for frame in found].count("done") == 1
        assert found[-2].body["code"] == "RUNNER_LOST"


async def test_a_changed_epoch_ends_the_node_and_old_positions(
    serve: Serve, postgres: str, postgres_server: PostgresServer
) -> None:
    server = serve(may_complain=True, store=postgres, secret=SECRET)
    async with client_of(server) as client:
        session_id = (await execute(client, goal="count to 30"))["session_id"]
        seen = await read_all(client, session_id)
        name = postgres.partition("?")[0].rpartition("/")[2]
        epoch = "SELECT value FROM resonantgenesis_log.meta WHERE name='epoch'"
        before = await asyncio.to_thread(postgres_server.sql, epoch, name)
        change = "UPDATE resonantgenesis_log.meta SET value='other' WHERE name='epoch'"
        await asyncio.to_thread(postgres_server.sql, change, name)
        assert await asyncio.to_thread(server.wait) == 1
    (line,) = [each for each in server.records() if each["level"] == "critical"]
    assert line["event"] == "the database has lost what it had acknowledged; the server stops"
    server.start()
    async with client_of(server) as client:
        path = f"/v1/sessions/{session_id}/stream"
        place = {"Last-Event-ID": str(seen[5].id), "X-Log-Epoch": before}
        answer = await client.get(path, headers=place)
        assert answer.status_code == 410
        assert answer.json()["error"]["code"] == "POSITION_EXPIRED"
        assert (await execute(client, goal="count to 3", session_id=session_id))["turn"] == 2
