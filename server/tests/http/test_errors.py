"""Section 3's body for bad input of every kind, on every path."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import orjson
import pytest
import structlog
from http_harness import Serve, Service, bearer, sockets
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.codec.strict_json import parse_json
from resonantgenesis_server.http.errors import error_body, error_response
from resonantgenesis_server.log.base import LogUnavailable
from resonantgenesis_server.model.errors import (
    ApiError,
    InvalidJson,
    PayloadTooLarge,
    RateLimited,
)
from resonantgenesis_server.model.limits import Limits
from resonantgenesis_server.records.base import StoreUnusable

pytestmark = pytest.mark.anyio

JSON = {"Content-Type": "application/json"}
AGENT = b'{"name": "a", "engine": "guide"}'


def check(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The error of an answer, after its shape was checked."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    error: dict[str, Any] = answer.json()["error"]
    assert error["code"] == code
    assert error["request_id"] == answer.headers["x-request-id"]
    assert isinstance(error["message"], str) and isinstance(error["details"], dict)
    assert answer.json().keys() == {"error"}
    return error


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "NOT_FOUND"),
        ("GET", "/v1", 404, "NOT_FOUND"),
        ("GET", "/v1/agents/", 404, "NOT_FOUND"),
        ("GET", "/v2/agents", 404, "NOT_FOUND"),
        ("GET", "/v1/%00", 404, "NOT_FOUND"),
        ("GET", "/v1/%ff%fe", 404, "NOT_FOUND"),
        ("GET", "/v1/agents/%00", 404, "AGENT_NOT_FOUND"),
        ("GET", "/v1/agents/%ed%a0%80", 404, "AGENT_NOT_FOUND"),
        ("GET", "/v1/agents/" + "a" * 5_000, 404, "AGENT_NOT_FOUND"),
        ("DELETE", "/v1/agents/a%0Ab", 404, "AGENT_NOT_FOUND"),
        ("GET", "/v1/keys/%00", 404, "NOT_FOUND"),
        ("DELETE", "/v1/keys/%00", 404, "NOT_FOUND"),
        ("GET", "/v1/agents?limit=0", 422, "INVALID_REQUEST"),
        ("GET", "/v1/agents?limit=x", 422, "INVALID_REQUEST"),
        ("GET", "/v1/agents?cursor=%00", 422, "INVALID_REQUEST"),
        ("GET", "/v1/keys?cursor=x", 422, "INVALID_REQUEST"),
    ],
)
async def test_paths_and_queries(
    service: Service, method: str, path: str, status: int, code: str
) -> None:
    check(await service.client.request(method, path), status, code)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/v1/agents", "GET, HEAD, POST"),
        ("HEAD", "/v1/tokens", "POST"),
        ("TRACE", "/v1/agents", "GET, HEAD, POST"),
        ("POST", "/v1/agents/x", "DELETE, GET, HEAD, PATCH"),
        ("GET", "/v1/tokens", "POST"),
        ("POST", "/healthz", "GET, HEAD"),
        ("DELETE", "/openapi.json", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_answered_with_the_right_ones(
    service: Service, method: str, path: str, allow: str
) -> None:
    answer = await service.client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allow
    if method != "HEAD":
        check(answer, 405, "METHOD_NOT_ALLOWED")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"not json",
        b'{"name": NaN}',
        b'{"name": Infinity}',
        b'{"name": -Infinity}',
        b'{"a": 1e999}',
        b'{"name": "\xff"}',
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        b'{"name": "\\ud800"}',
        b'{"name": "\\udc00\\ud800"}',
        b'{"name": "a"} x',
        b"{'name': 'a'}",
        b'{"name": "a",}',
        b"\x00",
        b" ",
    ],
)
async def test_what_is_not_json(service: Service, body: bytes) -> None:
    for method, path in (("POST", "/v1/agents"), ("PATCH", "/v1/agents/x"), ("POST", "/v1/keys")):
        answer = await service.client.request(method, path, content=body, headers=JSON)
        check(answer, 400, "INVALID_JSON")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"name", "engine"}),
        ([], {"body"}),
        ("text", {"body"}),
        (None, {"body"}),
        (7, {"body"}),
        ({"name": 7, "engine": "guide"}, {"name"}),
        ({"name": None, "engine": "guide"}, {"name"}),
        ({"name": "", "engine": "guide"}, {"name"}),
        ({"name": "a\x00b", "engine": "guide"}, {"name"}),
        ({"name": "a" * 201, "engine": "guide"}, {"name"}),
        ({"name": "a", "engine": "none"}, {"engine"}),
        ({"name": "a", "engine": "guide", "id": "a b"}, {"id"}),
        ({"name": "a", "engine": "guide", "id": "a\x00"}, {"id"}),
        ({"name": "a", "engine": "guide", "id": "a\n"}, {"id"}),
        ({"name": "a", "engine": "guide", "id": "a" * 65}, {"id"}),
        ({"name": "a", "engine": "guide", "tools": "x"}, {"tools"}),
        ({"name": "a", "engine": "guide", "tools": ["x", 1]}, {"tools.1"}),
        ({"name": "a", "engine": "guide", "defaults": []}, {"defaults"}),
        ({"name": "a", "engine": "guide", "defaults": {"max_steps": "3"}}, {"defaults.max_steps"}),
        ({"name": "a", "engine": "guide", "defaults": {"max_steps": 0}}, {"defaults.max_steps"}),
    ],
)
async def test_wrong_fields_are_named(service: Service, body: Any, fields: set[str]) -> None:
    answer = await service.client.post("/v1/agents", content=orjson.dumps(body), headers=JSON)
    error = check(answer, 422, "INVALID_REQUEST")
    assert error["details"]["fields"].keys() == fields
    assert all(isinstance(problem, str) for problem in error["details"]["fields"].values())


async def test_an_empty_body_is_an_invalid_request(service: Service) -> None:
    answer = await service.client.post("/v1/agents")
    assert check(answer, 422, "INVALID_REQUEST")["details"]["fields"].keys() == {"body"}


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "", "multipart/x"],
)
async def test_another_media_type_is_refused(service: Service, kind: str) -> None:
    answer = await service.client.post("/v1/agents", content=AGENT, headers={"Content-Type": kind})
    check(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


async def test_no_media_type_is_refused_too(service: Service) -> None:
    request = service.client.build_request("POST", "/v1/agents", content=AGENT)
    request.headers.pop("content-type", None)
    check(await service.client.send(request), 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8"])
async def test_json_is_taken(service: Service, kind: str) -> None:
    answer = await service.client.post("/v1/agents", content=AGENT, headers={"Content-Type": kind})
    assert answer.status_code == 201


def nested(depth: int) -> bytes:
    return b'{"x":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b',"name":"a","engine":"guide"}'


async def test_depth_is_bounded(service: Service) -> None:
    headers = {**JSON, "Prefer": "handling=lenient"}
    for depth, status in ((32, 201), (33, 413), (900, 413), (100_000, 413)):
        answer = await service.client.post("/v1/agents", content=nested(depth), headers=headers)
        assert answer.status_code == status, depth
    check(answer, 413, "PAYLOAD_TOO_LARGE")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text('[{]}"\\x', max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=12,
)


def true_depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max((true_depth(item) for item in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((true_depth(item) for item in value), default=0)
    return 0


@given(value=VALUES, limit=st.integers(0, 4))
def test_depth_is_counted_as_defined(value: Any, limit: int) -> None:
    data = orjson.dumps(value)
    if true_depth(value) > limit:
        with pytest.raises(PayloadTooLarge):
            parse_json(data, limit, 20_000)
    else:
        assert parse_json(data, limit, 20_000) == value


@given(data=st.binary(max_size=60))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    try:
        parse_json(data, 32, 20_000)
    except (InvalidJson, PayloadTooLarge) as error:
        assert orjson.loads(error_body(error, "r"))["error"]["code"] == error.code


async def test_an_oversize_body_is_refused(serve: Serve) -> None:
    service = await serve(limits=Limits(body=100))
    exact = AGENT + b" " * (100 - len(AGENT))
    assert (await service.client.post("/v1/agents", content=exact, headers=JSON)).status_code == 201
    for kind in ("application/json", "text/plain"):
        answer = await service.client.post(
            "/v1/agents", content=exact + b" ", headers={"Content-Type": kind}
        )
        error = check(answer, 413, "PAYLOAD_TOO_LARGE")
        assert error["details"] == {"limit": 100}


async def test_a_chunked_body_is_counted_while_it_arrives(serve: Serve) -> None:
    """Over real sockets, and the refusal comes before the client has sent everything."""
    service = await serve(limits=Limits(body=1_000))
    async with sockets(service.app) as port:
        stream = await anyio.connect_tcp("127.0.0.1", port)
        async with stream:
            head = (
                f"POST /v1/agents HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.key}\r\n"
                "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            await stream.send(head.encode())
            await stream.send(b"3e9\r\n" + b" " * 1_001 + b"\r\n")
            with anyio.fail_after(5):
                answer = await stream.receive()
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"PAYLOAD_TOO_LARGE" in answer
        async with httpx.AsyncClient(headers=bearer(service.key)) as client:
            small = [AGENT[:5], AGENT[5:]]

            async def parts() -> AsyncIterator[bytes]:
                for part in small:
                    yield part

            url = f"http://127.0.0.1:{port}/v1/agents"
            taken = await client.post(url, content=parts(), headers=JSON)
    assert taken.status_code == 201


async def test_a_body_that_never_ends_is_given_up(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resonantgenesis_server.http.body.BODY_TIMEOUT", 0.02)
    service = await serve()
    async with (
        sockets(service.app) as port,
        await anyio.connect_tcp("127.0.0.1", port) as stream,
    ):
        head = (
            f"POST /v1/agents HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.key}\r\n"
            "Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
        )
        await stream.send(head.encode())
        with anyio.fail_after(5):
            assert (await stream.receive()).startswith(b"HTTP/1.1 422 ")


async def test_a_client_that_leaves_while_it_sends_is_no_error(service: Service) -> None:
    with structlog.testing.capture_logs() as logs:
        async with sockets(service.app) as port:
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                head = (
                    "POST /v1/agents HTTP/1.1\r\nHost: x\r\n"
                    f"Authorization: Bearer {service.key}\r\n"
                    "Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
                )
                await stream.send(head.encode())
            async with httpx.AsyncClient() as client:
                assert (await client.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200
    assert [entry for entry in logs if entry["log_level"] != "debug"] == []


async def test_an_unexpected_error_says_nothing_to_the_client(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(service.records.agents, "list", broken)
    with structlog.testing.capture_logs() as logs:
        answer = await service.client.get("/v1/agents", headers={"x-request-id": "r9"})
    check(answer, 500, "INTERNAL")
    assert "secret" not in answer.text and "Traceback" not in answer.text
    assert [(entry["request_id"], entry["log_level"]) for entry in logs] == [("r9", "error")]


@pytest.mark.parametrize("error", [StoreUnusable, LogUnavailable])
async def test_an_unusable_store_is_unavailable(
    service: Service, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    async def locked(*_: object, **__: object) -> None:
        raise error("/secret/records.db is locked")

    monkeypatch.setattr(service.records.agents, "list", locked)
    answer = await service.client.get("/v1/agents")
    assert check(answer, 503, "UNAVAILABLE")["retry_after"] == 1.0
    assert answer.headers["retry-after"] == "1"
    assert "secret" not in answer.text


@pytest.mark.parametrize("kind", ApiError.__subclasses__())
def test_every_error_has_its_body(kind: type[ApiError]) -> None:
    answer = error_response(kind("why", details={"a": 1}), "r")
    assert answer.status_code == kind.status
    error = orjson.loads(bytes(answer.body))["error"]
    assert (error["code"], error["message"], error["details"]) == (kind.code, "why", {"a": 1})
    assert ("retry_after" in error) == ("retry-after" in answer.headers)
    if kind.status in {429, 503}:
        assert error["retry_after"] > 0
    assert (answer.headers.get("www-authenticate") == "Bearer") == (kind.status == 401)


def test_retry_after_is_rounded_up_for_the_header() -> None:
    answer = error_response(RateLimited("slow", retry_after=0.2), "r")
    assert answer.headers["retry-after"] == "1"
    assert orjson.loads(bytes(answer.body))["error"]["retry_after"] == 0.2
