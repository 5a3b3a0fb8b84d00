"""Cancelling agents that do not want to stop, and starting again at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import pytest
from support.server import Serve, ServerProcess
from support.wire import Frame, execute, reached, read_all, streaming

AGENTS = {
    "stubborn": "support.agents:stubborn",
    "sleeper": "support.agents:sleeper",
    "paced": "support.agents:paced",
}
#: The promise, and what a busy machine may add to it.
PROMISED, ALLOWANCE = 1.0, 0.7
#: A loop that the sleeping agent blocked would be still for 4 s.
LONGEST_GAP = 1.5


async def cancel(client: httpx.AsyncClient, session_id: str) -> tuple[float, list[Frame]]:
    """Seconds from the cancel to the `done`, as a viewer sees it, and all that it saw."""
    found: list[Frame] = []
    asked: asyncio.Task[float] | None = None

    async def ask() -> float:
        began = time.monotonic()
        answer = await client.post(f"/v1/sessions/{session_id}/cancel")
        assert answer.status_code == 200, answer.text
        assert answer.json()["cancelled"] == [1]
        return began

    path = f"/v1/sessions/{session_id}/stream"
    async with asyncio.timeout(20), streaming(client, "GET", path) as (_, frames):
        async for frame in frames:
            found.append(frame)
            if asked is None and frame.event == "message":
                asked = asyncio.create_task(ask())
    ended = time.monotonic()
    assert asked is not None
    return ended - await asked, found


async def largest_gap(client: httpx.AsyncClient, session_id: str) -> float:
    """The longest that another session's viewer had to wait for its next chunk."""
    gap, last = 0.0, time.monotonic()
    path = f"/v1/sessions/{session_id}/stream"
    async with asyncio.timeout(30), streaming(client, "GET", path) as (_, frames):
        async for _frame in frames:
            now = time.monotonic()
            gap, last = max(gap, now - last), now
    return gap


@pytest.mark.parametrize("agent", ["stubborn", "sleeper"])
async def test_done_comes_within_a_second_and_others_are_not_disturbed(
    serve: Serve, agent: str
) -> None:
    server = serve(agents=AGENTS)
    async with server.client() as client:
        others = [
            await execute(client, agent_id="paced", goal="o", context={"count": 200, "pace": 60})
            for _ in range(3)
        ]
        gaps = [asyncio.create_task(largest_gap(client, one["session_id"])) for one in others]
        sessions = [await execute(client, agent_id=agent, goal="go") for _ in range(4)]
        cancelled = await asyncio.gather(*(cancel(client, one["session_id"]) for one in sessions))
        for (seconds, found), started in zip(cancelled, sessions, strict=True):
            assert seconds < PROMISED + ALLOWANCE
            done = found[-1].body
            assert (done["type"], done["status"]) == ("done", "cancelled")
            text = "".join(f.body["content"] for f in found if f.event == "message")
            assert done["output"] == text != ""
            # Nothing of the abandoned agent's comes later, and the session is free again.
            again = await execute(
                client, agent_id=agent, goal="once more", session_id=started["session_id"]
            )
            assert again["turn"] == 2
            await client.post(f"/v1/sessions/{started['session_id']}/cancel")
            kept = await read_all(client, started["session_id"], resume_from=0)
            assert kept[: len(found)] == found
            assert [f.event for f in kept].count("done") == 2
        assert max(await asyncio.gather(*gaps)) < LONGEST_GAP


async def test_cancelling_is_idempotent_and_idle_is_no_error(server: ServerProcess) -> None:
    async with server.client() as client:
        session_id = (await execute(client, goal="count to 3"))["session_id"]
        kept = await read_all(client, session_id, resume_from=0)
        for _ in range(3):
            answer = await client.post(f"/v1/sessions/{session_id}/cancel")
            assert (answer.status_code, answer.json()["cancelled"]) == (200, [])
        assert await read_all(client, session_id, resume_from=0, turn=1) == kept


