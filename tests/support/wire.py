"""Reading streams as bytes, without the SDK: what the tests compare the SDK with."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from .server import ServerProcess


@dataclass(frozen=True, slots=True)
class Frame:
    """One server-sent event as it came; `data` is empty in a block that has only a cursor."""

    id: str | None
    event: str | None
    data: str

    @property
    def position(self) -> int:
        return int(self.id or 0)

    @property
    def body(self) -> dict[str, Any]:
        value: dict[str, Any] = orjson.loads(self.data)
        return value


class FrameReader:
    """Feed it bytes, take the complete frames; comments are counted and left out."""

    def __init__(self) -> None:
        self.comments = 0
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        frames = [self._frame(block.decode()) for block in blocks]
        return [frame for frame in frames if frame is not None]

    def _frame(self, block: str) -> Frame | None:
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            if not name:
                self.comments += 1
                continue
            assert name not in fields, f"{name} twice in {block!r}"
            fields[name] = value.removeprefix(" ")
        if not fields:
            return None
        assert fields.keys() <= {"id", "event", "data"}, block
        return Frame(fields.get("id"), fields.get("event"), fields.get("data", ""))


async def frames(response: httpx.Response) -> AsyncIterator[Frame]:
    """A response's frames while they come."""
    reader = FrameReader()
    async for data in response.aiter_bytes():
        for frame in reader.feed(data):
            yield frame


@asynccontextmanager
async def streaming(
    client: httpx.AsyncClient, method: str, path: str, **options: Any
) -> AsyncIterator[tuple[httpx.Response, AsyncIterator[Frame]]]:
    """An open stream; its frames."""
    async with client.stream(method, path, **options) as response:
        if response.status_code != 200:
            await response.aread()
        yield response, frames(response)


async def read_all(
    client: httpx.AsyncClient, session_id: str, *, timeout: float = 30, **params: Any
) -> list[Frame]:
    """Join a session and read to the stream's end."""
    path = f"/v1/sessions/{session_id}/stream"
    async with (
        asyncio.timeout(timeout),
        streaming(client, "GET", path, params=params) as (response, found),
    ):
        assert response.status_code in {200, 204}, response.text
        return [frame async for frame in found]


async def execute(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    """Start a turn and return without waiting for it: `session_id`, `turn`."""
    body = {"agent_id": "guide", **body}
    answer = await client.post(
        "/v1/sessions/execute", json=body, headers={"Prefer": "respond-async"}
    )
    assert answer.status_code in {200, 202}, answer.text
    result: dict[str, Any] = answer.json()
    return result


async def reached(client: httpx.AsyncClient, session_id: str, position: int) -> None:
    """Return once the session's log has this position."""
    path = f"/v1/sessions/{session_id}/events"
    async with asyncio.timeout(60):
        while True:
            params = {"after": max(position - 1, 0), "limit": 1, "wait": 10}
            answer = await client.get(path, params=params)
            if answer.status_code == 200 and answer.json()["events"]:
                return
            # Beyond the end: not there yet.
            assert answer.status_code in {200, 422}, answer.text
            await asyncio.sleep(0.02)


def text_of(found: list[Frame]) -> str:
    """The text of the frames, put together."""
    return "".join(frame.body["content"] for frame in found if frame.event == "message")


def dense(found: list[Frame], first: int = 1) -> None:
    """Positions without gap or overlap, in `id`, `position` and the ranges of compact chunks."""
    expected = first
    for frame in found:
        body = frame.body
        assert frame.position == body["position"], frame
        assert body.get("from", frame.position) == expected, (expected, frame)
        expected = frame.position + 1


async def raw_stream(
    server: ServerProcess, request: bytes, *, receive_buffer: int | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that has sent `request` and reads only when asked."""
    sock = socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", server.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=receive_buffer or 65536)
    writer.write(request)
    await writer.drain()
    return reader, writer
