"""The cookie that carries a client token: where it is taken, and from which pages."""

from __future__ import annotations

import pytest
from http_harness import Serve, Service, bearer, status
from resonantgenesis_server.http.auth.authenticator import COOKIE
from resonantgenesis_server.http.routing import fast_route
from resonantgenesis_server.model.errors import Unauthenticated
from starlette.types import Receive, Scope, Send

pytestmark = pytest.mark.anyio


async def whoami(scope: Scope, receive: Receive, send: Send) -> None:
    principal = scope["state"]["principal"]
    text = f"{principal.organization_id} {principal.subject} {sorted(principal.scopes)}"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})


STREAM = fast_route("GET", "/v1/sessions/{session_id}/stream", whoami)


async def cookie_status(
    service: Service, token: str, path: str = "/v1/sessions/s/stream", **headers: str
) -> int:
    return await status(service, {"Cookie": f"a=b; {COOKIE}={token}; bad cookie", **headers}, path)


async def test_the_cookie_opens_get_streams_only(serve: Serve) -> None:
    service = await serve(fast=[STREAM])
    token = await service.make_token()
    assert await cookie_status(service, token) == 200
    assert await cookie_status(service, token, "/api/v1/sessions/s/stream") == 200
    # Taken there as well, although nothing serves it yet.
    assert await cookie_status(service, token, "/v1/events/subscribe") == 404
    for path in ("/v1/agents", "/v1/sessions/s/streams", "/v1/sessions/s/t/stream", "/v1/sessions"):
        assert await cookie_status(service, token, path) == 401
    cookie = [(b"cookie", f"{COOKIE}={token}".encode())]
    scope = {"type": "http", "path": "/v1/sessions/s/stream", "headers": cookie}
    assert await service.authenticator.authenticate({**scope, "method": "GET"}) is not None
    for method in ("POST", "PUT", "DELETE", "HEAD", "OPTIONS"):
        assert await service.authenticator.authenticate({**scope, "method": method}) is None


async def test_the_cookie_holds_a_token_and_no_key(serve: Serve) -> None:
    service = await serve(fast=[STREAM])
    assert await cookie_status(service, service.key) == 401
    assert await cookie_status(service, "") == 401


async def test_authorization_goes_before_the_cookie(serve: Serve) -> None:
    service = await serve(fast=[STREAM])
    token = await service.make_token()
    assert await cookie_status(service, token, **bearer("wrong")) == 401


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://testserver", 200),
        ("https://testserver", 200),
        ("https://app.example", 200),
        ("https://APP.example", 200),
        ("http://testserver:81", 401),
        ("http://testserver.evil", 401),
        ("https://evil.example", 401),
        ("null", 401),
        ("x", 401),
        ("http://[", 401),
        ("http://[::1", 401),
        ("ftp://testserver", 401),
        ("http://testserver/", 401),
        ("http://user@testserver", 401),
        ("//testserver", 401),
    ],
)
async def test_the_cookie_is_taken_from_known_origins(
    serve: Serve, origin: str, expected: int
) -> None:
    service = await serve(fast=[STREAM], cors_origins=["https://app.example"])
    token = await service.make_token()
    assert await cookie_status(service, token, Origin=origin) == expected


async def test_any_origin_by_default_does_not_mean_the_cookie(serve: Serve) -> None:
    service = await serve(fast=[STREAM])
    token = await service.make_token()
    assert await cookie_status(service, token, Origin="https://any.example") == 401


async def test_a_socket_with_a_cookie_must_name_its_origin(service: Service) -> None:
    token = await service.make_token()
    cookie = (b"cookie", f"{COOKIE}={token}".encode())
    host = (b"host", b"testserver")
    scope = {"type": "websocket", "path": "/v1/ws", "headers": [cookie, host]}
    with pytest.raises(Unauthenticated):
        await service.authenticator.authenticate(scope)
    scope["headers"] = [cookie, host, (b"origin", b"http://testserver")]
    principal = await service.authenticator.authenticate(scope)
    assert principal is not None and principal.key_id == service.key_id
