"""Client tokens: what they are bound to they see, and nothing else; their end is noticed."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest
from support.browser import chromium, open_source, seen, sign_in
from support.server import KEY, Serve, ServerProcess, bearer
from support.wire import Frame, execute, read_all, streaming

EVERYTHING = ["sessions:read", "sessions:write", "agents:read"]


async def make_token(client: httpx.AsyncClient, **body: Any) -> dict[str, str]:
    """The headers of a new token."""
    answer = await client.post("/v1/tokens", json={"scopes": EVERYTHING, **body})
    assert answer.status_code == 201, answer.text
    return bearer(answer.json()["token"])


async def session_of(client: httpx.AsyncClient, headers: dict[str, str], **body: Any) -> str:
    body = {"agent_id": "guide", "goal": "count to 3", **body}
    answer = await client.post("/v1/sessions/execute", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["session_id"])


#: Every way to a session; those that would change it stand last.
WAYS = [
    ("GET", ""),
    ("GET", "/stream?resume_from=0"),
    ("GET", "/events"),
    ("GET", "/steps"),
    ("POST", "/execute"),
    ("POST", "/cancel"),
    ("DELETE", ""),
]


async def reach(client: httpx.AsyncClient, headers: dict[str, str], session_id: str) -> set[Any]:
    """What each way to the session answers: status and error body without its request id."""
    answers = set()
    for method, way in WAYS:
        body = {"json": {"goal": "count to 3"}} if way == "/execute" else {}
        path = f"/v1/sessions/{session_id}{way}"
        answer = await client.request(method, path, headers=headers, **body)
        error = answer.json()["error"] if answer.status_code >= 400 else {}
        answers.add((answer.status_code, error.get("code"), error.get("message")))
    return answers


async def test_a_subject_sees_only_its_own_sessions(server: ServerProcess) -> None:
    async with server.client() as client:
        alice = await make_token(client, subject="alice")
        bob = await make_token(client, subject="bob")
        hers = await session_of(client, alice)
        his = await session_of(client, bob)
        nobodys = await session_of(client, bearer())
        missing = "sess_00000000000000000000"
        for other in (his, nobodys, missing):
            # The same words for what is another's and for what is not there.
            assert await reach(client, alice, other) == {
                (404, "SESSION_NOT_FOUND", "no such session")
            }
        for token, own in ((alice, hers), (bob, his)):
            listed = (await client.get("/v1/sessions", headers=token)).json()["data"]
            assert [one["session_id"] for one in listed] == [own]
        answer = await client.post(
            "/v1/sessions", json={"agent_id": "guide", "subject": "bob"}, headers=alice
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN")
        # The key sees its organization, and may name a subject.
        assert (await client.get(f"/v1/sessions/{hers}")).json()["subject"] == "alice"
        mine = await client.post("/v1/sessions", json={"agent_id": "guide", "subject": "alice"})
        session = await client.get(f"/v1/sessions/{mine.json()['session_id']}", headers=alice)
        assert session.status_code == 200


async def test_idempotency_keys_belong_to_subjects(server: ServerProcess) -> None:
    async with server.client() as client:
        tokens = [await make_token(client, subject=name) for name in ("carol", "dave")]
        made = [
            await session_of(client, token | {"Idempotency-Key": "the-same"})
            for token in (*tokens, tokens[0])
        ]
        assert made[0] == made[2] != made[1]
        answer = await client.post("/v1/sessions/cancel", json={"idempotency_key": "the-same"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "NOT_FOUND")


async def test_a_token_bound_to_a_session(server: ServerProcess) -> None:
    async with server.client() as client:
        own, other = [await session_of(client, bearer()) for _ in range(2)]
        token = await make_token(client, session_id=own)
        assert await reach(client, token, other) == {(404, "SESSION_NOT_FOUND", "no such session")}
        listed = (await client.get("/v1/sessions", headers=token)).json()["data"]
        assert [one["session_id"] for one in listed] == [own]
        for path, more in (("/v1/sessions", {}), ("/v1/sessions/execute", {"goal": "count to 3"})):
            answer = await client.post(path, json={"agent_id": "guide", **more}, headers=token)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN")
        assert await session_of(client, token, session_id=own) == own


async def test_a_token_bound_to_an_agent(server: ServerProcess) -> None:
    async with server.client() as client:
        other = await session_of(client, bearer(), agent_id="paced")
        token = await make_token(client, agent_id="guide")
        assert await reach(client, token, other) == {(404, "SESSION_NOT_FOUND", "no such session")}
        own = await session_of(client, token)
        listed = (await client.get("/v1/sessions", headers=token)).json()["data"]
        assert own in [one["session_id"] for one in listed]
        assert {one["agent_id"] for one in listed} == {"guide"}
        answer = await client.post(
            "/v1/sessions/execute", json={"agent_id": "paced", "goal": "x"}, headers=token
        )
        assert answer.status_code in {403, 404}
        agents = (await client.get("/v1/agents", headers=token)).json()["data"]
        assert [one["id"] for one in agents] == ["guide"]
        assert (await client.get("/v1/agents/paced", headers=token)).status_code == 404


async def test_scopes(server: ServerProcess) -> None:
    async with server.client() as client:
        own = await session_of(client, bearer())
        reader = await make_token(client, scopes=["sessions:read"])
        answers = await reach(client, reader, own)
        assert {status for status, _, _ in answers} == {200, 403}
        assert (await client.get(f"/v1/sessions/{own}")).status_code == 200
        answer = await client.post("/v1/tokens", json={"scopes": ["*"]}, headers=reader)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN")
        writer = await make_token(client, scopes=["sessions:write"])
        assert (await client.get(f"/v1/sessions/{own}", headers=writer)).status_code == 403
        # A join by execute only reads.
        body = {"agent_id": "guide", "goal": "count to 3", "session_id": own, "resume_from": 0}
        assert (
            await client.post("/v1/sessions/execute", json=body, headers=reader)
        ).status_code == 200


async def read_until_error(
    client: httpx.AsyncClient, headers: dict[str, str], session_id: str
) -> tuple[list[Frame], float]:
    """A following stream's frames to its clean end, and when that was."""
    path = f"/v1/sessions/{session_id}/stream?follow=true&resume_from=0"
    async with (
        asyncio.timeout(20),
        streaming(client, "GET", path, headers=headers) as (response, frames),
    ):
        assert response.status_code == 200, response.text
        found = [frame async for frame in frames]
    return found, time.monotonic()


