"""Servers over two databases of one store: one is away and back, a wrong list, a move."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from resonantgenesis_server.log.postgres.databases import placing
from resonantgenesis_server.log.postgres.log import is_events
from support.fleet import SECRET, check_log, client_of, running
from support.postgres import PostgresServer
from support.server import COMMAND, Serve
from support.server import running as server_running
from support.wire import execute, read_all

pytestmark = pytest.mark.anyio
place_of = placing(2, is_events)
_COMPLETED = "session.completed"
SHORT = {"goal": "count to 3"}


@pytest.fixture
def second() -> Iterator[PostgresServer]:
    server = PostgresServer({})
    yield server.start()
    server.close()


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RESONANTGENESIS_")}
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**kept, "RESONANTGENESIS_SECRET": SECRET},
    )


async def sessions_in_both(client: httpx.AsyncClient) -> list[str]:
    """A session of each database that has had a turn."""
    found: dict[int, str] = {}
    while len(found) < 2:
        session_id = (await execute(client, **SHORT))["session_id"]
        await read_all(client, session_id)
        found[place_of(session_id)] = session_id
    return [found[0], found[1]]


async def event_types(client: httpx.AsyncClient, session_id: str) -> list[str]:
    answer = await client.get("/v1/events", params={"events": "session.*", "limit": 1000})
    assert answer.status_code == 200, answer.text
    events = answer.json()["events"]
    return [each["type"] for each in events if each["data"].get("session_id") == session_id]


async def test_one_database_is_away_and_comes_back(
    database: PostgresServer, second: PostgresServer, tmp_path: Path
) -> None:
    store = f"{database.database()},{second.database()}"
    with running(tmp_path, [store] * 2) as fleet:
        one, two = fleet.nodes
        async with client_of(one.url) as client, client_of(two.url) as other:
            here, there = await sessions_in_both(client)
            before = await read_all(other, there, resume_from=0)
            with second.away(signal.SIGKILL):
                ref = await execute(other, **SHORT, session_id=here)
                assert ref["turn"] == 2
                frames = await read_all(other, here, resume_from=0)
                check_log(frames, frames)
                answer = await client.get(f"/v1/sessions/{there}/stream", params={"resume_from": 0})
                assert answer.status_code == 503
                assert (await client.get("/readyz")).status_code == 200

            async def is_back() -> bool:
                return (await client.get(f"/v1/sessions/{there}")).status_code == 200

            async with asyncio.timeout(60):
                while not await is_back():
                    await asyncio.sleep(0.1)
            assert await read_all(client, there, resume_from=0) == before
            await execute(client, **SHORT, session_id=there)
            frames = await read_all(other, there, resume_from=0)
            check_log(frames, before)
            for session_id in (here, there):
                # What the second database holds is handed over to the first.
                async with asyncio.timeout(30):
                    while (types := await event_types(other, session_id)).count(_COMPLETED) < 2:
                        await asyncio.sleep(0.05)
                assert types.count(_COMPLETED) == 2
            nodes = (await client.get("/v1/nodes")).json()["data"]
            assert len(nodes) == 2
        assert len(fleet.living) == 2


async def test_commands_of_a_spread_store(
    postgres_server: PostgresServer, serve: Serve, tmp_path: Path
) -> None:
    urls = [postgres_server.database() for _ in range(4)]
    both = "--store", urls[0], "--store", urls[1]
    assert "there are no records yet" in command("store", "check", *both).stderr
    made = command("store", "init", *both)
    assert made.stdout.startswith("the store is made"), made.stderr
    checked = command("store", "check", *both)
    assert checked.returncode == 0, checked.stderr
    assert "database 2 of 2: a commit takes" in checked.stdout
    for wrong, words in (
        (both[2:] + both[:2], "the order of the store, which is 2 1"),
        (both[:2], "spread over 2 databases, and one is named"),
        ((*both[:2], "--store", urls[2]), "there is no log yet"),
    ):
        refused = command("store", "check", *wrong)
        assert refused.returncode == 1
        assert words in refused.stderr and refused.stderr.count("\n") == 1
    refused = command("serve", "--port", "0", "--data", str(tmp_path / "x"), *both[2:], *both[:2])
    assert refused.returncode == 2 and "which is 2 1" in refused.stderr

    server = serve(store=" ".join(urls[:2]), secret=SECRET)
    async with server.client() as client:
        sessions = await sessions_in_both(client)
        kept = [await read_all(client, each, resume_from=0) for each in sessions]
    server.stop()
    copied = command("store", "copy", ",".join(urls[:2]), ",".join(urls[2:]))
    assert copied.returncode == 0, copied.stderr
    moved = serve(store="\n".join(urls[2:]), secret=SECRET)
    async with moved.client() as client:
        assert [await read_all(client, each, resume_from=0) for each in sessions] == kept
        for each in sessions:
            assert (await event_types(client, each)).count(_COMPLETED) == 1


def killed_copy(source: str, target: str) -> None:
    """Begin a copy and kill it -9 amid its entries."""
    begun = subprocess.Popen(
        [*COMMAND, "store", "copy", source, target],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RESONANTGENESIS_SECRET": SECRET},
    )
    assert begun.stderr is not None
    with begun:
        said = next((line for line in begun.stderr if "streams" in line), None)
        begun.kill()
    assert said is not None and begun.returncode == -signal.SIGKILL


async def test_copies_that_are_killed_go_on(
    postgres_server: PostgresServer, serve: Serve, tmp_path: Path
) -> None:
    server = serve(secret=SECRET)
    async with server.client() as client:
        long = (await execute(client, goal="count to 10000"))["session_id"]
        sessions = [long, *await sessions_in_both(client)]
        kept = [await read_all(client, each, resume_from=0) for each in sessions]
    server.stop()
    databases = ",".join(postgres_server.database() for _ in range(2))
    way = [f"sqlite:{server.data}", databases, f"sqlite:{tmp_path / 'back'}"]
    for source, target in pairwise(way):
        await asyncio.to_thread(killed_copy, source, target)
        again = await asyncio.to_thread(command, "store", "copy", source, target)
        assert again.returncode == 0, again.stderr
    with server_running(tmp_path / "back", secret=SECRET) as back:
        async with back.client() as client:
            assert [await read_all(client, each, resume_from=0) for each in sessions] == kept
