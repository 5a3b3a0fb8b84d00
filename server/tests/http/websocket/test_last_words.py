"""What a client had sent whole before it left is carried out, however it leaves."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
from ws_harness import KEY, Server
from ws_raw import CLOSE, TEXT, Raw, close_payload, encode

pytestmark = pytest.mark.anyio


def said(kind: str, **fields: Any) -> bytes:
    return encode(TEXT, json.dumps({"type": kind, **fields}).encode())


def close(raw: Raw, last: bytes) -> None:
    raw.send(last + encode(CLOSE, close_payload(1000)))


def close_and_leave(raw: Raw, last: bytes) -> None:
    close(raw, last)
    raw.socket.close()


def finish(raw: Raw, last: bytes) -> None:
    raw.send(last)
    raw.socket.shutdown(socket.SHUT_WR)


def reset(raw: Raw, last: bytes) -> None:
    raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.send(last)
    raw.socket.close()


def break_off(raw: Raw, last: bytes) -> None:
    raw.send(last + said("execute", agent_id="many", goal="never whole")[:-1])
    raw.socket.shutdown(socket.SHUT_WR)


def break_the_protocol(raw: Raw, last: bytes) -> None:
    raw.send(last + b"\xff\xff")


LEAVINGS = [close, close_and_leave, finish, reset, break_off, break_the_protocol]
Leave = Callable[[Raw, bytes], None]


def opened(server: Server, credential: str | None) -> Raw:
    bearer = None if credential is None else f"Bearer {credential}"
    return Raw(server.port, path="/v1/ws", headers={"Authorization": bearer})


async def goals_ended(server: Server, count: int) -> list[str]:
    """The goals of all turns, once so many have ended."""
    async with asyncio.timeout(20):
        while True:
            answer = await server.http.get("/v1/sessions", params={"limit": 100})
            sessions = answer.json()["data"]
            if sum(each["status"] == "completed" for each in sessions) >= count:
                break
            await asyncio.sleep(0.02)
    events = (await server.http.get("/v1/events", params={"events": "session.started"})).json()
    return sorted(event["data"]["goal"] for event in events["events"])


@pytest.mark.parametrize("leave", LEAVINGS)
async def test_turns_asked_for_in_the_last_packet_run(server: Server, leave: Leave) -> None:
    goals = [f"{n:02}" for n in range(20)]
    last = b"".join([said("execute", agent_id="many", goal=goal) for goal in goals])
    with await asyncio.to_thread(opened, server, KEY) as raw:
        await asyncio.to_thread(leave, raw, last)
        assert await goals_ended(server, 20) == goals


@pytest.mark.parametrize("leave", [close, reset])
async def test_the_credential_may_be_in_the_same_packet(server: Server, leave: Leave) -> None:
    last = said("auth", token=KEY) + said("execute", agent_id="many", goal="3")
    with await asyncio.to_thread(opened, server, None) as raw:
        await asyncio.to_thread(leave, raw, last)
        assert await goals_ended(server, 1) == ["3"]


async def test_a_cancel_in_the_last_packet_cancels(server: Server) -> None:
    turn = await server.execute("gated", "wait")
    with await asyncio.to_thread(opened, server, KEY) as raw:
        last = said("cancel", session_id=turn["session_id"])
        await asyncio.to_thread(close_and_leave, raw, last)
        assert (await server.finished(turn["session_id"]))["status"] == "cancelled"


async def test_what_follows_a_refused_credential_is_not_done(server: Server) -> None:
    last = said("auth", token="wrong") + said("execute", agent_id="many", goal="stolen")
    with await asyncio.to_thread(opened, server, None) as raw:
        await asyncio.to_thread(close, raw, last)
        assert await asyncio.to_thread(raw.read_close) in {1000, 4401}
    await server.settled(lambda: server.parts.sockets.count == 0)
    assert (await server.http.get("/v1/sessions")).json()["data"] == []
