"""`/metrics` of a real server: what viewers got is what it counts."""

from __future__ import annotations

import asyncio

import httpx
import pytest
import websockets
from prometheus_client.parser import text_string_to_metric_families
from support.server import Serve, ServerProcess, bearer
from support.wire import Frame, execute, streaming

pytestmark = pytest.mark.anyio

PREFIX = "resonantgenesis_"
VIEWERS = 7


async def scraped(server: ServerProcess) -> dict[tuple[str, str], float]:
    """Every sample by its name and its label's value, as Prometheus would ask for them."""
    async with httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.get("/metrics", headers={"Accept": "text/plain;version=0.0.4"})
    assert answer.status_code == 200, answer.text
    return {
        (sample.name.removeprefix(PREFIX), next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def until(server: ServerProcess, sample: tuple[str, str], value: float) -> None:
    async with asyncio.timeout(30):
        while (await scraped(server))[sample] != value:
            await asyncio.sleep(0.01)


async def to_done(client: httpx.AsyncClient, session_id: str) -> list[Frame]:
    """Wait in a session for its next turn, and read that."""
    path = f"/v1/sessions/{session_id}/stream?follow=true"
    found: list[Frame] = []
    async with streaming(client, "GET", path) as (_, frames):
        async for frame in frames:
            found.append(frame)
            if frame.event == "done":
                break
    return found


async def test_what_viewers_got_is_what_is_counted(serve: Serve) -> None:
    server = serve()
    async with server.client() as client:
        made = await client.post("/v1/sessions", json={"agent_id": "guide"})
        session_id = made.json()["session_id"]
        before = await scraped(server)
        watching = [asyncio.create_task(to_done(client, session_id)) for _ in range(VIEWERS)]
        await until(server, ("streams_open", "sse"), VIEWERS)
        url = server.url.replace("http", "ws") + "/v1/ws"
        async with websockets.connect(url, additional_headers=bearer()) as socket:
            await socket.send('{"type":"ping"}')
            assert '"pong"' in await socket.recv()
            assert (await scraped(server))["streams_open", "websocket"] == 1
        await execute(client, session_id=session_id, goal="count to 20")
        seen = await asyncio.wait_for(asyncio.gather(*watching), 30)
        await until(server, ("streams_open", "sse"), 0)
        failed = await client.post(
            "/v1/sessions/execute", json={"agent_id": "guide", "goal": "x", "max_steps": 0}
        )
        assert failed.status_code == 422
        after = await scraped(server)
    assert {frames[-1].body["status"] for frames in seen} == {"success"}

    def grew(name: str, label: str = "") -> float:
        return after[name, label] - before.get((name, label), 0)

    chunks = len(seen[0])
    assert all(len(frames) == chunks for frames in seen)
    given = grew("chunks_delivered_total", "live") + grew("chunks_delivered_total", "replayed")
    assert given == chunks * VIEWERS
    assert grew("chunks_delivered_total", "live") > 0
    assert grew("entries_appended_total", "chunks") == chunks
    assert grew("turns_total", "success") == 1
    assert grew("request_errors_total", "INVALID_REQUEST") == 1
    assert 1 <= grew("append_to_socket_seconds_count") <= chunks
    assert grew("commit_entries_sum") >= chunks
    assert grew("commit_seconds_count") >= 1
    assert grew("commit_seconds_sum") > 0
    assert after["viewers", "live"] == after["viewers", "behind"] == 0
    assert after["turns_open", "running"] == 0
