"""A server that stops: told first, closed one after the other, nothing cut that still runs."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
import websockets
from resonantgenesis_server.model.errors import Unavailable
from ws_agents import gates
from ws_harness import Client, Server

pytestmark = pytest.mark.anyio


async def drain(server: Server, seconds: float) -> None:
    """As `serve` does it."""
    server.parts.app.draining = server.parts.supervisor.draining = True
    async with asyncio.TaskGroup() as group:
        group.create_task(server.parts.supervisor.drain(seconds))
        group.create_task(server.parts.sockets.drain(seconds))


async def test_sockets_get_a_message_and_are_closed_with_1012(server: Server) -> None:
    async with server.connect() as client, server.connect(None) as stranger:
        await client.ask("subscribed", "subscribe", channels=["app"])
        await server.publish("app.last")
        await drain(server, 5)
        assert await client.closed() == 1012
        assert await stranger.closed() == 1012
    assert client.seen[-1] == {"type": "draining", "retry_after": 1.0}
    assert [m["type"] for m in client.seen[1:]] == ["app.last", "draining"]
    assert [m["type"] for m in stranger.seen] == ["draining"]
    assert server.parts.sockets.count == 0


async def test_new_sockets_are_refused_with_a_time_to_wait(server: Server) -> None:
    await drain(server, 1)
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with server.connect():
            pass
    assert caught.value.response.status_code == 503
    assert int(caught.value.response.headers["retry-after"]) >= 1


async def test_closes_are_spread(server: Server) -> None:
    async with contextlib.AsyncExitStack() as stack:
        clients: list[Client] = []
        for _ in range(60):
            clients.append(await stack.enter_async_context(server.connect()))
        times: list[float] = []

        async def watch(client: Client) -> None:
            assert await client.closed() == 1012
            times.append(time.monotonic())

        began = time.monotonic()
        await asyncio.gather(drain(server, 5), *map(watch, clients))
    taken = sorted(moment - began for moment in times)
    assert taken[-1] - taken[0] > 0.5
    assert taken[-1] < 5
    busiest = max(sum(1 for t in taken if a <= t < a + 0.1) for a in taken)
    assert busiest < 30


async def test_who_follows_a_running_turn_stays_until_it_has_ended(server: Server) -> None:
    async with server.connect() as busy, server.connect() as idle:
        started = await busy.ask("started", "execute", agent_id="gated", goal="ending")
        session = started["session_id"]
        draining = asyncio.create_task(drain(server, 10))
        assert await idle.closed() == 1012
        error = await busy.ask("error", "execute", agent_id="many", goal="1")
        assert error["code"] == "UNAVAILABLE"
        assert error["retry_after"] > 0
        gates["ending"].set()
        chunks = await busy.done(session)
        assert chunks[-1]["status"] == "success"
        assert await busy.closed() == 1012
        await draining


async def test_a_turn_cancelled_by_the_drain_is_reported(server: Server) -> None:
    async with server.connect() as client:
        await client.ask("started", "execute", agent_id="gated", goal="never")
        draining = asyncio.create_task(drain(server, 0.2))
        assert (await client.done())[-1]["status"] == "cancelled"
        assert await client.closed() == 1012
        await draining


async def test_a_stream_that_opens_behind_the_drain_ends_at_once(server: Server) -> None:
    session = (await server.http.post("/v1/sessions", json={"agent_id": "many"})).json()
    running = await server.execute("gated", "behind the drain")
    paths = (
        f"/v1/sessions/{session['session_id']}/stream?follow=true",
        f"/v1/sessions/{running['session_id']}/stream",
        "/v1/events/subscribe",
    )
    server.parts.watch.end_all(Unavailable("the server is shutting down", retry_after=1))
    for path in paths:
        answer = await server.http.get(path)
        assert answer.status_code == 200
        last = answer.text.strip().split("\n\n")[-1]
        assert last.startswith("event: error\n") and '"code":"UNAVAILABLE"' in last, answer.text
    for path in (
        "/v1/events?wait=30&events=app.none",
        f"/v1/sessions/{running['session_id']}/events?after=2&wait=30",
    ):
        answer = await server.http.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "UNAVAILABLE")
    # What does not wait is answered.
    assert (await server.http.get("/v1/agents")).status_code == 200
    gates["behind the drain"].set()
