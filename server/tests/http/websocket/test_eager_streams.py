"""Streams that are opened in the call that read the request: no task, no look into a store."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from resonantgenesis_server.http.cors import Cors
from resonantgenesis_server.http.middleware import Gateway
from resonantgenesis_server.http.routing import fast_route
from resonantgenesis_server.http.serving.eager import EagerStarter
from resonantgenesis_server.http.serving.http_connection import request_connection_of
from structlog.testing import capture_logs
from ws_agents import gates
from ws_harness import KEY, PATIENCE, Server, listening

pytestmark = pytest.mark.anyio


class Wire:
    """A connection and what comes on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def ask(self, path: str, *lines: str, key: str = KEY) -> None:
        head = [f"GET {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {key}", *lines]
        self.writer.write("\r\n".join([*head, "", ""]).encode())

    async def until(self, mark: bytes) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readuntil(mark)


@asynccontextmanager
async def wire(server: Server) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests that needed a task."""
    names: list[str] = []
    start = EagerStarter.start

    def starting(self: EagerStarter, work: Any) -> asyncio.Task[None] | None:
        task = start(self, work)
        if task is not None:
            names.append(task.get_name())
        return task

    monkeypatch.setattr(EagerStarter, "start", starting)
    return names


async def test_who_joins_a_stream_that_is_read_is_let_in_at_once(
    server: Server, called: list[str]
) -> None:
    goal = secrets.token_hex(4)
    session = (await server.execute("gated", goal))["session_id"]
    path = f"/v1/sessions/{session}/stream"
    async with wire(server) as first, wire(server) as second, wire(server) as alias:
        first.ask(path)
        await first.until(goal.encode())
        called.clear()
        second.ask(path)
        alias.ask(f"/api{path}?resume_from=2")
        await second.until(goal.encode())
        head = await alias.until(b": stream\n\n")
        assert f"x-session-id: {session}".encode() in head.lower()
        assert called == []
        gates[goal].set()
        for each in (first, second, alias):
            tail = await each.until(b"event: done\n")
            assert b'"content":"end"' in tail


async def test_a_reader_that_waits_for_a_session_to_begin_is_answered_at_once(
    server: Server, called: list[str]
) -> None:
    made = await server.http.post("/v1/sessions", json={"agent_id": "many"})
    session = made.json()["session_id"]
    called.clear()
    async with wire(server) as one, wire(server) as other:
        for each in (one, other):
            each.ask(f"/v1/sessions/{session}/stream?follow=true")
            await each.until(b": stream\n\n")
        assert called == []
        await server.execute("many", "3", session_id=session)
        for each in (one, other):
            told = await each.until(b"event: done\n")
            assert [told.count(b"id: %d\n" % position) for position in range(1, 7)] == [1] * 6


async def test_a_reader_that_returns_to_an_ended_session_and_waits_is_answered_at_once(
    server: Server, called: list[str]
) -> None:
    session = (await server.execute("many", "3"))["session_id"]
    end = (await server.finished(session))["position"]
    called.clear()
    async with wire(server) as each:
        each.ask(f"/v1/sessions/{session}/stream?follow=true", f"Last-Event-ID: {end}")
        await each.until(b": stream\n\n")
        assert called == []
        await server.execute("many", "1", session_id=session)
        told = await each.until(b"event: done\n")
    assert told.count(b"id: %d\n" % (end + 1)) == 1
    assert b"id: %d\n" % end not in told


@pytest.mark.parametrize("way", ["from", "turn", "execute"])
async def test_a_place_that_is_trimmed_is_refused_before_the_stream_begins(
    server: Server, way: str
) -> None:
    first = await server.execute("many", "3")
    session = first["session_id"]
    end = (await server.finished(session))["position"]
    await server.execute("many", "1", session_id=session)
    await server.finished(session)
    await server.parts.log.trim(session, end + 1)
    if way == "execute":
        asked = {"agent_id": "many", "goal": "1", "session_id": session}
        answer = await server.http.post(
            "/v1/sessions/execute", json={**asked, "resume_from": 1, "stream": True}
        )
    else:
        place = {"from": "resume_from=1", "turn": "turn=1"}[way]
        answer = await server.http.get(f"/v1/sessions/{session}/stream?{place}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "POSITION_EXPIRED")
    assert answer.json()["error"]["details"]["earliest"] == end + 1


@pytest.mark.parametrize("key", ["", "wrong"])
async def test_a_refused_client_gets_the_reason(server: Server, key: str) -> None:
    session = (await server.execute("many", "3"))["session_id"]
    await server.finished(session)
    async with wire(server) as each:
        each.ask(f"/v1/sessions/{session}/stream?follow=true", key=key)
        assert (await each.until(b"\r\n")).startswith(b"HTTP/1.1 401")


async def test_the_connection_serves_the_next_request_after_its_stream(server: Server) -> None:
    """Also one that came before the stream's end, and after that another stream."""
    goal = secrets.token_hex(4)
    session = (await server.execute("gated", goal))["session_id"]
    path = f"/v1/sessions/{session}/stream"
    async with wire(server) as first, wire(server) as each:
        first.ask(path)
        await first.until(goal.encode())
        each.ask(path)
        await each.until(goal.encode())
        each.ask("/v1/sessions")
        gates[goal].set()
        await each.until(b"event: done\n")
        ended = await each.until(b"0\r\n\r\n")
        assert b"HTTP/1.1" not in ended
        assert (await each.until(b"\r\n")).startswith(b"HTTP/1.1 200")
        await each.until(b'"has_more":false}')
        each.ask(f"{path}?follow=true")
        await each.until(b": stream\n\n")
        await server.execute("gated", goal, session_id=session)
        await each.until(b"event: done\n")


