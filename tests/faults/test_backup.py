"""The drill: a backup under load, kill -9, a restore. Every chunk up to the backup is there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from pathlib import Path

import httpx
import pytest
from resonantgenesis import ResonantGenesis
from resonantgenesis.errors import PositionExpired
from support.server import COMMAND, KEY, ServerProcess
from support.wire import Frame, dense, execute, reached, read_all, streaming


def command(*words: str, wrapper: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RESONANTGENESIS_")}
    return subprocess.run(
        [*wrapper, *COMMAND, *words],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=kept,
    )


def killed_at(call: str, nth: int) -> tuple[str, ...]:
    """The process is gone before it makes this call."""
    injected = f"inject={call}:signal=KILL:when={nth}"
    options = ["-f", "-qq", "-e", f"trace={call}", "-e", injected]
    return ("strace", *options, "-o", "/dev/null")


async def watch(client: httpx.AsyncClient, session: str, seen: list[Frame]) -> None:
    """Read until the server is killed."""
    with contextlib.suppress(httpx.TransportError):
        path = f"/v1/sessions/{session}/stream"
        async with streaming(client, "GET", path) as (_, frames):
            async for frame in frames:
                seen.append(frame)


async def follow(server: ServerProcess, session: str) -> None:
    """A client of the SDK that goes on through everything, ahead of the backup."""
    async with ResonantGenesis(api_key=KEY, base_url=server.url, max_retries=1_000) as sdk:
        async for _ in sdk.sessions.join(session, turn=1, raise_on_error=False):
            pass


async def drill(folder: Path, *, streams: int, per_second: int, files: int) -> None:
    server = ServerProcess(folder / "data")
    place, back = str(folder / "place"), folder / "back"
    second = ServerProcess(back)
    goal = {"goal": "count to 100000", "context": {"words_per_second": per_second}}
    try:
        server.start()
        async with server.client(timeout=60) as client:
            sessions = [(await execute(client, **goal))["session_id"] for _ in range(streams)]
            seen: dict[str, list[Frame]] = {session: [] for session in sessions}
            watching = [
                asyncio.create_task(watch(client, session, frames))
                for session, frames in seen.items()
            ]
            held = [
                (await client.post(f"/v1/files?name={n}.txt", content=b"%d" % n)).json()["id"]
                for n in range(files)
            ]
            for session in sessions:
                await reached(client, session, 20)
            following = asyncio.create_task(follow(server, sessions[0]))
            told = {session: len(frames) for session, frames in seen.items()}
            words = ("backup", place, "--data", str(server.data))
            done = await asyncio.to_thread(command, *words, wrapper=killed_at("fsync", 9))
            assert done.returncode == -9
            assert not list(Path(place).glob("2*.json"))  # half a backup is none
            done = await asyncio.to_thread(command, *words)
            assert done.returncode == 0, done.stderr
            assert f"{files} files" in done.stdout
            for session in sessions:  # what is written after the backup is lost, and said so
                await reached(client, session, len(seen[session]) + 20)
            await asyncio.to_thread(server.kill)
            await asyncio.wait_for(asyncio.gather(*watching), 60)

        wrapper = killed_at("fsync", 6)
        done = await asyncio.to_thread(
            command, "restore", place, "--data", str(back), wrapper=wrapper
        )
        assert done.returncode == -9
        second.launch(1)
        assert second.wait() == 2
        assert "a restore into" in second.log
        done = await asyncio.to_thread(command, "restore", place, "--data", str(back))
        assert done.returncode == 0, done.stderr
        done = await asyncio.to_thread(command, "verify", str(back))
        assert done.returncode == 0, done.stdout + done.stderr

        second.start(server.port)
        with pytest.raises(PositionExpired):  # and not the positions of another history
            await asyncio.wait_for(following, 60)
        async with second.client(timeout=60) as client:
            for session in sessions:
                kept = await read_all(client, session, resume_from=0, turn=1)
                dense(kept)
                assert (kept[-2].event, kept[-1].event) == ("error", "done")
                same = kept[:-3]  # the end of the step, the error and `done` are of the start
                assert told[session] <= len(same) < len(seen[session])
                assert same == seen[session][: len(same)]
            for number, name in enumerate(held):
                content = await client.get(f"/v1/files/{name}/content")
                assert content.content == b"%d" % number
            again = await execute(client, goal="count to 3", session_id=sessions[0])
            assert again["turn"] == 2
    finally:
        server.stop()
        second.stop()


async def test_a_restored_backup_has_all_that_was_told_before_it(tmp_path: Path) -> None:
    await drill(tmp_path, streams=4, per_second=50, files=3)


@pytest.mark.soak
async def test_a_backup_under_a_thousand_tokens_a_second(tmp_path: Path) -> None:
    await drill(tmp_path, streams=20, per_second=50, files=200)
