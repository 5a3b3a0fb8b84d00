"""Requests that a well-behaved client cannot even send; byte by byte over a socket."""

from __future__ import annotations

import asyncio
import json

import httpx
from support.refusals import GOOD, check_refusal
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
    good = json.dumps(GOOD).encode()
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