def check_ended(found: list[Frame], code: str = "UNAUTHENTICATED") -> None:
    """The last frame says why, and is no part of the log."""
    last = found[-1]
    assert (last.event, last.id, last.body["code"]) == ("error", None, code)
    assert last.body["type"] == "error" and last.body["retryable"] is False
    assert all(frame.id for frame in found[:-1])


async def test_a_tokens_expiry_ends_its_stream(server: ServerProcess) -> None:
    async with server.client() as client:
        session_id = await session_of(client, bearer())
        made = time.monotonic()
        token = await make_token(client, ttl_seconds=2)
        found, ended = await read_until_error(client, token, session_id)
        check_ended(found)
        assert 1.5 < ended - made < 2 + 2 + 1
        answer = await client.get(f"/v1/sessions/{session_id}", headers=token)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "UNAUTHENTICATED")
        # The turn and other viewers are none of the token's business.
        assert len(await read_all(client, session_id, resume_from=0)) == len(found) - 1


async def test_an_expiring_token_does_not_stop_the_turn_it_started(server: ServerProcess) -> None:
    async with server.client() as client:
        token = await make_token(client, ttl_seconds=1)
        body = {"goal": "count to 120", "context": {"words_per_second": 40}, "stream": True}
        path = "/v1/sessions/execute"
        async with (
            asyncio.timeout(20),
            streaming(client, "POST", path, json={"agent_id": "guide", **body}, headers=token) as (
                response,
                frames,
            ),
        ):
            found = [frame async for frame in frames]
        check_ended(found)
        kept = await read_all(client, response.headers["x-session-id"], resume_from=0)
        assert kept[-1].body["status"] == "success"
        assert kept[: len(found) - 1] == found[:-1]


