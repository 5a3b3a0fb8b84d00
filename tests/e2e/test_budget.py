"""The monthly budget of tokens, on every way in, and over kill -9."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from resonantgenesis import RateLimited, ResonantGenesis
from support.server import KEY, Serve, ServerProcess, bearer
from support.wire import execute, read_all

AGENTS = {"spend": "support.agents:spend"}
NEW = {"agent_id": "spend", "goal": "5"}


def until_next_month() -> float:
    """Seconds."""
    now = datetime.now(UTC)
    year, month = now.year + now.month // 12, now.month % 12 + 1
    return (datetime(year, month, 1, tzinfo=UTC) - now).total_seconds()


async def spend(client: httpx.AsyncClient, tokens: int, **more: Any) -> dict[str, Any]:
    body = {"agent_id": "spend", "goal": str(tokens), **more}
    answer = await client.post("/v1/sessions/execute", json=body)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


async def told(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    """The limits that were reached, waiting for the first."""
    query = {"events": "billing.limit.reached", "wait": 10}
    return list((await client.get("/v1/events", params=query)).json()["events"])


def check_refused(error: dict[str, Any]) -> None:
    assert error["code"] == "RATE_LIMITED"
    assert abs(error["retry_after"] - until_next_month()) < 60


async def refused_over_http(client: httpx.AsyncClient, session_id: str) -> None:
    for path, body in [
        ("/v1/sessions/execute", NEW),
        ("/v1/sessions/execute", NEW | {"stream": True}),
        ("/v1/sessions/execute", NEW | {"session_id": session_id, "if_busy": "interrupt"}),
        (f"/v1/sessions/{session_id}/execute", {"goal": "5", "if_busy": "enqueue"}),
    ]:
        answer = await client.post(path, json=body, headers={"Idempotency-Key": "of the refused"})
        assert answer.status_code == 429, answer.text
        error = answer.json()["error"]
        check_refused(error)
        assert int(answer.headers["retry-after"]) == error["retry_after"]


async def refused_over_a_socket(server: ServerProcess) -> None:
    url = server.url.replace("http", "ws", 1) + "/v1/ws"
    async with websockets.connect(url, additional_headers=bearer()) as ws:
        await ws.send(json.dumps({"type": "execute", "id": 1, **NEW}))
        async with asyncio.timeout(20):
            message = json.loads(await ws.recv())
    assert (message["type"], message["id"]) == ("error", 1)
    check_refused(message)


async def test_what_runs_ends_and_nothing_new_starts(serve: Serve, tmp_path: Path) -> None:
    server = serve(agents=AGENTS, limits__monthly_tokens=100)
    gate = tmp_path / "gate"
    async with server.client() as client, asyncio.timeout(60):
        waits = {**NEW, "context": {"file": str(gate)}}
        running = (await execute(client, **waits))["session_id"]
        queued = await execute(client, **NEW, session_id=running, if_busy="enqueue")
        key = {"Idempotency-Key": "before"}
        first = await client.post("/v1/sessions/execute", json=NEW, headers=key)
        await spend(client, 95)
        (event,) = await told(client)
        assert event["data"].items() >= {"monthly_tokens": 100, "used_tokens": 100}.items()
        await refused_over_http(client, running)
        await refused_over_a_socket(server)
        async with ResonantGenesis(api_key=KEY, base_url=server.url) as sdk:
            with pytest.raises(RateLimited) as refused:
                await sdk.sessions.execute(agent_id="spend", goal="5")
        assert (refused.value.retry_after or 0) > 0
        # A session without a turn costs nothing; what was accepted can be joined.
        made = await client.post("/v1/sessions", json={"agent_id": "spend"})
        assert made.status_code == 201
        again = await client.post("/v1/sessions/execute", json=NEW, headers=key)
        assert again.json() == first.json()
        # What runs ends in order, and so does what waits behind it.
        gate.touch()
        assert (await read_all(client, running, turn=1))[-1].body["status"] == "success"
        last = await read_all(client, running, turn=queued["turn"])
        assert last[-1].body["status"] == "success"
        found = (await client.get("/v1/usage")).json()
        assert found["totals"]["total_tokens"] == found["budget"]["used_tokens"] == 110
        assert len(await told(client)) == 1
        assert event["data"]["resets_at"] == found["budget"]["resets_at"]
        assert event["metadata"]["key_id"] is None


async def test_neither_a_kill_nor_a_stop_changes_the_count(serve: Serve) -> None:
    server = serve(agents=AGENTS, limits__monthly_tokens=1_000)
    ended = 0
    rng = random.Random(1)

    async def work(client: httpx.AsyncClient) -> None:
        nonlocal ended
        while True:
            try:
                answer = await client.post("/v1/sessions/execute", json=NEW)
            except httpx.TransportError:
                return
            if answer.status_code == 429:
                return
            ended += answer.json().get("status") == "success"

    for stop in (server.kill, server.stop):
        before = ended
        async with server.client() as client, asyncio.timeout(60):
            workers = [asyncio.create_task(work(client)) for _ in range(4)]
            while ended < before + rng.randrange(20, 40):
                await asyncio.sleep(0.001)
            await asyncio.to_thread(stop)
            await asyncio.gather(*workers)
        await asyncio.to_thread(server.start)
    async with server.client() as client, asyncio.timeout(60):
        await asyncio.gather(*(work(client) for _ in range(4)))
        found = (await client.get("/v1/usage", params={"group_by": "turn", "limit": 500})).json()
        events = (
            await client.get(
                "/v1/events", params={"events": "billing.usage.recorded", "limit": 1_000}
            )
        ).json()["events"]
        recorded = {event["data"]["session_id"]: event["data"] for event in events}
        assert len(recorded) == len(events) == found["totals"]["turns"] >= ended
        assert {
            row["session_id"]: row["total_tokens"] for row in found["data"]
        } == {
            name: data["input_tokens"] + data["output_tokens"] for name, data in recorded.items()
        }  # fmt: skip
        assert found["budget"]["used_tokens"] == found["totals"]["total_tokens"] >= 1_000
        assert len(await told(client)) == 1
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        assert (await client.post("/v1/sessions/execute", json=NEW)).status_code == 429
        assert len(await told(client)) == 1
