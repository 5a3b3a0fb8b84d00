"""What the guide's clients do, call by call the same, with today's `websockets`."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import websockets
from ws_harness import KEY, Server

pytestmark = pytest.mark.anyio


async def test_by_header_then_subscribe_then_a_loop_over_flat_events(server: Server) -> None:
    lines: list[str] = []

    def handle_event(data: dict[str, Any]) -> bool:
        event_type = data.get("type")
        if event_type == "session.started":
            lines.append(f"started {data['session_id']}")
        elif event_type == "session.completed":
            lines.append(f"completed {data['session_id']}")
        elif event_type == "agent.error":
            lines.append(f"error {data['error']}")
            return True
        return False

    async with websockets.connect(
        server.url,
        compression="deflate",
        additional_headers={"Authorization": f"Bearer {KEY}"},
        proxy=None,
    ) as ws:
        await ws.send(json.dumps({"type": "subscribe", "channels": ["sessions", "agents"]}))
        assert json.loads(await ws.recv())["type"] == "subscribed"
        good = (await server.execute("many", "1"))["session_id"]
        await server.finished(good)
        bad = (await server.execute("failing", "x"))["session_id"]
        async with asyncio.timeout(20):
            async for message in ws:
                if handle_event(json.loads(message)):
                    break
    assert lines == [
        f"started {good}", f"completed {good}", f"started {bad}", "error the agent failed",
    ]  # fmt: skip


async def test_by_first_message_as_a_page_does(server: Server) -> None:
    async with websockets.connect(server.url, proxy=None) as ws:
        await ws.send(json.dumps({"type": "auth", "token": KEY}))
        await ws.send(json.dumps({"type": "subscribe", "channels": ["sessions", "agents"]}))
        session = (await server.execute("many", "1"))["session_id"]
        seen: dict[str, str] = {}
        async with asyncio.timeout(20):
            while "session.completed" not in seen:
                data = json.loads(await ws.recv())
                seen[data["type"]] = data.get("session_id", "")
    assert list(seen)[:2] == ["authenticated", "subscribed"]
    assert {seen["session.started"], seen["session.completed"]} == {session}


async def test_heartbeats_of_the_client(server: Server) -> None:
    async with server.connect() as client:
        for _ in range(3):
            await client.ws.send(json.dumps({"type": "ping"}))
            assert await client.receive() == {"type": "pong"}
