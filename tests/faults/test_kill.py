"""kill -9 in the middle of twenty streams: nothing that was seen is lost, nothing stays running."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest
from resonantgenesis import ResonantGenesis
from support.server import KEY, Serve, ServerProcess
from support.wire import Frame, dense, execute, read_all, streaming

SESSIONS = 20
#: Every fourth session has a turn that waits behind the one that is killed.
QUEUED_EVERY = 4
#: More than can be counted before the kill, at a pace that keeps the writer busy and lets forty
#: viewers in one test process follow.
ENDLESS = {"goal": "count to 100000", "context": {"words_per_second": 100}}
#: Seconds that anything of a round may take on a machine that others use too.
PATIENCE = 90.0


@dataclass
class Watched:
    """A session with what its viewer saw of it."""

    session_id: str
    queued: bool
    frames: list[Frame] = field(default_factory=list)


async def watch_raw(client: httpx.AsyncClient, watched: Watched, first: asyncio.Event) -> None:
    """Read until the connection breaks."""
    path = f"/v1/sessions/{watched.session_id}/stream"
    try:
        async with streaming(client, "GET", path) as (_, frames):
            async for frame in frames:
                watched.frames.append(frame)
                if len(watched.frames) > 5:
                    first.set()
    except httpx.TransportError:
        return
    raise AssertionError("the stream ended, though its server was killed")


async def watch_sdk(server: ServerProcess, watched: Watched, first: asyncio.Event) -> list[str]:
    """Read through the kill and the restart, to the end of the killed turn; its last chunks."""
    types: list[str] = []
    positions: list[int] = []
    async with ResonantGenesis(api_key=KEY, base_url=server.url, max_retries=30) as sdk:
        stream = sdk.sessions.join(watched.session_id, turn=1, raise_on_error=False)
        async for chunk in stream:
            positions.append(chunk.position)
            types.append(chunk.code or chunk.status or chunk.type)
            if len(positions) > 5:
                first.set()
    assert positions == list(range(1, len(positions) + 1))
    return types[-2:]


async def start(client: httpx.AsyncClient, number: int) -> Watched:
    session_id = (await execute(client, **ENDLESS))["session_id"]
    queued = number % QUEUED_EVERY == 0
    if queued:
        waiting = {"goal": "count to 3", "session_id": session_id, "if_busy": "enqueue"}
        assert (await execute(client, **waiting))["turn"] == 2
    return Watched(session_id, queued)


@asynccontextmanager
async def watching(
    server: ServerProcess, client: httpx.AsyncClient, sessions: list[Watched]
) -> AsyncIterator[list[asyncio.Task[list[str]]]]:
    """Two viewers for each session, until all have seen something; the SDK's tasks."""
    seen = [asyncio.Event() for _ in range(2 * len(sessions))]
    raw = [
        asyncio.create_task(watch_raw(client, watched, event))
        for watched, event in zip(sessions, seen[::2], strict=True)
    ]
    through = [
        asyncio.create_task(watch_sdk(server, watched, event))
        for watched, event in zip(sessions, seen[1::2], strict=True)
    ]
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(event.wait() for event in seen))
        yield through
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*raw)
    finally:
        for task in raw + through:
            task.cancel()
        await asyncio.gather(*raw, *through, return_exceptions=True)


async def check_log(client: httpx.AsyncClient, watched: Watched) -> None:
    """The log has what was seen, byte for byte, then the end of the killed turn."""
    kept = await read_all(client, watched.session_id, resume_from=0, turn=1)
    dense(kept)
    seen = watched.frames
    assert len(kept) >= len(seen) + 2
    assert kept[: len(seen)] == seen
    error, done = kept[-2], kept[-1]
    assert (error.event, error.body["code"], error.body["retryable"]) == (
        "error", "RUNNER_LOST", True,
    )  # fmt: skip
    assert (done.event, done.body["status"], done.body["turn"]) == ("done", "failed", 1)
    text = "".join(frame.body["content"] for frame in kept if frame.event == "message")
    assert done.body["output"] == text
    resumed = await read_all(client, watched.session_id, resume_from=seen[-1].position, turn=1)
    assert resumed == kept[len(seen) :]


async def check_states(client: httpx.AsyncClient, sessions: list[Watched]) -> None:
    """What waited has gone on; every GET and the list agree that nothing runs."""
    for watched in sessions:
        if watched.queued:
            second = await read_all(client, watched.session_id, turn=2)
            assert second[-1].body["status"] == "success"
            assert second[-1].body["output"] == "1 2 3"
    expected = {one.session_id: "completed" if one.queued else "failed" for one in sessions}
    listed: dict[str, str] = {}
    cursor: str | None = None
    while True:
        params: dict[str, str | int] = {"limit": 100, **({"cursor": cursor} if cursor else {})}
        page = (await client.get("/v1/sessions", params=params)).json()
        listed |= {one["session_id"]: one["status"] for one in page["data"]}
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert not {"running", "queued"} & set(listed.values())
    assert {name: listed[name] for name in expected} == expected
    for status in ("running", "queued", "waiting"):
        assert (await client.get("/v1/sessions", params={"status": status})).json()["data"] == []
    for name, status in expected.items():
        assert (await client.get(f"/v1/sessions/{name}")).json()["status"] == status


async def one_round(server: ServerProcess, rng: random.Random) -> None:
    async with server.client() as client:
        sessions = [await start(client, number) for number in range(SESSIONS)]
        async with watching(server, client, sessions) as through:
            target = rng.randrange(30, 300)
            while max(len(watched.frames) for watched in sessions) < target:
                await asyncio.sleep(0.001)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            async with asyncio.timeout(PATIENCE):
                endings = await asyncio.gather(*through)
        assert endings == [["RUNNER_LOST", "failed"]] * SESSIONS
        for watched in sessions:
            await check_log(client, watched)
        await check_states(client, sessions)


async def campaign(server: ServerProcess, rounds: int) -> None:
    rng = random.Random(rounds)
    for _ in range(rounds):
        await one_round(server, rng)


async def test_nothing_seen_is_lost_when_the_server_is_killed(serve: Serve) -> None:
    await campaign(serve(), 2)


@pytest.mark.soak
async def test_nothing_seen_is_lost_in_fifty_kills(serve: Serve) -> None:
    await campaign(serve(), 50)
