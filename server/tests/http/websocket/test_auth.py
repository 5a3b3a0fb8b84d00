"""Who may open a socket, what its credential allows, and how that ends."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
import websockets
from resonantgenesis_server.http.auth.authenticator import KEY_TTL
from resonantgenesis_server.http.watchdog import INTERVAL
from ws_harness import KEY, Client, Serve, Server

pytestmark = pytest.mark.anyio
#: PROTOCOL.md, section 2: what a credential holds open ends within so many seconds, and what a busy
#: machine may add.
PROMISED, ALLOWANCE = 2.0, 3.0


async def refused(server: Server, credential: str | None, **options: Any) -> tuple[int, Any, Any]:
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with server.connect(credential, **options):
            raise AssertionError("the handshake was accepted")
    response = caught.value.response
    return response.status_code, response.headers, json.loads(response.body or b"null")


async def test_a_bad_header_is_refused_before_the_upgrade(server: Server) -> None:
    for credential in ("rg_live_nope", "", "a.b.c"):
        status, headers, body = await refused(server, credential)
        assert status == 401
        assert headers["www-authenticate"] == "Bearer"
        assert body["error"]["code"] == "UNAUTHENTICATED"


async def test_the_first_message_authenticates_and_what_follows_waits_for_it(
    server: Server,
) -> None:
    async with server.connect(None) as client:
        await client.send("auth", token=KEY, id=1)
        await client.send("subscribe", channels=["app"], id=2)
        await client.send("ping", id=3)
        answers = [await client.receive() for _ in range(3)]
    assert [(a["type"], a["id"]) for a in answers] == [
        ("authenticated", 1), ("subscribed", 2), ("pong", 3),
    ]  # fmt: skip


async def test_a_bad_first_message_closes_with_4401(server: Server) -> None:
    async with server.connect(None) as client:
        await client.send("auth", token="rg_live_nope")
        await client.send("subscribe", channels=["app"])
        assert await client.closed() == 4401
        assert [m["type"] for m in client.seen] == ["error"]
        assert client.seen[0]["code"] == "UNAUTHENTICATED"


async def test_nothing_is_done_before_auth(server: Server) -> None:
    async with server.connect(None) as client:
        for kind, fields in (
            ("subscribe", {"channels": ["app"]}),
            ("execute", {"agent_id": "many", "goal": "1"}),
            ("cancel", {"session_id": "sess_x"}),
            ("ping", {}),
        ):
            error = await client.ask("error", kind, **fields)
            assert error["code"] == "UNAUTHENTICATED"
        await client.ask("authenticated", "auth", token=KEY)
        await client.ask("subscribed", "subscribe", channels=["app"])


async def test_no_auth_in_time_closes_with_4408(serve: Serve) -> None:
    server = await serve(auth_wait=0.3)
    async with server.connect(None) as silent, server.connect(None) as other:
        await other.ask("authenticated", "auth", token=KEY)
        assert await silent.closed() == 4408
        await other.ask("pong", "ping")
    assert silent.seen == []


async def test_the_alias_and_an_unknown_path(server: Server) -> None:
    async with websockets.connect(
        server.url.replace("/v1/", "/api/v1/"),
        additional_headers={"Authorization": f"Bearer {KEY}"},
        proxy=None,
    ) as ws:
        await Client(ws).ask("pong", "ping")
        assert ws.response is not None
        assert ws.response.headers["x-request-id"]
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with websockets.connect(server.url + "x", proxy=None):
            pass
    assert caught.value.response.status_code == 404


async def test_a_cookie_from_our_own_page(server: Server) -> None:
    token = await server.make_token("events:read", cookie=True)
    cookie = {"Cookie": f"rg_token={token}"}
    origin = f"http://127.0.0.1:{server.port}"
    async with server.connect(None, headers=cookie, origin=origin) as client:
        await client.ask("subscribed", "subscribe", channels=["app"])
    for wrong in ("http://evil.example", None):
        assert (await refused(server, None, headers=cookie, origin=wrong))[0] == 401


SCOPED: list[tuple[str, str, dict[str, Any]]] = [
    ("events:read", "subscribe", {"channels": ["app"]}),
    ("sessions:read", "subscribe", {"channels": ["session:sess_none"]}),
    ("sessions:write", "execute", {"agent_id": "nobody", "goal": "1"}),
    ("sessions:write", "cancel", {"session_id": "sess_none"}),
    ("sessions:read", "execute",
     {"agent_id": "many", "goal": "1", "session_id": "sess_none", "resume_from": 0}),
]  # fmt: skip


async def test_each_message_needs_its_scope_and_the_connection_stays(server: Server) -> None:
    needed = sorted({scope for scope, _, _ in SCOPED})
    for scope in needed:
        others = [other for other in needed if other != scope]
        for granted in ([scope], others):
            credential, _ = await server.make_key(*granted)
            async with server.connect(credential) as client:
                for wanted, kind, fields in SCOPED:
                    await client.send(kind, **fields)
                    answer = await client.receive()
                    assert (answer.get("code") == "FORBIDDEN") == (wanted not in granted)
                await client.ask("pong", "ping")


async def test_a_subject_sees_only_its_own(server: Server) -> None:
    token = await server.make_token("*", subject="ann")
    async with server.connect(token) as client:
        await client.ask("subscribed", "subscribe", channels=["sessions"])
        foreign = await server.execute("many", "1", subject="bob")
        own = await server.execute("many", "1", subject="ann")
        await server.finished(own["session_id"])
        await server.finished(foreign["session_id"])
        seen = await client.events(4)
        assert {event["session_id"] for event in seen} == {own["session_id"]}
        assert await client.quiet() == []
        channel = f"session:{foreign['session_id']}"
        error = await client.ask("error", "subscribe", channels=[channel])
        missing = await client.ask("error", "subscribe", channels=["session:sess_none"])
        assert {**error, "id": 0} == {**missing, "id": 0}
        error = await client.ask("error", "cancel", session_id=foreign["session_id"])
        assert error["code"] == "SESSION_NOT_FOUND"
        await client.ask("subscribed", "subscribe", channels=[f"session:{own['session_id']}"])


async def test_a_revoked_key_ends_its_sockets_in_time_and_no_other(
    server: Server,
) -> None:
    credential, key_id = await server.make_key("events:read")
    async with server.connect(credential) as ending, server.connect() as staying:
        for client in (ending, staying):
            await client.ask("subscribed", "subscribe", channels=["app"])
        began = time.monotonic()
        assert (await server.http.delete(f"/v1/keys/{key_id}")).status_code < 300
        assert await ending.closed() == 4401
        assert time.monotonic() - began < PROMISED + ALLOWANCE
        assert ending.seen[-1]["code"] == "UNAUTHENTICATED"
        await server.publish("app.x")
        await staying.events(1)


async def test_an_expired_token_ends_its_socket_in_time(server: Server) -> None:
    token = await server.make_token("events:read", ttl_seconds=1)
    began = time.monotonic()
    async with server.connect(token) as client:
        await client.ask("subscribed", "subscribe", channels=["app"])
        assert await client.closed() == 4401
        assert 0.5 < time.monotonic() - began < 1 + PROMISED + ALLOWANCE


def test_what_is_believed_and_how_often_is_looked_keep_the_promise() -> None:
    assert KEY_TTL + INTERVAL < PROMISED


async def test_a_fresh_auth_extends_the_socket(server: Server) -> None:
    short = await server.make_token("events:read", "sessions:read", ttl_seconds=1)
    longer = await server.make_token("events:read", ttl_seconds=60)
    async with server.connect(short) as client, server.connect(short) as witness:
        await client.ask("subscribed", "subscribe", channels=["app"])
        answer = await client.ask("authenticated", "auth", token=longer)
        assert answer["expires_at"].endswith("Z")
        assert await witness.closed() == 4401  # the first token's time is over now
        await server.publish("app.x")
        await client.events(1)
        # What the new one does not allow is over, too.
        error = await client.ask("error", "subscribe", channels=["session:sess_x"])
        assert error["code"] == "FORBIDDEN"


async def test_a_fresh_auth_must_be_of_the_same_caller_and_cover_what_stands(
    server: Server,
) -> None:
    ann = await server.make_token("*", subject="ann")
    bob = await server.make_token("*", subject="bob")
    narrow = await server.make_token("sessions:read", subject="ann")
    async with server.connect(ann) as client:
        await client.ask("subscribed", "subscribe", channels=["app"])
        for token in (bob, KEY, narrow):
            error = await client.ask("error", "auth", token=token)
            assert error["code"] == "FORBIDDEN"
        await client.ask("unsubscribed", "unsubscribe", channels=["app"])
        await client.ask("authenticated", "auth", token=narrow)
        await client.send("auth", token="nope")
        assert await client.closed() == 4401


async def test_a_slow_check_of_the_credential_is_not_overtaken_by_the_deadline(
    serve: Serve,
) -> None:
    server = await serve(auth_wait=0.2)
    verify = server.parts.sockets._authenticator.verify

    class Slow:
        async def verify(self, credential: str) -> Any:
            principal = await verify(credential)
            await asyncio.wait({asyncio.create_task(overdue.wait())}, timeout=10)
            return principal

    overdue = asyncio.Event()
    server.parts.sockets._authenticator = Slow()
    async with server.connect(None) as client:
        asyncio.get_running_loop().call_later(0.3, overdue.set)
        await client.ask("authenticated", "auth", token=KEY)
        await client.ask("pong", "ping")
