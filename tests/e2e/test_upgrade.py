"""Stores and servers of different versions, and a server that is replaced under load."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from resonantgenesis import ResonantGenesis
from support.server import KEY, ServerProcess, bearer
from support.wire import dense, execute, reached, read_all

pytestmark = pytest.mark.anyio
#: What the server of the first commit with whole turns left (2e64c935): one session of one turn.
FIRST = Path(__file__).parents[1] / "support" / "first_store"
SESSION = "sess_4mi7l9dlmg30qeetrgkl"


def first_store(data: Path) -> str:
    """Put the store of the first version there; its API key."""
    data.mkdir(mode=0o700)
    for name in ("log", "records"):
        with closing(sqlite3.connect(data / f"{name}.db")) as db:
            db.execute("PRAGMA journal_mode=WAL")
            db.executescript((FIRST / f"{name}.sql").read_text())
    for name in ("secret", "api-key"):
        shutil.copy(FIRST / name, data / name)
        (data / name).chmod(0o600)
    return (FIRST / "api-key").read_text().strip()


async def test_a_store_of_the_first_version_opens(tmp_path: Path) -> None:
    key = first_store(tmp_path / "data")
    server = ServerProcess(tmp_path / "data", key=None)
    try:
        server.start()
        async with server.client(headers=bearer(key)) as client:
            session = (await client.get(f"/v1/sessions/{SESSION}")).json()
            assert (session["status"], session["output"]) == ("completed", "1 2 3")
            kept = await read_all(client, SESSION, resume_from=0)
            dense(kept)
            assert kept[-1].body["output"] == "1 2 3"
            body = {"agent_id": "guide", "goal": "count to 2", "session_id": SESSION}
            answer = await client.post("/v1/sessions/execute", json=body)
            assert (answer.json()["turn"], answer.json()["output"]) == (2, "1 2")
        assert server.errors() == []
    finally:
        server.stop()


@pytest.mark.parametrize("name", ["log", "records"])
async def test_a_newer_store_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    first_store(tmp_path / "data")
    path = tmp_path / "data" / f"{name}.db"
    with closing(sqlite3.connect(path)) as db:
        if name == "log":
            db.execute("PRAGMA user_version=99")
        else:
            db.execute("UPDATE alembic_version SET version_num='9999'")
        db.commit()
    before = path.read_bytes()
    server = ServerProcess(tmp_path / "data", key=None)
    try:
        server.launch(1)
        assert server.wait() == 2
    finally:
        server.stop()
    assert "99" in server.log and "Traceback" not in server.log
    assert path.read_bytes() == before


async def replaced(server: ServerProcess, *, streams: int, turns: int) -> None:
    """Replace the server, with many streams open and turns running: all go on or end, and every
    viewer has every chunk."""
    server.start()
    positions: list[list[int]] = [[] for _ in range(streams)]
    endings: list[str] = [""] * streams

    async def view(sdk: ResonantGenesis, number: int, session: str) -> None:
        stream = sdk.sessions.join(session, turn=1, raise_on_error=False)
        async for chunk in stream:
            positions[number].append(chunk.position or 0)
            endings[number] = chunk.code or chunk.status or endings[number]

    async with server.client(timeout=60) as client:
        goal = {"goal": "count to 300", "context": {"words_per_second": 20}}
        sessions = [(await execute(client, **goal))["session_id"] for _ in range(turns)]
        async with ResonantGenesis(api_key=KEY, base_url=server.url, max_retries=1_000) as sdk:
            views = [asyncio.create_task(view(sdk, n, sessions[n % turns])) for n in range(streams)]
            for session in sessions:
                await reached(client, session, 5)
            while not all(positions):
                await asyncio.sleep(0.01)
            server.terminate()
            assert await asyncio.to_thread(server.wait) == 0
            await asyncio.to_thread(server.start)
            await asyncio.wait_for(asyncio.gather(*views), 120)
    async with server.client(timeout=60) as client:
        for number, session in enumerate(sessions):
            kept = [frame.position for frame in await read_all(client, session, resume_from=0)]
            for each in positions[number::turns]:
                assert each == kept == list(range(1, len(kept) + 1))
            status = (await client.get(f"/v1/sessions/{session}")).json()["status"]
            assert status in {"completed", "cancelled", "failed"}
    assert all(endings)


async def test_a_server_is_replaced_under_streams_and_turns(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data")
    try:
        await replaced(server, streams=30, turns=6)
        assert server.errors() == []
    finally:
        server.stop()


@pytest.mark.soak
async def test_a_server_is_replaced_under_500_streams_and_50_turns(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data")
    try:
        await replaced(server, streams=500, turns=50)
        assert server.errors() == []
    finally:
        server.stop()
