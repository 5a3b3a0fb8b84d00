"""Where one request ends and the next begins, over real connections: nobody's bytes become
somebody else's request, and no part of a request can be lengthened without bound."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import psutil
import pytest
from support.server import KEY, Serve, ServerProcess
from support.wire import raw_stream

AUTH = f"Authorization: Bearer {KEY}"
TURN = {"agent_id": "guide", "goal": "count to 1"}
#: The fields with which Java's java.net.http.HttpClient (JDK 17) offers h2c in its first request.
JDK = [
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: h2c",
    "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    "User-Agent: Java-http-client/17.0.15",
]


class Wire:
    """A connection on which anything can be said."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def say(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """One, with its body."""
        async with asyncio.timeout(20):
            text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = text.split("\r\n")
            headers = {n.lower(): v for n, _, v in (line.partition(": ") for line in lines if line)}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(first.split(" ")[1]), headers, body

    async def ended(self) -> bytes:
        """All that comes until the server closes."""
        async with asyncio.timeout(20):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""


@contextlib.asynccontextmanager
async def wire(server: ServerProcess) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


def head(start: str, *lines: str, version: str = "HTTP/1.1", host: str = "Host: x") -> bytes:
    fields = [line for line in (host, *lines) if line]
    return "\r\n".join([f"{start} {version}", *fields, "", ""]).encode("latin-1")


HEALTH = head("GET /healthz")
INNER = head("DELETE /v1/agents/smuggled", AUTH)


@pytest.mark.parametrize("upgrade", ["h2c", "websocket", "TLS/1.0, h2c", "jdk"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize("apart", [False, True])
async def test_an_upgrade_that_is_not_taken_changes_nothing(
    server: ServerProcess, upgrade: str, framing: str, apart: bool
) -> None:
    """RFC 9110, 7.8. The body is the body, also one that looks like a request and comes later."""
    lines = JDK if upgrade == "jdk" else ["Connection: Upgrade", f"Upgrade: {upgrade}"]
    if framing == "length":
        size, body = f"Content-Length: {len(INNER)}", INNER
    else:
        size, body = "Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(INNER), INNER)
    async with wire(server) as each:
        each.say(head(f"POST /v1/files?name={upgrade[:3]}", AUTH, size, *lines))
        if apart:
            await each.writer.drain()
            await asyncio.sleep(0.05)  # the head is a packet of its own
        each.say(body, HEALTH)
        status, _, told = await each.answer()
        assert (status, json.loads(told)["size"]) == (201, len(INNER))
        status, _, told = await each.answer()
        assert (status, told) == (200, b'{"status":"ok"}')


async def test_what_is_said_behind_an_upgrade_that_is_taken_is_in_its_protocol(
    server: ServerProcess,
) -> None:
    """And a request before it gets its answer first."""
    message = json.dumps({"type": "auth", "token": KEY}).encode()
    frame = bytes([0x81, 0x80 | 126, *len(message).to_bytes(2, "big")]) + bytes(4) + message
    if len(message) < 126:
        frame = bytes([0x81, 0x80 | len(message)]) + bytes(4) + message
    shake = head(
        "GET /v1/ws", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )  # fmt: skip
    async with wire(server) as each:
        each.say(HEALTH, shake, frame)
        assert (await each.answer())[0] == 200
        assert (await each.answer())[0] == 101
        async with asyncio.timeout(20):
            await each.reader.readuntil(b'"authenticated"')


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Transfer-Encoding: gzip, chunked"], 501),
        (["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], 400),
        (["Transfer-Encoding: chunked", "Content-Length: 5"], 400),
        (["Transfer-Encoding: identity"], 400),
        (["Content-Length: 5", "Content-Length: 5"], 400),
        (["Content-Length: +5"], 400),
        (["Content-Length: 5,5"], 400),
        (["Content-Length : 5"], 400),
        (["X: a\r\n folded"], 400),
        (["X: a\nY: b"], 400),
        (["X: a\x00b"], 400),
        (["Host: y"], 400),
        (["Expect: something-else"], 417),
        (["X: 1"] * 300, 431),
    ],
)  # fmt: skip
async def test_what_could_be_read_in_two_ways_is_not_read(
    server: ServerProcess, lines: list[str], status: int
) -> None:
    """It is told so, and nothing behind it is taken for a request."""
    async with wire(server) as each:
        each.say(head("POST /v1/files?name=a", AUTH, *lines), b"5\r\nhello\r\n0\r\n\r\n", HEALTH)
        told, headers, body = await each.answer()
        error = json.loads(body)["error"]
        assert (told, error["code"], headers["connection"]) == (status, "INVALID_REQUEST", "close")
        assert error["request_id"] == headers["x-request-id"]
        assert await each.ended() == b""


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (head("GET /healthz", host=""), 400),
        (head("GET /healthz", version="RTSP/1.0"), 400),
        (head("GET /healthz", version="HTTP/2.0"), 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (head("CONNECT x:80"), 501),
        (head("GET  /healthz"), 400),
        (b"\r\n" * 20 + HEALTH, 400),
    ],
)
async def test_what_is_no_request_of_this_protocol(
    server: ServerProcess, request_bytes: bytes, status: int
) -> None:
    async with wire(server) as each:
        each.say(request_bytes)
        assert (await each.answer())[0] == status
        assert await each.ended() == b""


async def test_what_may_be_missing_or_strange(server: ServerProcess) -> None:
    async with wire(server) as each:
        each.say(b"\r\n", HEALTH, b"\r\n", head("GET /healthz", "Proxy-Connection: close"))
        for _ in range(2):
            assert (await each.answer())[0] == 200
        each.say(head("GET http://other.example/healthz"))
        assert (await each.answer())[0] == 200
        each.say(head("GET /healthz", version="HTTP/1.0", host=""))
        assert (await each.answer())[0] == 200
        assert await each.ended() == b""


@pytest.mark.parametrize("way", ["fast", "slow"])
@pytest.mark.parametrize(
    "name",
    ["Authorization", "Content-Type", "Content-Digest", "Idempotency-Key", "Range", "Last-Event-ID",
     "Origin", "X-Log-Epoch"],
)  # fmt: skip
async def test_a_header_of_which_there_is_one_is_refused_twice(
    server: ServerProcess, name: str, way: str
) -> None:
    """On both ways in: a stream that many read is opened without a task."""
    async with server.client() as client:
        made = (await client.post("/v1/sessions", json={"agent_id": "guide"})).json()
    path = f"/v1/sessions/{made['session_id']}/stream?follow=true"
    value = f"Bearer {KEY}" if name == "Authorization" else "0"
    lines = [AUTH, f"{name}: {value}"] if name == "Authorization" else [AUTH] + [f"{name}: 0"] * 2
    async with wire(server) as each:
        each.say(head(f"GET {path if way == 'fast' else '/v1/sessions'}", *lines))
        status, _, body = await each.answer()
    assert status == 422
    assert name.lower() in json.loads(body)["error"]["details"]["fields"]


async def test_a_parameter_given_twice_behind_many(server: ServerProcess) -> None:
    many = "&".join(f"_p{number}=1" for number in range(48))
    async with server.client() as client:
        for query, status in (
            (f"{many}&_a=1", 200),
            (f"{many}&_a=1&_a=2", 422),
            (f"{many}&_b=1&_c=1&_d=1&_a=1&_a=2", 422),
            ("&" * 60, 422),
        ):
            assert (await client.get(f"/v1/sessions?{query}")).status_code == status, query


# -- what could be lengthened for ever -------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "again"),
    [
        (b"1\r\n{\r\n0\r\n", b"a:b\r\n"),
        (b"1\r\n{\r\n0\r\na:", b"b"),
        (b"1\r\n{\r\n0\r\n", b"b"),
        (b"1;", b"a"),
        (b"", b"0"),
        (b"", b"1;a=bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n \r\n"),
    ],
)
@pytest.mark.parametrize("credential", ["", AUTH])
async def test_nothing_between_or_behind_the_chunks_is_without_bound(
    server: ServerProcess, start: bytes, again: bytes, credential: str
) -> None:
    memory = psutil.Process(server.server_pid).memory_info
    before = memory().rss
    piece = again * (64_000 // len(again))
    async with wire(server) as each:
        each.say(
            head("POST /v1/sessions", credential, "Content-Type: application/json",
                 "Transfer-Encoding: chunked"),
            start,
        )  # fmt: skip
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 200_000_000 and not each.writer.is_closing():
                each.say(piece)
                await each.writer.drain()
                sent += len(piece)
        # What a refused client may go on with is dropped, and bounded.
        assert sent < 80_000_000
    assert memory().rss - before < 30_000_000


async def test_trailers_are_dropped(server: ServerProcess) -> None:
    body = json.dumps(TURN).encode()
    async with wire(server) as each:
        each.say(
            head("POST /v1/sessions/execute", AUTH, "Content-Type: application/json",
                 "Transfer-Encoding: chunked"),
            b"%x\r\n%b\r\n0\r\nX-Request-Id: trailer\r\nIdempotency-Key: trailer\r\n\r\n"
            % (len(body), body),
            HEALTH,
        )  # fmt: skip
        status, headers, _ = await each.answer()
        assert (status, headers["x-request-id"] == "trailer") == (200, False)
        assert (await each.answer())[0] == 200


async def test_many_requests_in_one_packet_are_answered_in_order(server: ServerProcess) -> None:
    """They wait as the bytes they came as, one at a time is dealt with."""
    count = 2_000
    async with wire(server) as each:
        each.say(*(head("GET /healthz", f"X-Request-Id: r{n}") for n in range(count)))
        for number in range(count):
            status, headers, _ = await each.answer()
            assert (status, headers["x-request-id"]) == (200, f"r{number}")


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
async def test_a_last_answer_comes_whole_whatever_the_client_says_behind_its_request(
    server: ServerProcess, version: str
) -> None:
    """A close under its words would be a reset, which takes what it has not read yet."""
    request = head("GET /openapi.json", "Connection: close", version=version)
    reader, writer = await raw_stream(server, request, receive_buffer=4_096)
    try:
        writer.write(HEALTH * 15_000)
        await asyncio.sleep(0.5)  # the server has answered; we have read next to nothing
        told = await Wire(reader, writer).ended()
    finally:
        writer.close()
    start, _, body = told.partition(b"\r\n\r\n")
    assert told.count(b"HTTP/1.") == 1
    assert b"connection: close" in start.lower()
    json.loads(body)


# -- expectations ----------------------------------------------------------------------------


async def test_a_client_that_waits_is_told_to_go_on_when_its_body_is_wanted(
    server: ServerProcess,
) -> None:
    body = json.dumps(TURN).encode()
    lines = ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    waits = [*lines, "Expect: 100-Continue"]
    async with wire(server) as each:
        each.say(head("POST /v1/sessions/execute", AUTH, *waits))
        assert (await each.answer())[0] == 100
        each.say(body)
        assert (await each.answer())[0] == 200
        each.say(head("POST /v1/sessions/execute", AUTH, *waits), body)
        assert (await each.answer())[0] == 200  # it did not wait
        each.say(head("GET /healthz", "Expect: 100-continue"))
        assert (await each.answer())[0] == 200  # there is no body to wait for
    async with wire(server) as each:
        each.say(head("POST /v1/sessions/execute", *waits))
        assert (await each.answer())[0] == 401
    async with wire(server) as each:
        each.say(head("POST /v1/sessions/execute", AUTH, *waits, version="HTTP/1.0"))
        await asyncio.sleep(0.1)
        each.say(body)
        assert (await each.answer())[0] == 200


# -- patience --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/openapi.json", "/docs/"])
async def test_who_reads_no_answer_is_left(serve: Serve, path: str) -> None:
    """However many it asks for; and nothing of what it was owed is kept."""
    server = serve(limits__stall=1)
    process = psutil.Process(server.server_pid)
    before = process.memory_info().rss
    request = head(f"GET {path}", AUTH)
    reader, writer = await raw_stream(server, request, receive_buffer=4_096)
    sock = writer.get_extra_info("sockname")[1]
    try:
        writer.write(request * 8_000)
        async with asyncio.timeout(30):
            while any(c.raddr and c.raddr.port == sock for c in process.net_connections("tcp")):
                assert process.memory_info().rss - before < 30_000_000
                await asyncio.sleep(0.1)
    finally:
        writer.close()
        del reader


async def test_a_connection_is_kept_for_as_long_as_it_says(serve: Serve) -> None:
    server = serve(limits__keep_alive=1)
    loop = asyncio.get_running_loop()
    async with wire(server) as each:
        each.say(HEALTH)
        assert (await each.answer())[0] == 200
        began = loop.time()
        each.say(b"\r\n")  # no request, and no way to be kept
        assert await each.ended() == b""
        assert 0.5 < loop.time() - began < 10


async def test_what_is_answered_in_a_drain_says_that_the_connection_ends(serve: Serve) -> None:
    server = serve(agents={"paced": "support.agents:paced"}, drain_seconds=10)
    async with server.client() as client:
        made = await client.post(
            "/v1/sessions/execute",
            json={"agent_id": "paced", "goal": "40", "context": {"count": 40, "pace": 20}},
            headers={"Prefer": "respond-async"},
        )
        assert made.status_code == 202
    async with wire(server) as each, wire(server) as other:
        for one in (each, other):
            one.say(HEALTH)
            assert "connection" not in (await one.answer())[1]
        server.terminate()
        async with asyncio.timeout(10):
            while "draining" not in server.log:
                await asyncio.sleep(0.02)
        each.say(HEALTH)
        status, headers, _ = await each.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await each.ended() == b""
        assert await other.ended() == b""
    assert await asyncio.to_thread(server.wait) == 0


# -- HTTP/1.0 --------------------------------------------------------------------------------


async def test_a_viewer_of_the_old_version_that_leaves_is_missed_at_once(serve: Serve) -> None:
    server = serve(agents={"silent": "support.agents:silent"}, limits__disconnect_grace=0.5)
    body = json.dumps(
        {"agent_id": "silent", "goal": "x", "stream": True, "on_disconnect": "cancel"}
    ).encode()
    size = f"Content-Length: {len(body)}"
    start = head(
        "POST /v1/sessions/execute", AUTH, "Content-Type: application/json", size,
        version="HTTP/1.0",
    )  # fmt: skip
    async with wire(server) as each:
        each.say(start, body)
        _, headers, _ = await each.answer()
        assert headers["content-type"].startswith("text/event-stream")
        async with asyncio.timeout(20):
            await each.reader.readuntil(b"\n\n")
    loop = asyncio.get_running_loop()
    left = loop.time()
    async with server.client() as client:
        async with asyncio.timeout(20):
            path = f"/v1/sessions/{headers['x-session-id']}"
            while (await client.get(path)).json()["status"] == "running":
                await asyncio.sleep(0.05)
        assert (await client.get(path)).json()["status"] == "cancelled"
    assert loop.time() - left < 4  # the next heartbeat would find it out
