"""Streams that are opened at once, over real connections: no task, no look into a store."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from resonantgenesis_server.http.edge import Edge
from ws_agents import gates
from ws_harness import KEY, PATIENCE, Server

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
    """Paths that the app was called for, which takes a task."""
    paths: list[str] = []
    call = Edge.__call__

    async def calling(self: Edge, scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope["path"])
        await call(self, scope, receive, send)

    monkeypatch.setattr(Edge, "__call__", calling)
    return paths


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


async def test_who_waits_for_a_session_to_begin_is_let_in_at_once(
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


async def test_who_comes_back_to_a_session_that_has_ended_and_waits_is_let_in_at_once(
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


@pytest.mark.parametrize("key", ["", "wrong"])
async def test_who_may_not_in_is_told_why(server: Server, key: str) -> None:
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
