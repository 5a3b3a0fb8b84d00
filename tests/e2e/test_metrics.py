"""`/metrics` of a real server: what viewers got is what it counts."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
import websockets
from prometheus_client.parser import text_string_to_metric_families
from support.credentials import make_tenant, make_token, sync_client
from support.server import KEY, Serve, ServerProcess, bearer
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


async def test_an_organization_sees_its_own_figures_and_the_server_s_are_for_its_operator(
    server: ServerProcess,
) -> None:
    with sync_client(server) as admin:
        admin.headers.update(bearer())
        own, other = (make_tenant(admin, name) for name in ("Acme", "Globex"))
        token = make_token(admin, "metrics:read", credential=own.key.key)

        def figures(credential: str, of: str = "organization") -> dict[str, Any]:
            answer = admin.get("/v1/metrics", params={"of": of}, headers=bearer(credential))
            assert answer.status_code == 200, answer.text
            (node,) = answer.json()["data"]
            return {**node, "waiting_turns": answer.json()["waiting_turns"]}

        whole = figures(KEY, "server")
        async with server.client(headers=own.headers) as client:
            body = {"agent_id": "guide", "goal": "count to 3"}
            assert (await client.post("/v1/sessions/execute", json=body)).status_code == 200
            made = await client.post("/v1/sessions", json={"agent_id": "guide"})
            body["session_id"] = made.json()["session_id"]
            async with streaming(
                client, "GET", f"/v1/sessions/{body['session_id']}/stream?follow=true"
            ):
                async with asyncio.timeout(30):
                    while figures(token)["viewers"] != {"live": 1, "behind": 0}:
                        await asyncio.sleep(0.01)
                assert (await client.post("/v1/sessions/execute", json=body)).status_code == 200
                seen = figures(token)
        assert seen["open_streams"] == 1
        assert seen["ended_turns"] == {"success": 2}
        assert seen["first_chunk"]["counts"][-1] == 2
        assert seen["chunks"] >= 2 * 3
        assert 0 < seen["append_to_socket"]["counts"][-1] < seen["chunks"]
        nothing = figures(other.key.key)
        assert nothing["chunks"] == nothing["open_streams"] == 0 and nothing["ended_turns"] == {}
        since = figures(KEY, "server")
        assert since["chunks"] - whole["chunks"] >= seen["chunks"]
        assert since["uptime_seconds"] > whole["uptime_seconds"]
        for credential in (token, own.key.key):
            refused = admin.get("/v1/metrics?of=server", headers=bearer(credential))
            assert refused.status_code == 403
