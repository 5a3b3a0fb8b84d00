"""A server moves to PostgreSQL and back; its clients go on as if it had been started anew."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest
from resonantgenesis import ResonantGenesis
from support.server import COMMAND, KEY, ServerProcess, free_port
from support.server import running as server_running
from support.wire import dense, execute, read_all

pytestmark = pytest.mark.anyio
GOAL = {"goal": "count to 40", "context": {"words_per_second": 20}}


def copy(source: str, target: str, *options: str, **variables: str) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RESONANTGENESIS_")}
    done = subprocess.run(
        [*COMMAND, "store", "copy", source, target, *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**kept, **variables},
    )
    assert done.returncode == 0, done.stderr
    assert "compared: " in done.stderr
    return done.stdout


async def test_clients_resume_across_a_move_and_back(postgres: str, tmp_path: Path) -> None:
    port = free_port()
    first = ServerProcess(tmp_path / "data", words_per_second=20).start(port)
    secret = (tmp_path / "data" / "secret").read_text().strip()
    second = ServerProcess(
        tmp_path / "node", store=postgres, secret=secret, files=str(tmp_path / "files")
    )
    third = ServerProcess(tmp_path / "back", files=str(tmp_path / "files"))
    running = first
    client = ResonantGenesis(api_key=KEY, base_url=first.url, max_retries=1_000)
    try:
        async with first.client() as http:
            session = (await execute(http, goal="count to 5"))["session_id"]
            before = await read_all(http, session)
            await http.post("/v1/files?name=a.txt", content=b"of before")
        page = await client.events.list(limit=2)
        cursor = page.data[0].cursor
        rest = [event.id async for event in client.events.replay(since=cursor)]
        idle = await client.sessions.create("guide")
        stream = client.sessions.join(idle.session_id, follow=True)
        got: list[tuple[int | None, str]] = []

        async def read() -> None:
            async for chunk in stream:
                got.append((chunk.position, chunk.type))
                if len([kind for _, kind in got if kind == "done"]) == 3:
                    return

        reading = asyncio.create_task(read())
        await client.sessions.execute("guide", "count to 3", session_id=idle.session_id)
        running.terminate()
        assert running.wait() == 0
        said = await asyncio.to_thread(
            copy,
            f"sqlite:{tmp_path / 'data'}",
            postgres,
            "--files",
            str(tmp_path / "files"),
        )
        assert f"RESONANTGENESIS_SECRET_FILE={tmp_path / 'data' / 'secret'}" in said
        running = second.start(port)
        await client.sessions.execute("guide", "count to 3", session_id=idle.session_id)
        async with second.client() as http:
            assert [f.data for f in await read_all(http, session)] == [f.data for f in before]
            files = (await http.get("/v1/files")).json()["data"]
            content = await http.get(f"/v1/files/{files[0]['id']}/content")
            assert content.content == b"of before"
        again = [event.id async for event in client.events.replay(since=cursor)]
        assert again[: len(rest)] == rest and len(again) > len(rest)
        running.terminate()
        assert running.wait() == 0
        await asyncio.to_thread(
            copy, postgres, f"sqlite:{tmp_path / 'back'}", RESONANTGENESIS_SECRET=secret
        )
        running = third.start(port)
        await client.sessions.execute("guide", "count to 3", session_id=idle.session_id)
        await asyncio.wait_for(reading, 60)
        positions = [position for position, _ in got if position is not None]
        assert positions == list(range(1, len(positions) + 1))
        async with third.client() as http:
            dense(await read_all(http, session))
            assert [f.data for f in await read_all(http, session)] == [f.data for f in before]
        assert [e.id async for e in client.events.replay(since=cursor)][: len(again)] == again
    finally:
        await client.aclose()
        for server in (first, second, third):
            server.stop()


async def test_content_that_is_gone_is_said_by_the_exit_code(tmp_path: Path) -> None:
    with server_running(tmp_path / "data") as server:
        async with server.client() as http:
            for name in ("kept", "lost"):
                made = await http.post(f"/v1/files?name={name}", content=name.encode())
                assert made.status_code == 201
    (lost,) = [
        path
        for path in (tmp_path / "data" / "files").rglob("*")
        if path.is_file() and path.read_bytes() == b"lost"
    ]
    lost.unlink()
    command = [*COMMAND, "store", "copy", f"sqlite:{tmp_path / 'data'}"]
    command += [f"sqlite:{tmp_path / 'new'}", "--files", str(tmp_path / "files")]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stdout.count("warning: a file cannot be copied") == 1
    assert "1 files have no content in the new store" in done.stderr
    with server_running(tmp_path / "new", files=str(tmp_path / "files")) as server:
        async with server.client() as http:
            files = {
                file["name"]: file["id"] for file in (await http.get("/v1/files")).json()["data"]
            }
            assert files.keys() == {"kept", "lost"}
            kept = await http.get(f"/v1/files/{files['kept']}/content")
            assert kept.content == b"kept"
            gone = await http.get(f"/v1/files/{files['lost']}/content")
            assert gone.status_code >= 400