async def test_a_server_that_stops_ends_them(server: Server, called: list[str]) -> None:
    made = await server.http.post("/v1/sessions", json={"agent_id": "many"})
    session = made.json()["session_id"]
    async with wire(server) as each, wire(server) as silent:
        each.ask(f"/v1/sessions/{session}/stream?follow=true")
        await each.until(b": stream\n\n")
        await server.settled(lambda: len(server.uvicorn.server_state.connections) >= 3)
        for connection in list(server.uvicorn.server_state.connections):
            connection.shutdown()
        async with asyncio.timeout(PATIENCE):
            assert await silent.reader.read() == b""  # it had asked for nothing
        server.parts.app.draining = True
        await server.http.delete(f"/v1/sessions/{session}")
        await each.until(b"0\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            assert await each.reader.read() == b""


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()


def execute(goal: str) -> bytes:
    body = f'{{"agent_id": "gated", "goal": "{goal}", "stream": true}}'
    return (
        "POST /v1/sessions/execute HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("cut", ["never", "before", "within", "later"])
async def test_what_is_asked_behind_a_stream_is_answered_after_it(
    server: Server, watched: bool, cut: str
) -> None:
    """However the bytes were cut on their way, and whoever else reads the session."""
    goal = secrets.token_hex(4)
    session = (await server.execute("gated", goal))["session_id"]
    path = f"/v1/sessions/{session}/stream"
    async with wire(server) as other, wire(server) as each:
        if watched:
            other.ask(path)
            await other.until(goal.encode())
        stream = get(path)
        places = {"never": 0, "before": len(stream), "within": 20 + len(stream)}
        size = places.get(cut, len(stream))
        data, told = stream + HEALTH, b""
        each.writer.write(data[:size])
        await each.writer.drain()
        if cut == "later":
            told = await each.until(goal.encode())
        each.writer.write(data[size:])
        gates[goal].set()
        told += await each.until(b"0\r\n\r\n")
        assert told.count(b"HTTP/1.1 ") == 1
        assert b"event: done\n" in told
        assert (await each.until(b"\r\n")).startswith(b"HTTP/1.1 200")


async def test_what_is_asked_behind_an_execute_is_answered_after_it(server: Server) -> None:
    goal = secrets.token_hex(4)
    gates[goal].set()
    async with wire(server) as each:
        each.writer.write(execute(goal) + HEALTH + get("/v1/sessions?limit=1"))
        told = await each.until(b"0\r\n\r\n")
        assert told.count(b"HTTP/1.1 ") == 1
        assert b"event: done\n" in told
        assert (await each.until(b"\r\n")).startswith(b"HTTP/1.1 200")
        assert b"HTTP/1.1 200" in await each.until(b'"next_cursor":')


@pytest.mark.parametrize("pieces", [2, 3])
async def test_no_bytes_of_one_request_become_another(server: Server, pieces: int) -> None:
    """A header's value that looks like a request, cut where it begins."""
    session = (await server.execute("many", "3"))["session_id"]
    await server.finished(session)
    inner = b"GET /readyz HTTP/1.1\r\nX-B: x\r\n\r\n"
    outer = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: "
    stream = get(f"/v1/sessions/{session}/stream?resume_from=1")
    async with wire(server) as each:
        for piece in [stream + outer, inner] if pieces == 2 else [stream, outer, inner]:
            each.writer.write(piece)
            await each.writer.drain()
            await asyncio.sleep(0)
        each.writer.write(HEALTH)
        seen = b""
        for _ in range(3):
            seen += await each.until(b"HTTP/1.1 200 OK")
        each.writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            seen += await each.reader.read()
        assert seen.count(b"HTTP/1.1 ") == 3


@pytest.mark.parametrize("begins", ["stream", "execute"])
async def test_who_has_ended_its_side_before_the_stream_gets_all_of_it_and_the_end(
    server: Server, begins: str
) -> None:
    goal = secrets.token_hex(4)
    gates[goal].set()
    async with wire(server) as each:
        if begins == "stream":
            session = (await server.execute("gated", goal))["session_id"]
            await server.finished(session)
            each.writer.write(get(f"/v1/sessions/{session}/stream?resume_from=0"))
        else:
            each.writer.write(execute(goal))
        each.writer.write_eof()
        async with asyncio.timeout(4):  # less than the server waits for a next request
            told = await each.reader.read()
    assert told.endswith(b"0\r\n\r\n")
    assert b"event: done\n" in told


@pytest.mark.parametrize("early", [b"", HEALTH, b"GET "])
async def test_who_leaves_in_mid_stream_is_missed_whatever_it_has_sent(
    server: Server, early: bytes
) -> None:
    made = await server.http.post("/v1/sessions", json={"agent_id": "many"})
    session = made.json()["session_id"]
    hub = server.parts.supervisor.hub
    async with wire(server) as each:
        each.ask(f"/v1/sessions/{session}/stream?follow=true")
        await each.until(b": stream\n\n")
        await server.settled(lambda: hub.readers(session) == 1)
        each.writer.write(early)
        each.writer.write_eof()
        await server.settled(lambda: hub.readers(session) == 0)


@pytest.mark.parametrize("version", [b"HTTP/0.9", b"HTTP/2.0"])
async def test_other_versions_are_refused(server: Server, version: bytes) -> None:
    async with wire(server) as each:
        each.writer.write(get("/v1/sessions").replace(b"HTTP/1.1", version))
        assert (await each.until(b"\r\n")).startswith(b"HTTP/1.1 400")


async def test_an_answer_that_is_cut_off_by_its_client_is_no_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What uvloop raises between a reset and its telling of it; the same words without one are."""
    closed = "unable to perform operation on <TCPTransport closed=True>; the handler is closed"

    async def cut(scope: Any, receive: Any, send: Any) -> None:
        connection = request_connection_of(scope)
        assert connection is not None
        connection.transport.abort()
        raise RuntimeError(closed)

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError(closed)

    routes = [fast_route("GET", "/cut", cut), fast_route("GET", "/broken", broken)]
    edge = Gateway(cut, authenticator=None, cors=Cors(()), fast=routes)  # type: ignore[arg-type]
    async with listening(edge) as (port, _), httpx.AsyncClient(trust_env=False) as client:
        with capture_logs() as logs, pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"http://127.0.0.1:{port}/cut")
        assert (logs, caplog.records) == ([], [])
        with capture_logs() as logs:
            answer = await client.get(f"http://127.0.0.1:{port}/broken")
    assert (answer.status_code, len(logs)) == (500, 1)
