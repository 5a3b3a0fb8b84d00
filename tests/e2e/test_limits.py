"""What one key may ask: requests in a minute, turns at once, open streams; on every way in."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
import websockets
from resonantgenesis import RateLimited, ResonantGenesis
from support.server import Serve, ServerProcess, bearer

EXECUTE = "/v1/sessions/execute"
QUICK = {"agent_id": "guide", "goal": "count to 2"}


async def new_key(server: ServerProcess) -> str:
    async with server.client() as client:
        answer = await client.post("/v1/keys", json={"name": "one", "scopes": ["*"]})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["key"])


def client_of(server: ServerProcess, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.url, headers=bearer(key), timeout=20)


def check_limited(answer: httpx.Response, limit: str) -> None:
    assert answer.status_code == 429, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["details"]["limit"]) == ("RATE_LIMITED", limit)
    assert 0 < error["retry_after"] <= int(answer.headers["retry-after"]) <= 60


async def reached(server: ServerProcess, limit: str) -> list[dict[str, Any]]:
    """The events that tell of it, waiting for the first."""
    query = {
        "events": "system.limit.reached",
        "filters": json.dumps({"limit": limit}),
        "wait": 10,
    }
    async with server.client() as client:
        return list((await client.get("/v1/events", params=query)).json()["events"])


async def test_requests_in_a_minute(serve: Serve) -> None:
    server = serve(limits__requests_per_minute=5)
    async with client_of(server, await new_key(server)) as client:
        for left in (4, 3, 2):
            answer = await client.get("/v1/agents")
            assert answer.headers["ratelimit-policy"] == '"requests";q=5;w=60'
            seconds = int(answer.headers["x-ratelimit-reset"])
            assert 0 < seconds <= 60
            assert answer.headers["ratelimit"] == f'"requests";r={left};t={seconds}'
            assert answer.headers["x-ratelimit-limit"] == "5"
            assert answer.headers["x-ratelimit-remaining"] == str(left)
        # Whatever the answer is, it tells what is left.
        assert (await client.get("/v1/agents/nobody")).headers["x-ratelimit-remaining"] == "1"
        made = await client.post(EXECUTE, json=QUICK)
        assert made.status_code == 200
        assert made.headers["x-ratelimit-remaining"] == "0"
        session_id = made.json()["session_id"]
        for answer in (
            await client.get("/v1/agents"),
            await client.get("/v1/nothing"),
            await client.post(EXECUTE, json=QUICK, headers={"Idempotency-Key": "k"}),
        ):
            check_limited(answer, "requests_per_minute")
            assert answer.headers["x-ratelimit-remaining"] == "0"
        # Joins and resumes go on, and so does whoever has another key.
        stream = f"/v1/sessions/{session_id}/stream"
        assert (await client.get(stream, params={"resume_from": 0})).status_code == 200
        joins = {**QUICK, "session_id": session_id, "resume_from": 1}
        assert (await client.post(EXECUTE, json=joins)).status_code == 200
        async with server.client() as other:
            answer = await other.get("/v1/agents")
            assert answer.status_code == 200
            assert "ratelimit" not in answer.headers  # the bootstrap key has no limit
    (event,) = await reached(server, "requests_per_minute")
    assert event["data"]["most"] == 5
    assert event["data"]["key_id"] == event["metadata"]["key_id"]


async def test_executes_on_a_socket_are_requests(serve: Serve) -> None:
    server = serve(limits__requests_per_minute=1)
    key = await new_key(server)
    url = server.url.replace("http", "ws") + "/v1/ws"
    async with websockets.connect(url, additional_headers=bearer(key)) as socket:
        for number in (1, 2):
            await socket.send(json.dumps({"type": "execute", "id": number, **QUICK}))
        async with asyncio.timeout(20):
            async for text in socket:
                message = json.loads(text)
                if message["type"] == "error":
                    break
    assert (message["code"], message["id"]) == ("RATE_LIMITED", 2)
    assert 0 < message["retry_after"] <= 60


async def test_turns_at_once(serve: Serve) -> None:
    server = serve(limits__running_turns=2, words_per_second=20)
    long = {"agent_id": "guide", "goal": "count to 100000", "timeout_seconds": 600}
    key = await new_key(server)
    async with client_of(server, key) as client:
        later = {"Prefer": "respond-async"}
        answers = await asyncio.gather(
            *(client.post(EXECUTE, json=long, headers=later) for _ in range(6))
        )
        started = [answer.json()["session_id"] for answer in answers if answer.status_code == 202]
        assert len(started) == 2  # though all asked at once
        for answer in answers:
            if answer.status_code != 202:
                check_limited(answer, "running_turns")
        queued = {"goal": "count to 2", "if_busy": "enqueue"}
        path = f"/v1/sessions/{started[0]}/execute"
        check_limited(await client.post(path, json=queued, headers=later), "running_turns")
        # A turn that ends makes room, and a refusal has not used its key up.
        await client.post(f"/v1/sessions/{started[0]}/cancel")
        await client.get(f"/v1/sessions/{started[0]}/stream")  # to its `done`
        refused = {"Idempotency-Key": "not used up"}
        answer = await client.post(EXECUTE, json=QUICK, headers=refused)
        assert answer.status_code == 200, answer.text
        # Who obeys `retry_after` only as long as his patience lasts gets the guide's error.
        await client.post(EXECUTE, json=long, headers=later)
        sdk = ResonantGenesis(api_key=key, base_url=server.url, max_retries=1)
        with pytest.raises(RateLimited) as caught:
            async for _ in sdk.sessions.execute_stream(agent_id="guide", goal="x"):
                pass
        assert (caught.value.code, caught.value.retry_after) == ("RATE_LIMITED", 1.0)
        await sdk.aclose()
    assert len(await reached(server, "running_turns")) == 1


async def test_open_streams(serve: Serve) -> None:
    server = serve(limits__open_streams=2)
    key = await new_key(server)
    url = server.url.replace("http", "ws") + "/v1/ws"
    async with (
        client_of(server, key) as client,
        websockets.connect(url, additional_headers=bearer(key)),
    ):
        async with client.stream("GET", "/v1/events/subscribe") as stream:
            assert stream.status_code == 200
            check_limited(await client.get("/v1/events/subscribe"), "open_streams")
            session = (await client.post(EXECUTE, json=QUICK)).json()["session_id"]
            check_limited(await client.get(f"/v1/sessions/{session}/stream"), "open_streams")
            check_limited(await client.post(EXECUTE, json=QUICK | {"stream": True}), "open_streams")
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(url, additional_headers=bearer(key))
            assert refused.value.response.status_code == 429
            async with websockets.connect(url) as stranger:
                await stranger.send(json.dumps({"type": "auth", "token": key}))
                assert json.loads(await stranger.recv())["code"] == "RATE_LIMITED"
            async with server.client() as other:
                assert (await other.get(f"/v1/sessions/{session}/stream")).status_code == 200
        async with asyncio.timeout(10):
            while (await client.get(f"/v1/sessions/{session}/stream")).status_code != 200:
                await asyncio.sleep(0.02)


async def test_keys_of_an_organization_share_its_limits_on_every_way_in(serve: Serve) -> None:
    server = serve(limits__organization_requests_per_minute=2, limits__organization_open_streams=1)
    one, two = await new_key(server), await new_key(server)
    url = server.url.replace("http", "ws") + "/v1/ws"
    async with client_of(server, one) as client:
        assert (await client.post(EXECUTE, json=QUICK)).status_code == 200
        async with client.stream("GET", "/v1/events/subscribe") as stream:
            assert stream.status_code == 200
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(url, additional_headers=bearer(two))
            assert refused.value.response.status_code == 429
            async with websockets.connect(url) as socket:
                await socket.send(json.dumps({"type": "auth", "token": two}))
                message = json.loads(await socket.recv())
            assert message["details"]["limit"] == "organization_open_streams"
        # The refused handshake was the second request of this minute.
        async with websockets.connect(url, additional_headers=bearer(two)) as socket:
            await socket.send(json.dumps({"type": "execute", **QUICK}))
            message = json.loads(await socket.recv())
        assert message["details"]["limit"] == "organization_requests_per_minute"
        check_limited(await client.get("/v1/agents"), "organization_requests_per_minute")
