"""Connections without a gateway: how long a client may be silent, and how answers are written."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn
from resonantgenesis_server.http.serving import http_connection as protocol
from resonantgenesis_server.http.serving.acceptor import ConnectionAcceptor
from resonantgenesis_server.http.serving.http_protocol import HttpProtocol
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

pytestmark = pytest.mark.anyio


async def cut_after(sent: bytes, port: int) -> bool:
    """Whether the server drops a connection on which this came and nothing more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        async with asyncio.timeout(10):
            while await reader.read(4096):
                pass
    except ConnectionResetError:
        return True
    finally:
        writer.close()
    return True


@contextlib.asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[int]:
    """The port of a server of this application."""
    config = uvicorn.Config(
        app,
        http=ConnectionAcceptor(),  # type: ignore[arg-type]
        lifespan="off",
        log_config=None,
        ws="none",
        server_header=False,
        date_header=False,
    )
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started:
                await asyncio.sleep(0.01)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await running


async def test_headers_must_come_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEADERS_WITHIN", 0.2)
    async with serving(PlainTextResponse("here")) as port:
        assert await cut_after(b"", port)
        assert await cut_after(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", port)
        # A whole request in time is answered, and its connection may be used again.
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(10):
                assert (await reader.readuntil(b"here")).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_a_client_that_has_just_connected_is_answered_though_the_server_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "LAST_REQUEST", 10.0)
    stopping = asyncio.Event()

    def stops(pending: HttpProtocol) -> None:
        before(pending)
        stopping.set()

    before = HttpProtocol.shutdown
    monkeypatch.setattr(HttpProtocol, "shutdown", stops)

    async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        connected.set()
        await stopping.wait()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        return reader, writer

    connected = asyncio.Event()
    async with serving(PlainTextResponse("here")) as port:
        client = asyncio.create_task(connect(port))
        await connected.wait()
        # The server has it once it has answered a later one.
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"here")
        writer.close()
    reader, writer = await client
    assert (await reader.read()).endswith(b"here")
    writer.close()


START = {"type": "http.response.start", "status": 200, "headers": []}
WITH_LENGTH = {**START, "headers": [(b"Content-Length", b"2")]}
END = {"type": "http.response.body"}


async def answer(messages: list[Message], start: bytes = b"GET / HTTP/1.1") -> bytes:
    """All that the client gets when the application sends these messages."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    async with serving(app) as port, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(start + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = await reader.read()
        writer.close()
    return received


CLOSE = b"connection: close\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"


@pytest.mark.parametrize(
    ("messages", "start", "expected"),
    [
        (
            [WITH_LENGTH, {**END, "body": b"ok"}],
            b"GET / HTTP/1.1",
            b"content-length: 2\r\n%b\r\nok",
        ),
        ([WITH_LENGTH, {**END, "body": b"ok"}], b"HEAD / HTTP/1.1", b"content-length: 2\r\n%b\r\n"),
        (
            [START, {**END, "body": b"a", "more_body": True}, {**END, "body": b"b"}],
            b"GET / HTTP/1.1",
            b"%b" + CHUNKED + b"\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n",
        ),
        (
            [START, {**END, "body": b"a", "more_body": True}, {**END, "body": b"b"}],
            b"GET / HTTP/1.0",
            b"%b\r\nab",
        ),
    ],
)
async def test_bodies_are_framed_as_their_client_can_read(
    messages: list[Message], start: bytes, expected: bytes
) -> None:
    head = b"HTTP/1.1 200 OK\r\n"
    assert await answer(messages, start) == head + expected.replace(b"%b", CLOSE)


async def test_a_status_without_a_body_has_no_framing() -> None:
    got = await answer([{**START, "status": 204}, END])
    assert got == b"HTTP/1.1 204 No Content\r\n" + CLOSE + b"\r\n"
    assert (await answer([{**START, "status": 499}, END])).startswith(b"HTTP/1.1 499 \r\n")


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [END],
        [{**START, "headers": [(b"x-name", b"a\r\nx-other: b")]}],
        [{**START, "headers": [(b"x name", b"a")]}],
    ],
)
async def test_an_application_that_fails_before_its_answer_is_a_500(
    messages: list[Message],
) -> None:
    got = await answer(messages)
    assert got.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert got.endswith(b"\r\n\r\nInternal Server Error")
    assert b"x-other" not in got


@pytest.mark.parametrize(
    "messages",
    [
        [WITH_LENGTH, {**END, "body": b"o"}],
        [WITH_LENGTH, {**END, "body": b"o", "more_body": True}, {**END, "body": b"kk"}],
        [WITH_LENGTH, {**END, "body": b"o", "more_body": True}, START],
        [WITH_LENGTH, {**END, "body": b"o", "more_body": True}],
    ],
)
async def test_an_answer_that_breaks_off_or_its_own_length_ends_the_connection(
    messages: list[Message],
) -> None:
    assert (await answer(messages)).endswith(b"\r\n\r\no")
