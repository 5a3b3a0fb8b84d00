"""The outermost app: request ids, the alias, streams' way past the framework, last resorts."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import structlog
from http_harness import Serve, Service, bearer, sockets
from resonantgenesis_server.http.cors import Cors
from resonantgenesis_server.http.middleware import Drain, Gateway
from resonantgenesis_server.http.routing import fast_route
from resonantgenesis_server.log.base import LogUnavailable
from resonantgenesis_server.model.errors import SessionNotFound
from resonantgenesis_server.records.base import StoreUnusable
from starlette.types import Message, Receive, Scope, Send

pytestmark = pytest.mark.anyio


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what the edge told it."""
    state = scope["state"]
    text = f"{scope['path_params']} {state['principal'].key_id} {state['request_id']}"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
    await send({"type": "http.response.body"})


async def test_every_response_has_a_request_id(service: Service) -> None:
    for path in ("/healthz", "/none", "/v1/none", "/v1/agents"):
        one = await service.client.get(path)
        two = await service.client.get(path)
        assert re.fullmatch(r"req_[0-9a-v]{20}", one.headers["x-request-id"])
        assert one.headers["x-request-id"] != two.headers["x-request-id"]


@pytest.mark.parametrize(
    ("given", "is_taken"),
    [
        ("abc-DEF_1.2", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("", False),
        ("a b", False),
        ("a\u00e9", False),
        ("a,b", False),
    ],
)
async def test_a_clients_request_id_is_taken_if_well_formed(
    service: Service, given: str, is_taken: bool
) -> None:
    answer = await service.client.get(
        "/v1/none", headers=[(b"x-request-id", given.encode("latin-1"))]
    )
    told = answer.headers["x-request-id"]
    assert (told == given) == is_taken
    assert answer.json()["error"]["request_id"] == told


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
async def test_the_alias_is_the_same(serve: Serve, prefix: str) -> None:
    service = await serve(fast=[fast_route("GET", "/v1/things/{name}/x", echo)])
    for path, status in (("/agents", 200), ("/things/a/x", 200), ("/none", 404), ("", 404)):
        answer = await service.client.get(prefix + path)
        assert answer.status_code == status
    bare = httpx.AsyncClient(transport=httpx.ASGITransport(service.app), base_url="http://t")
    assert (await bare.get(prefix + "/agents")).status_code == 401
    assert (await bare.get(prefix)).status_code == 401
    assert (await bare.get("/api/v1x/agents")).status_code == 404
    assert (await bare.get("/v1x")).status_code == 404


async def test_a_fast_route_gets_its_parameters_and_principal(serve: Serve) -> None:
    service = await serve(fast=[fast_route("GET", "/v1/things/{name}/x", echo)])
    answer = await service.client.get("/v1/things/a%20b/x", headers={"x-request-id": "r1"})
    assert answer.text == f"{{'name': 'a b'}} {service.key_id} r1"
    assert answer.headers["x-own"] == "1"
    assert answer.headers["x-request-id"] == "r1"
    for path in ("/v1/things/a%2Fb/x", "/v1/things//x", "/v1/things/a/x/", "/v1/thingsXa/x"):
        assert (await service.client.get(path)).status_code == 404
    assert (await service.client.post("/v1/things/a/x")).status_code == 404


async def test_a_fast_route_without_a_credential_is_not_reached(serve: Serve) -> None:
    called = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        called.append(scope["path"])
        await receive()

    service = await serve(fast=[fast_route("POST", "/v1/x", app)])
    answer = await service.client.post("/v1/x", content=b"secret", headers=bearer("wrong"))
    assert answer.status_code == 401
    # Nobody reads what was sent, so nothing else may come behind it.
    assert answer.headers["connection"] == "close"
    assert called == []


async def test_only_the_gateway_stands_above_a_stream(serve: Serve) -> None:
    """Every frame above a stream is memory for as long as it is open."""
    above = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        above.extend([sys._getframe(1).f_code, sys._getframe(2).f_code])
        await echo(scope, receive, send)

    service = await serve(fast=[fast_route("GET", "/v1/things/{name}/x", app)])
    await service.client.get("/v1/things/a/x")
    assert above[0] is Gateway.__call__.__code__
    assert above[1].co_filename.startswith(str(Path(httpx.__file__).parent))


async def test_errors_of_a_fast_route_are_answered(serve: Serve) -> None:
    async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
        raise SessionNotFound("there is no such session")

    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("secret detail")

    async def storeless(scope: Scope, receive: Receive, send: Send) -> None:
        raise StoreUnusable("disk /secret is full")

    async def logless(scope: Scope, receive: Receive, send: Send) -> None:
        raise LogUnavailable("disk /secret is full")

    service = await serve(
        fast=[
            fast_route("GET", "/v1/refuses", refuses),
            fast_route("GET", "/v1/breaks", breaks),
            fast_route("GET", "/v1/storeless", storeless),
            fast_route("GET", "/v1/logless", logless),
        ]
    )
    for path, status, code in (
        ("/v1/refuses", 404, "SESSION_NOT_FOUND"),
        ("/v1/breaks", 500, "INTERNAL"),
        ("/v1/storeless", 503, "UNAVAILABLE"),
        ("/v1/logless", 503, "UNAVAILABLE"),
    ):
        with structlog.testing.capture_logs() as logs:
            answer = await service.client.get(path, headers={"x-request-id": "r7"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert "secret" not in answer.text
        if status >= 500:
            assert [entry["request_id"] for entry in logs] == ["r7"]


async def test_an_error_after_the_start_cuts_the_connection(serve: Serve) -> None:
    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        raise ValueError("secret detail")

    service = await serve(fast=[fast_route("GET", "/v1/breaks", breaks)])
    async with sockets(service.app) as port, httpx.AsyncClient() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"http://127.0.0.1:{port}/v1/breaks", headers=bearer(service.key))
        after = await client.get(f"http://127.0.0.1:{port}/healthz")
    assert after.status_code == 200


async def ask(app: Gateway, scope: Mapping[str, Any]) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(dict(scope), receive, send)
    return sent


async def test_a_socket_is_refused_where_there_is_none(service: Service) -> None:
    scope = {"type": "websocket", "path": "/v1/ws", "headers": [], "extensions": {}}
    assert await ask(service.app, scope) == [
        {"type": "websocket.close", "code": 1008, "reason": "NOT_FOUND"}
    ]
    wrong = [(b"authorization", b"Bearer wrong")]
    able = {**scope, "headers": wrong, "extensions": {"websocket.http.response": {}}}
    start, body = await ask(service.app, able)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
    assert b"x-request-id" in dict(start["headers"])
    assert b"UNAUTHENTICATED" in body["body"]


async def test_a_socket_route_may_go_without_a_credential(serve: Serve) -> None:
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["state"]["principal"])

    service = await serve(fast=[fast_route("WEBSOCKET", "/v1/ws", app)])
    scope = {"type": "websocket", "path": "/api/v1/ws", "headers": []}
    await ask(service.app, scope)
    right = (b"authorization", b"Bearer " + service.key.encode())
    await ask(service.app, {**scope, "headers": [right]})
    assert seen[0] is None
    assert seen[1].key_id == service.key_id


async def test_the_lifespan_wraps_what_is_served(serve: Serve) -> None:
    happened: list[str] = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[Mapping[str, Any]]:
        happened.append("start")
        yield {"shared": 7}
        happened.append("stop")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        happened.append(f"state {scope['state']['shared']}")
        await echo(scope, receive, send)

    service = await serve(lifespan=lifespan, fast=[fast_route("GET", "/v1/x", app)])
    async with sockets(service.app) as port, httpx.AsyncClient() as client:
        await client.get(f"http://127.0.0.1:{port}/v1/x", headers=bearer(service.key))
    assert happened == ["start", "state 7", "stop"]


async def test_a_failing_lifespan_is_reported_to_the_server() -> None:
    class NeverAsked:
        async def authenticate(self, scope: Scope) -> None:
            return None

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        raise OSError("no room")
        yield

    app = Gateway(echo, authenticator=NeverAsked(), cors=Cors(), lifespan=lifespan)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(OSError):
        await app({"type": "lifespan"}, receive, send)
    assert sent == [{"type": "lifespan.startup.failed", "message": "no room"}]


async def test_draining_is_shared_with_readyz(service: Service) -> None:
    assert (await service.client.get("/readyz")).status_code == 200
    assert not service.app.draining
    service.app.draining = True
    answer = await service.client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "UNAVAILABLE"
    assert answer.json()["error"]["retry_after"] == 1.0
    assert answer.headers["retry-after"] == "1"
    assert (await service.client.get("/healthz")).status_code == 200
    assert Drain().draining is False


async def test_readyz_says_what_is_missing(serve: Serve) -> None:
    answers: list[str | None] = [None, "the log is not open"]

    async def ready() -> str | None:
        return answers.pop(0)

    service = await serve(ready=ready)
    assert (await service.client.get("/readyz")).status_code == 200
    refused = await service.client.get("/readyz")
    assert refused.status_code == 503
    assert refused.json()["error"]["message"] == "the log is not open"
    assert (await service.client.head("/healthz")).status_code == 200


async def test_a_store_that_hangs_makes_it_unready(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resonantgenesis_server.http.api.health.READY_TIMEOUT", 0.01)

    async def ready() -> str | None:
        await anyio.sleep_forever()
        return None

    service = await serve(ready=ready)
    assert (await service.client.get("/readyz")).status_code == 503


async def test_healthz_needs_no_credential(service: Service) -> None:
    for path in ("/healthz", "/livez", "/readyz", "/openapi.json", "/llms.txt"):
        answer = await service.client.get(path, headers={"authorization": "Bearer wrong"})
        assert answer.status_code == 200, path


async def test_a_request_that_the_server_gives_up_is_answered(serve: Serve) -> None:
    """As uvicorn does it, some seconds after the drain."""
    reached = asyncio.Event()

    async def stuck(scope: Scope, receive: Receive, send: Send) -> None:
        reached.set()
        await asyncio.Event().wait()

    service = await serve(fast=[fast_route("GET", "/v1/stuck", stuck)])
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    headers = [(b"authorization", f"Bearer {service.key}".encode())]
    scope = {
        "type": "http", "method": "GET", "path": "/v1/stuck", "raw_path": b"/v1/stuck",
        "query_string": b"", "headers": headers, "http_version": "1.1", "state": {},
    }  # fmt: skip
    task = asyncio.create_task(service.app(scope, receive, send))  # type: ignore[arg-type]
    await reached.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert sent[0]["status"] == 503
    assert b"UNAVAILABLE" in sent[1]["body"]
