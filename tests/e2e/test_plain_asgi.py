"""Any ASGI server will do: uvicorn with h11 and asyncio, without our protocol class."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import orjson
import pytest
from support.server import TESTS, ServerProcess
from support.wire import dense, execute, reached, read_all, streaming, text_of


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(
        tmp_path_factory.mktemp("plain") / "data",
        program=TESTS / "support" / "plain.py",
        agents={"silent": "support.agents:silent"},
        limits__heartbeat=0.3,
        limits__disconnect_grace=0.5,
    )
    yield server.start()
    server.stop()
    assert [line for line in server.errors() if "Traceback" in line or '"error"' in line] == []


async def test_it_streams_and_resumes(plain: ServerProcess) -> None:
    async with plain.client() as client:
        body = {"agent_id": "guide", "goal": "count to 50", "stream": True}
        async with streaming(client, "POST", "/v1/sessions/execute", json=body) as (head, frames):
            found = [frame async for frame in frames]
        assert head.headers["content-type"] == "text/event-stream; charset=utf-8"
        dense(found)
        session_id = head.headers["x-session-id"]
        for after in (0, 1, 25, 52):
            assert await read_all(client, session_id, resume_from=after) == found[after:]
        compact = await read_all(client, session_id, resume_from=0, compact="true")
        dense(compact)
        assert text_of(compact) == text_of(found)
        assert await read_all(client, session_id, resume_from=53) == []


async def test_a_viewer_of_a_paced_turn_sees_it_live(plain: ServerProcess) -> None:
    async with plain.client() as client:
        body = {"goal": "count to 60", "context": {"words_per_second": 60}}
        session_id = (await execute(client, **body))["session_id"]
        path = f"/v1/sessions/{session_id}/stream"
        async with asyncio.timeout(20), streaming(client, "GET", path) as (_, frames):
            first = await anext(frames)
            assert first.position == 1
            assert (await client.get(f"/v1/sessions/{session_id}")).json()["status"] == "running"
            found = [first, *[frame async for frame in frames]]
        dense(found)
        assert text_of(found) == " ".join(str(number) for number in range(1, 61))


async def test_it_cancels(plain: ServerProcess) -> None:
    async with plain.client() as client:
        session_id = (await execute(client, agent_id="silent", goal="x"))["session_id"]
        await reached(client, session_id, 2)
        answer = await client.post(f"/v1/sessions/{session_id}/cancel")
        assert answer.json()["cancelled"] == [1]
        kept = await read_all(client, session_id, resume_from=0)
        assert kept[-1].body["status"] == "cancelled"


async def test_it_notices_that_a_viewer_has_left(plain: ServerProcess) -> None:
    """`on_disconnect: cancel` ends the turn, since nobody watches any more."""
    async with plain.client() as client:
        body = {"agent_id": "silent", "goal": "x", "stream": True, "on_disconnect": "cancel"}
        async with streaming(client, "POST", "/v1/sessions/execute", json=body) as (head, frames):
            await anext(frames)
        path = f"/v1/sessions/{head.headers['x-session-id']}"
        async with asyncio.timeout(8):
            # Not by a stream: that would be a viewer.
            while (await client.get(path)).json()["status"] == "running":
                await asyncio.sleep(0.05)
        assert (await client.get(path)).json()["status"] == "cancelled"


async def test_heartbeats_come_while_nothing_else_does(plain: ServerProcess) -> None:
    # Less than the agent's silence, more than the heartbeat.
    patience = httpx.Timeout(5, read=2)
    async with plain.client(timeout=patience) as client, asyncio.timeout(20):
        body = {"agent_id": "silent", "goal": "x", "stream": True, "context": {"seconds": 3}}
        async with streaming(client, "POST", "/v1/sessions/execute", json=body) as (_, frames):
            found = [frame async for frame in frames]
    assert found[-1].body["output"] == "At last."


async def test_files_and_exports(plain: ServerProcess) -> None:
    content = b"content" * 100_000
    async with plain.client() as client:
        made = (await client.post("/v1/files?name=a", content=content)).json()
        path = f"/v1/files/{made['id']}/content"
        assert (await client.get(path)).content == content
        part = await client.get(path, headers={"Range": "bytes=7-13"})
        assert (part.status_code, part.content) == (206, b"content")
        head = await client.head(path)
        assert (head.headers["content-length"], head.content) == (str(len(content)), b"")
        async with client.stream("GET", path) as left:  # in mid-download
            assert left.status_code == 200
        refused = await client.post("/v1/files?name=a/b", content=content)
        assert (refused.status_code, refused.headers["connection"]) == (422, "close")
        session_id = (await execute(client, goal="count to 3"))["session_id"]
        await read_all(client, session_id)
        lines = (await client.get(f"/v1/sessions/{session_id}/export")).text.splitlines()
        assert [orjson.loads(line)["type"] for line in lines][:2] == ["session", "turn"]
        assert (await client.delete(f"/v1/files/{made['id']}")).status_code == 204


async def test_errors_are_the_same(plain: ServerProcess) -> None:
    async with plain.client() as client:
        answer = await client.get("/v1/sessions/sess_00000000000000000000/stream")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "SESSION_NOT_FOUND")
        answer = await client.get("/v1/sessions/execute")
        assert (answer.status_code, answer.json()["error"]["code"]) == (405, "METHOD_NOT_ALLOWED")
