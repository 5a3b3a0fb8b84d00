"""Requests that a well-behaved client cannot even send; byte by byte over a socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from support.refusals import check_refusal
from support.server import KEY, ServerProcess, bearer


async def raw(server: ServerProcess, request: bytes) -> tuple[int, bytes]:
    """Status and everything after it that the server answers to these bytes before it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        async with asyncio.timeout(10):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            body = await reader.readexactly(length)
    finally:
        writer.close()
    return int(head.split(b" ", 2)[1]), body


def head(path: str, *lines: str, method: str = "POST") -> bytes:
    """A request's head; the body is the caller's."""
    all_lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {KEY}", *lines]
    return "\r\n".join([*all_lines, "", ""]).encode("latin-1")


EXECUTE = "/v1/sessions/execute"
AS_JSON = "Content-Type: application/json"
TURN = {"agent_id": "guide", "goal": "count to 1"}


async def test_bodies_over_the_limit_by_announcement_and_by_surprise(
    server: ServerProcess,
) -> None:
    # Announced: refused without a byte of it.
    status, body = await raw(server, head(EXECUTE, AS_JSON, "Content-Length: 99999999999"))
    assert (status, json.loads(body)["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")
    # Chunked: as soon as it is over.
    piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    request = head(EXECUTE, AS_JSON, "Transfer-Encoding: chunked") + piece * 17
    status, body = await raw(server, request)
    assert (status, json.loads(body)["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")


async def test_headers_that_come_twice(server: ServerProcess) -> None:
    good = json.dumps(TURN).encode()
    length = f"Content-Length: {len(good)}"
    for lines in (
        [AS_JSON, AS_JSON, length],
        [AS_JSON, "Authorization: Bearer second", length],
        [AS_JSON, "Idempotency-Key: a", "Idempotency-Key: b", length],
        [AS_JSON, "X-Request-Id: a", "X-Request-Id: b", length],
        [AS_JSON, "Accept: a", "Accept: b", "Prefer: x", "Prefer: y", length],
        [AS_JSON, "Content-Type: text/plain", length],
    ):
        status, _ = await raw(server, head(EXECUTE, *lines) + good)
        assert status in {200, 202, 401, 415, 422}, lines
    # Two lengths that differ are how requests are smuggled: no answer but a refusal.
    status, _ = await raw(server, head(EXECUTE, AS_JSON, length, "Content-Length: 3") + good)
    assert status == 400
    status, _ = await raw(
        server, head(EXECUTE, AS_JSON, length, "Transfer-Encoding: chunked") + good
    )
    assert status in {400, 413, 422}


async def test_what_clients_put_right_before_they_send_it(server: ServerProcess) -> None:
    for path, method, codes in [
        ("/v1/sessions/../agents", "GET", {404}),
        ("/v1/sessions/..", "GET", {404}),
        ("/v1/sessions#x", "GET", {200, 400, 404}),
        ("/v1/sessions/sess_\xe9", "GET", {400, 404}),
        ("/v1/sessions", "get", {400, 405}),
        ("http://other.example/v1/nothing", "GET", {400, 404}),
        ("*", "OPTIONS", {400, 404, 405}),
    ]:
        status, _ = await raw(server, head(path, method=method))
        assert status in codes, (path, status)


async def test_an_answer_never_carries_what_the_request_smuggled(server: ServerProcess) -> None:
    async with server.client() as client:
        for bad in ("a b", "x" * 65, 'q"q', "<script>"):
            answer = await client.get("/v1/nothing", headers={"X-Request-Id": bad})
            check_refusal(answer, "NOT_FOUND")
            assert answer.headers["x-request-id"] != bad
        answer = await client.get("/v1/nothing", headers={"X-Request-Id": "my-own.id_1"})
        assert answer.json()["error"]["request_id"] == "my-own.id_1"


async def test_a_client_that_leaves_in_the_middle_of_its_body(server: ServerProcess) -> None:
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head(EXECUTE, AS_JSON, "Content-Length: 100") + b'{"goal"')
        await writer.drain()
        writer.close()
    answer = httpx.get(f"{server.url}/v1/sessions", headers=bearer(), timeout=10)
    assert answer.status_code == 200


class Raw:
    """A connection on which anything can be said."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def head(self) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(10):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(": ") for line in lines[1:] if line)
        return int(lines[0].split(" ")[1]), {name.lower(): value for name, _, value in pairs}

    async def rest(self) -> bytes:
        """Until the server closes."""
        async with asyncio.timeout(20):
            return await self.reader.read()


@contextlib.asynccontextmanager
async def connected(server: ServerProcess) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()


async def send_for_ever(raw: Raw, most: int) -> int:
    """Bytes that the server took before it had enough."""
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < most and not raw.writer.is_closing():
            raw.writer.write(bytes(65_536))
            await raw.writer.drain()
            sent += 65_536
    return sent


@pytest.mark.parametrize(
    ("path", "credential", "status"),
    [
        (EXECUTE, "wrong", 401),
        (EXECUTE, KEY, 413),
        ("/v1/agents/x/nothing", KEY, 404),
        ("/v1/events", KEY, 413),
        ("/v1/tokens?a=1&a=2", KEY, 422),
    ],
)
async def test_a_refusal_in_mid_body_closes_after_a_bounded_while(
    server: ServerProcess, path: str, credential: str, status: int
) -> None:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {credential}", AS_JSON]
    announced = "\r\n".join([*lines, "Content-Length: 999999999999", "", ""]).encode()
    async with connected(server) as raw:
        raw.writer.write(announced + b"{")
        told, headers = await raw.head()
        assert (told, headers["connection"]) == (status, "close")
        body = await raw.reader.readexactly(int(headers["content-length"]))
        assert json.loads(body)["error"]["request_id"] == headers["x-request-id"]
        # What was announced would be a terabyte.
        assert await send_for_ever(raw, 256 << 20) < 128 << 20


async def test_a_refusal_of_a_whole_body_keeps_the_connection(server: ServerProcess) -> None:
    async with connected(server) as raw:
        for _ in range(2):
            raw.writer.write(head("/v1/tokens?a=1&a=2", AS_JSON, "Content-Length: 2") + b"{}")
            status, headers = await raw.head()
            assert (status, headers.get("connection")) == (422, None)
            await raw.reader.readexactly(int(headers["content-length"]))


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_ends_its_side_gets_its_answer(
    server: ServerProcess, stream: bool
) -> None:
    body = json.dumps(TURN | {"stream": stream}).encode()
    async with connected(server) as raw:
        raw.writer.write(head(EXECUTE, AS_JSON, f"Content-Length: {len(body)}") + body)
        raw.writer.write_eof()
        status, _ = await raw.head()
        assert status == 200
        assert b'"success"' in await raw.rest()


async def test_http_1_0_gets_no_chunks(server: ServerProcess) -> None:
    body = json.dumps(TURN | {"stream": True}).encode()
    lines = [AS_JSON, f"Content-Length: {len(body)}"]
    async with connected(server) as raw:
        raw.writer.write(head(EXECUTE, *lines).replace(b"HTTP/1.1", b"HTTP/1.0") + body)
        status, headers = await raw.head()
        assert (status, headers["connection"]) == (200, "close")
        assert "transfer-encoding" not in headers
        frames = await raw.rest()
    assert frames.startswith(b":")
    assert frames.rstrip().rsplit(b"data: ", 1)[1].startswith(b'{"type":"done"')
    session = headers["x-session-id"]
    join = head(f"/v1/sessions/{session}/stream?turn=1", method="GET")
    async with connected(server) as raw:
        raw.writer.write(join.replace(b"HTTP/1.1", b"HTTP/1.0"))
        await raw.head()
        assert b'"type":"done"' in await raw.rest()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /v1/" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /v1/agents HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /v1/agents HTTP/1.1\r\nX: " + b"a" * 900_000, 431),
        (b"GET /v1/agents HTTP/1.1\r\n" + b"X: a\r\n" * 60_000, 431),
    ],
)
async def test_what_is_no_request_is_refused_in_our_words(
    server: ServerProcess, request_bytes: bytes, status: int
) -> None:
    async with connected(server) as raw:
        raw.writer.write(request_bytes)
        told, headers = await raw.head()
        error = json.loads(await raw.rest())["error"]
    assert (told, error["code"], headers["connection"]) == (status, "INVALID_REQUEST", "close")
    assert error["request_id"] == headers["x-request-id"]
    (line,) = server.logged("request refused", request_id=error["request_id"])
    assert (line["level"], line["status"]) == ("info", status)
    assert b"Invalid HTTP request" not in server.log_path.read_bytes()


async def test_headers_just_under_the_limit_are_taken(server: ServerProcess) -> None:
    lines = [f"X-{number}: {'a' * 6_000}" for number in range(10)]
    status, _ = await raw(server, head("/v1/agents", *lines, method="GET"))
    assert status == 200


async def test_head_is_get_without_its_body_but_for_streams(server: ServerProcess) -> None:
    async with server.client() as client:
        for path in ("/v1/agents", "/v1/sessions?limit=1", "/healthz", "/openapi.json", "/docs/"):
            got, told = await client.get(path), await client.head(path)
            assert (told.status_code, told.content) == (200, b""), path
            assert told.headers["content-length"] == got.headers["content-length"]
            assert told.headers["content-type"] == got.headers["content-type"]
        for path in ("/v1/events/subscribe", "/v1/sessions/sess_x/stream", "/v1/events/export"):
            told = await client.head(path)
            assert (told.status_code, told.headers["allow"]) == (405, "GET"), path
        assert (await client.head("/v1/agents/nobody")).status_code == 404
        assert "HEAD" in (await client.put("/v1/agents")).headers["allow"]