async def test_revoking_a_key_ends_its_streams_and_those_of_its_tokens(
    server: ServerProcess,
) -> None:
    async with server.client() as client:
        session_id = await session_of(client, bearer())
        made = await client.post("/v1/keys", json={"name": "short", "scopes": ["*"]})
        key = bearer(made.json()["key"])
        token = await make_token(client, scopes=["sessions:read"])
        answer = await client.post("/v1/tokens", json={"scopes": ["sessions:read"]}, headers=key)
        of_key = bearer(answer.json()["token"])
        streams = [
            asyncio.create_task(read_until_error(client, headers, session_id))
            for headers in (key, of_key)
        ]
        await asyncio.sleep(0.05)
        revoked = time.monotonic()
        assert (await client.delete(f"/v1/keys/{made.json()['id']}")).status_code == 204
        for found, ended in await asyncio.gather(*streams):
            check_ended(found)
            assert ended - revoked < 2 + 1
        assert (await client.get("/v1/sessions", headers=key)).status_code == 401
        assert (await client.get("/v1/sessions", headers=of_key)).status_code == 401
        assert (await client.get("/v1/sessions", headers=token)).status_code == 200


LISTED = "http://app.example"


@pytest.fixture(scope="module")
def with_origins(tmp_path_factory: pytest.TempPathFactory) -> Any:
    server = ServerProcess(tmp_path_factory.mktemp("origins") / "data", cors_origins=LISTED)
    yield server.start()
    server.stop()
    assert server.errors() == []


async def test_where_the_cookie_is_taken(with_origins: ServerProcess) -> None:
    server = with_origins
    async with server.client() as client, server.client(headers={}) as browser:
        session_id = await session_of(client, bearer())
        answer = await client.post(
            "/v1/tokens", json={"scopes": ["sessions:read", "sessions:write"], "cookie": True}
        )
        given = answer.headers["set-cookie"]
        assert given.startswith(f"rg_token={answer.json()['token']};")
        for attribute in ("HttpOnly", "SameSite=strict", "Path=/"):
            assert attribute.lower() in given.lower()
        assert "secure" not in given.lower()  # loopback
        client.cookies.clear()
        cookie = {"Cookie": f"other=1; rg_token={answer.json()['token']}"}
        stream = f"/v1/sessions/{session_id}/stream?resume_from=0"

        async def status(path: str, method: str = "GET", **headers: str) -> int:
            answer = await browser.request(method, path, headers=cookie | headers)
            return answer.status_code

        assert await status(stream) == 200
        assert await status(stream, Origin=LISTED) == 200
        assert await status(stream, Origin=server.url) == 200
        for origin in (
            "http://evil.example",
            "null",
            f"{LISTED}.evil.example",
            "https://app.example",
        ):
            assert await status(stream, Origin=origin) == 401, origin
        # Streams only, reading only.
        assert await status(f"/v1/sessions/{session_id}") == 401
        assert await status("/v1/sessions") == 401
        assert await status(f"/v1/sessions/{session_id}/cancel", "POST") == 401
        assert await status("/v1/sessions/execute", "POST") == 401
        # In no case in a URL.
        path = f"{stream}&access_token={answer.json()['token']}&token={answer.json()['token']}"
        assert (await browser.get(path)).status_code == 401


async def test_away_from_loopback_the_cookie_is_secure(server: ServerProcess) -> None:
    async with server.client() as client:
        body = {"scopes": ["sessions:read"], "cookie": True}
        answer = await client.post("/v1/tokens", json=body, headers={"Host": "api.example"})
        assert "; Secure" in answer.headers["set-cookie"]


async def test_a_browser_is_told_that_its_token_has_expired(serve: Serve) -> None:
    server = serve(words_per_second=20)
    async with server.client() as client, asyncio.timeout(60), chromium() as context:
        session_id = (await execute(client, goal="count to 2000"))["session_id"]
        page = await context.new_page()
        frames: list[dict[str, str]] = []
        ttl = 2
        while not frames:  # on a busy machine the token ends before the stream begins
            await sign_in(page, server.url, KEY, ttl_seconds=ttl)
            await open_source(page, f"/v1/sessions/{session_id}/stream?resume_from=0")
            # What comes after the error is EventSource's own reconnection, which is refused for
            # good.
            await page.wait_for_function("() => window.seen.closed")
            frames = (await seen(page))["frames"]
            ttl *= 2
    assert frames[-1]["event"] == "error"
    assert '"code":"UNAUTHENTICATED"' in frames[-1]["data"]
    positions = [int(frame["id"]) for frame in frames[:-1]]
    assert positions == list(range(1, len(positions) + 1))
    # It carries no id of its own, so the browser's place stayed where it was.
    assert frames[-1]["id"] == str(positions[-1])