async def test_cancel_by_idempotency_key(server: ServerProcess) -> None:
    """For a client whose answer never came."""
    async with server.client() as client:
        key = {"Idempotency-Key": "cancel-by-key", "Prefer": "respond-async"}
        body = {"agent_id": "paced", "goal": "k", "context": {"count": 10_000, "pace": 50}}
        started = (await client.post("/v1/sessions/execute", json=body, headers=key)).json()
        answer = await client.post("/v1/sessions/cancel", json={"idempotency_key": "cancel-by-key"})
        assert answer.json()["session_id"] == started["session_id"]
        kept = await read_all(client, started["session_id"], resume_from=0)
        assert kept[-1].body["status"] == "cancelled"


async def test_a_viewer_that_comes_while_the_turn_ends_sees_its_done(
    server: ServerProcess,
) -> None:
    """Never a 204, which says that there is nothing: the end is being written just then."""
    async with server.client() as client, asyncio.timeout(60):
        for number in range(200):
            body = {"goal": "e", "context": {"count": 1_000, "pace": 50 + number}}
            session_id = (await execute(client, agent_id="paced", **body))["session_id"]
            await client.post(f"/v1/sessions/{session_id}/cancel")
            kept = await read_all(client, session_id, resume_from=0)
            assert kept and kept[-1].body["status"] == "cancelled", number


async def test_the_agent_has_stopped_when_its_turn_is_cancelled(server: ServerProcess) -> None:
    async with server.client() as client:
        body = {"agent_id": "paced", "goal": "c", "context": {"count": 10_000, "pace": 100}}
        session_id = (await execute(client, **body))["session_id"]
        await reached(client, session_id, 5)
        await client.post(f"/v1/sessions/{session_id}/cancel")
        kept = await read_all(client, session_id, resume_from=0)
        session = (await client.get(f"/v1/sessions/{session_id}")).json()
        assert session["status"] == "cancelled"
        assert session["position"] == kept[-1].position
        assert session["output"] == kept[-1].body["output"]


async def next_at_once(client: httpx.AsyncClient, turns: int) -> None:
    """Execute, read to the `done`, execute again in the same moment; only then is the first
    stream read to its own end."""
    made = await client.post("/v1/sessions", json={"agent_id": "guide"})
    path = f"/v1/sessions/{made.json()['session_id']}/execute"
    body = {"goal": "count to 2", "stream": True}
    position = 0
    before = AsyncExitStack()
    try:
        for turn in range(1, turns + 1):
            now = AsyncExitStack()
            response, frames = await now.enter_async_context(
                streaming(client, "POST", path, json=body)
            )
            await before.aclose()
            before = now
            assert response.status_code == 200, (turn, response.text)
            assert response.headers["x-turn"] == str(turn)
            async for frame in frames:
                position += 1
                assert frame.position == position
                if frame.event == "done":
                    break
            now.push_async_callback(_read_on, frames)
    finally:
        await before.aclose()


async def _read_on(frames: AsyncIterator[Frame]) -> None:
    assert [frame async for frame in frames] == []


async def test_the_next_execute_after_done_is_never_busy(server: ServerProcess) -> None:
    async with server.client() as client, asyncio.timeout(100):
        await next_at_once(client, 300)


@pytest.mark.soak
async def test_nor_in_a_thousand_turns(server: ServerProcess) -> None:
    async with server.client() as client, asyncio.timeout(100):
        await next_at_once(client, 1_000)


async def test_neither_after_an_answer_that_does_not_stream(server: ServerProcess) -> None:
    async with server.client() as client, asyncio.timeout(60):
        made = await client.post("/v1/sessions", json={"agent_id": "guide"})
        path = f"/v1/sessions/{made.json()['session_id']}/execute"
        for _ in range(200):
            answer = await client.post(path, json={"goal": "count to 2"})
            assert (answer.status_code, answer.json()["status"]) == (200, "success"), answer.text
