"""Requests for the socket's path that are no handshakes are told why, in our form."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.http.serving.websocket_protocol import handshake_error
from resonantgenesis_server.model.errors import UpgradeRequired
from ws_harness import KEY, Server
from ws_raw import Raw

pytestmark = pytest.mark.anyio
PATHS = ["/v1/ws", "/api/v1/ws"]
BOTH = "Upgrade: websocket and Connection: Upgrade"
#: What a proxy leaves of a handshake, and what the client is told is missing.
DROPPED: list[tuple[dict[str, str | None], list[str], str]] = [
    ({"Upgrade": None, "Connection": None}, ["Upgrade", "Connection"], BOTH),
    ({"Upgrade": None, "Connection": "close"}, ["Upgrade", "Connection"], BOTH),
    ({"Upgrade": None}, ["Upgrade"], "Upgrade: websocket"),
    ({"Connection": "keep-alive"}, ["Connection"], "Connection: Upgrade"),
    ({"Upgrade": "h2c"}, ["Upgrade"], "Upgrade: websocket"),
]


def ask(
    server: Server, path: str, version: str = "HTTP/1.1", **headers: str | None
) -> tuple[Raw, Any]:
    """The answer, and its body."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    with Raw(server.port, path=path, version=version, headers=sent) as raw:
        size = int(raw.headers["content-length"])
        return raw, json.loads(raw._exactly(size))


def check(raw: Raw, body: Any, status: int, code: str = "INVALID_REQUEST") -> dict[str, Any]:
    assert raw.status == status
    error: dict[str, Any] = body["error"]
    assert error["code"] == code
    assert raw.headers["x-request-id"] == error["request_id"]
    assert raw.headers["content-type"] == "application/json"
    return error


async def test_what_a_proxy_dropped_is_named(server: Server) -> None:
    everything = itertools.product(PATHS, (None, f"Bearer {KEY}"), DROPPED)
    for path, bearer, (headers, missing, named) in everything:
        sent = {**headers, "Authorization": bearer}
        raw, body = await asyncio.to_thread(ask, server, path, **sent)
        error = check(raw, body, 426)
        assert error["details"]["missing"] == missing
        assert f"came without {named};" in error["message"]
        assert raw.headers["upgrade"] == "websocket"
        if headers.get("Connection") != "close":  # else a second line says that it closes
            assert raw.headers["connection"] == "Upgrade"


async def test_a_plain_get_by_an_http_client(server: Server) -> None:
    answer = await server.http.get("/v1/ws")
    assert answer.status_code == 426
    assert answer.json()["error"]["details"]["missing"] == ["Upgrade", "Connection"]


async def test_other_versions_are_answered_with_ours(server: Server) -> None:
    for path, version in itertools.product(PATHS, ("12", "8", "", None)):
        raw, body = await asyncio.to_thread(ask, server, path, Sec_WebSocket_Version=version)
        check(raw, body, 426)
        assert raw.headers["sec-websocket-version"] == "13"
        assert "Sec-WebSocket-Version" in body["error"]["details"]["fields"]


async def test_what_cannot_be_read_is_named(server: Server) -> None:
    for key in (None, "", "short", "!" * 24, "A" * 24):
        raw, body = await asyncio.to_thread(ask, server, "/v1/ws", Sec_WebSocket_Key=key)
        assert "Sec-WebSocket-Key" in check(raw, body, 400)["details"]["fields"]
    raw, body = await asyncio.to_thread(ask, server, "/v1/ws", Sec_WebSocket_Extensions="; ;")
    check(raw, body, 400)


async def test_a_refused_handshake_gets_the_reason(server: Server) -> None:
    for path in PATHS:
        raw, body = await asyncio.to_thread(ask, server, path, Content_Length="2")
        assert "no body" in check(raw, body, 400)["message"]
        raw, body = await asyncio.to_thread(ask, server, path, Transfer_Encoding="chunked")
        assert "no body" in check(raw, body, 400)["message"]
        raw, body = await asyncio.to_thread(ask, server, path, Upgrade="h2c, websocket")
        assert "Upgrade" in check(raw, body, 426)["details"]["fields"]
        raw, body = await asyncio.to_thread(ask, server, path, version="HTTP/1.0")
        assert "HTTP/1.0" in check(raw, body, 426)["message"]


async def test_other_methods_are_answered_with_the_right_one(server: Server) -> None:
    for path, method in itertools.product(PATHS, ("POST", "PUT", "DELETE", "PATCH")):
        answer = await server.http.request(method, path)
        assert answer.status_code == 405
        assert answer.headers["allow"] == "GET"
        assert answer.json()["error"]["code"] == "METHOD_NOT_ALLOWED"


async def test_where_there_is_no_socket_nothing_is_said_of_one(server: Server) -> None:
    assert (await server.http.get("/v1/wss")).status_code == 404
    assert (await server.http.get("/v1/ws/")).status_code == 404


WORDS = st.sampled_from(["upgrade", "Upgrade", "keep-alive", " UPGRADE ", "websocket", "h2c", ""])
NAMES = [b"upgrade", b"Connection", b"sec-websocket-key", b"Sec-WebSocket-Version", b"x"]


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.lists(WORDS).map(",".join) | st.text())))
def test_any_headers_are_accepted_or_refused_with_a_reason(
    headers: list[tuple[bytes, str]],
) -> None:
    error = handshake_error([(name, value.encode("utf-8")) for name, value in headers])
    assert error is not None  # no key among them is one
    assert error.status in {400, 426}
    assert isinstance(error, UpgradeRequired) == (error.status == 426)
