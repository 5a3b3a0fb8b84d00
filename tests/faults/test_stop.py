"""A stop lets turns finish, ends streams cleanly and keeps what was produced."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any

import httpx
import pytest
from support.server import Serve, ServerProcess
from support.wire import Frame, dense, execute, reached, read_all, streaming, text_of


async def collect(client: httpx.AsyncClient, session_id: str, **params: Any) -> list[Frame]:
    """Read to the stream's clean end: a cut one raises."""
    path = f"/v1/sessions/{session_id}/stream"
    async with asyncio.timeout(40), streaming(client, "GET", path, params=params) as (_, frames):
        return [frame async for frame in frames]


async def until_draining(client: httpx.AsyncClient) -> httpx.Response:
    """`/readyz` once it says that the server is going."""
    async with asyncio.timeout(10):
        while (answer := await client.get("/readyz")).status_code == 200:
            await asyncio.sleep(0.01)
    return answer


async def exit_code(server: ServerProcess) -> int:
    return await asyncio.to_thread(server.wait)


async def test_a_running_turn_finishes_within_the_drain_time(serve: Serve) -> None:
    server = serve(drain_seconds=20)
    async with server.client() as client:
        paced = {"goal": "count to 100", "context": {"words_per_second": 50}}
        session_id = (await execute(client, **paced))["session_id"]
        waiting = {"goal": "count to 3", "session_id": session_id, "if_busy": "enqueue"}
        await execute(client, **waiting)
        idle = (await client.post("/v1/sessions", json={"agent_id": "guide"})).json()["session_id"]
        viewer = asyncio.create_task(collect(client, session_id, turn=1))
        follower = asyncio.create_task(collect(client, idle, follow="true"))
        await reached(client, session_id, 5)
        server.terminate()
        ready = await until_draining(client)
        assert (ready.status_code, ready.json()["error"]["code"]) == (503, "UNAVAILABLE")
        await refuses_new_work(client, session_id, idle)
        # Reading goes on meanwhile.
        assert (await client.get(f"/v1/sessions/{session_id}")).json()["status"] == "running"
        found = await viewer
        assert await exit_code(server) == 0
        assert found[-1].body["status"] == "success"
        dense(found)
        (goodbye,) = await follower
        assert (goodbye.id, goodbye.event, goodbye.body["code"]) == (None, "error", "UNAVAILABLE")
        assert goodbye.body["retry_after"] >= 0
    await asyncio.to_thread(server.start)
    async with server.client() as client:
        second = await read_all(client, session_id, turn=2)
        assert (second[-1].body["status"], text_of(second)) == ("success", "1 2 3")
        assert await read_all(client, session_id, resume_from=0, turn=1) == found


async def refuses_new_work(client: httpx.AsyncClient, running: str, idle: str) -> None:
    """Whatever would start a turn is told to come again."""
    new = {"agent_id": "guide", "goal": "count to 3"}
    for path, body in [
        ("/v1/sessions/execute", new),
        ("/v1/sessions/execute", new | {"stream": True}),
        ("/v1/sessions/execute", new | {"session_id": idle}),
        (f"/v1/sessions/{idle}/execute", {"goal": "count to 3"}),
        (f"/v1/sessions/{running}/execute", {"goal": "count to 3", "if_busy": "enqueue"}),
        (f"/v1/sessions/{running}/execute", {"goal": "count to 3", "if_busy": "interrupt"}),
    ]:
        answer = await client.post(path, json=body)
        assert answer.status_code == 503, (path, body, answer.text)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (503, "UNAVAILABLE"), (path, answer.text)
        assert error["retry_after"] > 0
        assert int(answer.headers["retry-after"]) >= 1


async def test_what_outlasts_the_drain_time_is_cancelled_with_its_output_kept(
    serve: Serve,
) -> None:
    server = serve(
        drain_seconds=0.5,
        agents={"stubborn": "support.agents:stubborn", "sleeper": "support.agents:sleeper"},
    )
    async with server.client() as client:
        paced = {"goal": "count to 100000", "context": {"words_per_second": 100}}
        started = [
            await execute(client, **paced),
            await execute(client, agent_id="stubborn", goal="go"),
            await execute(client, agent_id="sleeper", goal="go"),
        ]
        sessions = [one["session_id"] for one in started]
        viewers = [asyncio.create_task(collect(client, one)) for one in sessions]
        for session_id in sessions:
            await reached(client, session_id, 2)
        server.terminate()
        found = await asyncio.gather(*viewers)
        assert await exit_code(server) == 0
    for frames in found:
        dense(frames)
        assert (frames[-1].event, frames[-1].body["status"]) == ("done", "cancelled")
        assert frames[-1].body["output"] == text_of(frames) != ""
    await asyncio.to_thread(server.start)
    async with server.client() as client:
        for session_id, frames in zip(sessions, found, strict=True):
            assert await read_all(client, session_id, resume_from=0) == frames
            assert (await client.get(f"/v1/sessions/{session_id}")).json()["status"] == "cancelled"


async def test_a_second_signal_stops_at_once(serve: Serve) -> None:
    server = serve(drain_seconds=600)
    async with server.client() as client:
        paced = {"goal": "count to 100000", "context": {"words_per_second": 100}}
        session_id = (await execute(client, **paced))["session_id"]
        seen: list[Frame] = []

        async def watch() -> None:
            path = f"/v1/sessions/{session_id}/stream"
            try:
                async with streaming(client, "GET", path) as (_, frames):
                    async for frame in frames:
                        seen.append(frame)
            except httpx.TransportError:
                return

        viewer = asyncio.create_task(watch())
        await reached(client, session_id, 5)
        server.terminate()
        await until_draining(client)
        began = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        await exit_code(server)
        assert time.monotonic() - began < 10
        await viewer
    await asyncio.to_thread(server.start)
    async with server.client() as client:
        kept = await read_all(client, session_id, resume_from=0)
        dense(kept)
        assert [f for f in seen if f.id] == kept[: len([f for f in seen if f.id])]
        assert kept[-1].event == "done"
        assert kept[-1].body["status"] in {"failed", "cancelled"}


@pytest.mark.parametrize("signals", [1, 2])
async def test_an_agent_that_never_ends_does_not_keep_the_process(
    serve: Serve, signals: int
) -> None:
    server = serve(
        may_complain=True,
        drain_seconds=0.2,
        limits__cancel_grace=0.1,
        agents={"deaf": "support.agents:deaf"},
    )
    async with server.client() as client:
        session_id = (await execute(client, agent_id="deaf", goal="end"))["session_id"]
        await reached(client, session_id, 2)
        for _ in range(signals):
            server.terminate()
        # The helper gives up, and fails, on a process that stays.
        assert await exit_code(server) == 0


async def test_an_idle_server_stops_at_once(serve: Serve) -> None:
    server = serve(drain_seconds=600)
    began = time.monotonic()
    server.terminate()
    assert await exit_code(server) == 0
    assert time.monotonic() - began < 10
