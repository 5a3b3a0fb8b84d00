"""kill -9 right behind an answer: what a conversation was told stays, over both stores."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from support.server import Serve, ServerProcess
from support.wire import execute

SECRET = "5e" * 32
SLOW = {"goal": "count to 100000", "context": {"words_per_second": 20}}
PATIENCE = 60.0
Json = dict[str, Any]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.soak)])
def server(request: pytest.FixtureRequest, serve: Serve) -> ServerProcess:
    if request.param == "sqlite":
        return serve(may_complain=True)
    store = request.getfixturevalue("postgres")
    return serve(may_complain=True, store=store, secret=SECRET)


async def ask(client: httpx.AsyncClient, method: str, path: str, body: Any = None) -> Any:
    answer = await client.request(method, f"/v1/sessions/{path}", json=body)
    assert answer.status_code < 300, answer.text
    return answer.json() if answer.content else None


def restarted(server: ServerProcess) -> None:
    server.kill()
    server.start()


async def ended(client: httpx.AsyncClient, session: str) -> Json:
    """The session, once no turn of it is open."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found: Json = await ask(client, "GET", session)
            if found["status"] not in {"running", "queued"}:
                return found
            await asyncio.sleep(0.05)


async def until_done(client: httpx.AsyncClient, session: str, turns: int) -> list[Json]:
    """All chunks, once so many turns have their `done`. A turn that was taken out of the queue is
    cancelled at once, and has its `done` when it is its turn."""
    async with asyncio.timeout(PATIENCE):
        while True:
            chunks: list[Json] = (await ask(client, "GET", f"{session}/events?after=0"))["events"]
            if sum(chunk["type"] == "done" for chunk in chunks) == turns:
                return chunks
            await asyncio.sleep(0.05)


async def texts(client: httpx.AsyncClient, session: str) -> list[str]:
    page = await ask(client, "GET", f"{session}/messages")
    return [
        "".join(part["content"] for part in message["parts"] if part["type"] == "text")
        for message in page["data"]
    ]


async def test_messages_and_the_queue(server: ServerProcess) -> None:
    async with server.client() as client:
        session = (await execute(client, **SLOW))["session_id"]
        for goal in ("count to 3", "count to 4"):
            await execute(client, goal=goal, session_id=session, if_busy="enqueue")
        await ask(client, "PATCH", f"{session}/queue/2", {"goal": "count to 2"})
        await ask(client, "DELETE", f"{session}/queue/3")
        posted = await ask(
            client, "POST", f"{session}/messages", {"content": "stop it", "message_id": "m1"}
        )
    restarted(server)
    async with server.client() as client:
        chunks = await until_done(client, session, turns=3)
        said = (await texts(client, session))[2:]
        assert said == ["count to 2", "1 2", "count to 4", ""]
        assert [c["position"] for c in chunks] == list(range(1, len(chunks) + 1))
        left = [c for c in chunks if c["type"] == "user_message"]
        assert [(c["message_id"], c["taken"]) for c in left] == [("m1", False)]
        statuses = [c["status"] for c in chunks if c["type"] == "done"]
        assert statuses == ["failed", "success", "cancelled"]
        again = {"content": "stop it", "message_id": "m1"}
        assert await ask(client, "POST", f"{session}/messages", again) == posted


async def test_forks_and_deletions(server: ServerProcess) -> None:
    async with server.client() as client:
        session = (await execute(client, goal="count to 3"))["session_id"]
        await ended(client, session)
        fork = (await ask(client, "POST", f"{session}/fork", {}))["session_id"]
    restarted(server)
    async with server.client() as client:
        assert await texts(client, fork) == ["count to 3", "1 2 3"]
        await ask(client, "DELETE", session)
    restarted(server)
    async with server.client() as client:
        assert (await client.get(f"/v1/sessions/{session}")).status_code == 404
        listed = (await client.get("/v1/sessions")).json()["data"]
        assert [item["session_id"] for item in listed] == [fork]
        assert await texts(client, fork) == ["count to 3", "1 2 3"]
        await execute(client, goal="count to 1", session_id=fork)
        await ended(client, fork)
        assert await texts(client, fork) == ["count to 3", "1 2 3", "count to 1", "1"]
        await ask(client, "DELETE", fork)
    restarted(server)
    async with server.client() as client:
        assert (await client.get("/v1/sessions")).json()["data"] == []


async def test_a_regeneration(server: ServerProcess) -> None:
    async with server.client() as client:
        session = (await execute(client, goal="count to 2"))["session_id"]
        await ended(client, session)
        body = {"replace_turn": 1}
        answer = await client.post(
            f"/v1/sessions/{session}/execute", json=body, headers={"Prefer": "respond-async"}
        )
        assert answer.status_code in {200, 202}
    restarted(server)
    async with server.client() as client:
        await ended(client, session)
        page = (await ask(client, "GET", f"{session}/messages"))["data"]
        assert [m.get("replaced_by") for m in page if m["role"] == "user"] == [2, None]
        assert [m["parts"][0]["content"] for m in page if m["role"] == "user"] == ["count to 2"] * 2
