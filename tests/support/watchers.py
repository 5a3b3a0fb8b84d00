"""Many streams and sockets at once, and what became of each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from .server import PATIENCE, ServerProcess, bearer
from .wire import Frame, frames


@dataclass
class Watcher:
    """One that reads until it is ended. `seen` is woken by whatever comes."""

    credential: str
    position: int = 0
    events: set[str] = field(default_factory=set)
    #: How it ended: the code of its last frame (None: no error), or the socket's close code.
    ended: str | int | None = None
    is_over: bool = False
    seen: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, body: dict[str, Any]) -> None:
        self.position = max(self.position, body.get("position") or 0)
        if "cursor" in body:
            self.events.add(str(body.get("type")))
        self.seen.set()

    def over(self, how: str | int | None) -> None:
        self.ended, self.is_over = how, True
        self.seen.set()

    async def has(self, event: str, seconds: float) -> bool:
        """Whether this event has come, or comes in so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                while event not in self.events:
                    assert not self.is_over, self
                    self.seen.clear()
                    await self.seen.wait()
        except TimeoutError:
            return False
        return True

    async def until(self, what: str, *, position: int = 0, event: str | None = None) -> None:
        """It has got to this position, or this event has come to it."""
        try:
            async with asyncio.timeout(PATIENCE):
                while self.position < position or (event is not None and event not in self.events):
                    assert not self.is_over, (what, self)
                    self.seen.clear()
                    await self.seen.wait()
        except TimeoutError:
            raise AssertionError(f"{what}, but not for {self}") from None

    async def until_over(self) -> str | int | None:
        """How it ended."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not self.is_over:
                    self.seen.clear()
                    await self.seen.wait()
        except TimeoutError:
            raise AssertionError(f"it goes on: {self}") from None
        return self.ended


async def follow(client: httpx.AsyncClient, path: str, watcher: Watcher) -> None:
    """A stream of server-sent events to its end."""
    try:
        await _follow(client, path, watcher)
    except Exception as error:  # whatever it is: who waits for this one must hear of it
        watcher.over(repr(error))


async def _follow(client: httpx.AsyncClient, path: str, watcher: Watcher) -> None:
    last: Frame | None = None
    async with client.stream("GET", path, headers=bearer(watcher.credential)) as response:
        if response.status_code != 200:
            watcher.over(response.status_code)
            return
        async for frame in frames(response):
            if frame.event is None:
                continue  # a heartbeat with a cursor
            last = frame
            watcher.note(frame.body)
    watcher.over(last.body["code"] if last and last.event == "error" and not last.id else None)


async def listen(
    server: ServerProcess, watcher: Watcher, *subscriptions: dict[str, Any], by_message: bool
) -> None:
    """A socket with these subscriptions, to its close."""
    try:
        await _listen(server, watcher, subscriptions, by_message)
    except Exception as error:
        watcher.over(repr(error))


async def _listen(
    server: ServerProcess,
    watcher: Watcher,
    subscriptions: Sequence[dict[str, Any]],
    by_message: bool,
) -> None:
    url = server.url.replace("http:", "ws:") + "/v1/ws"
    headers = {} if by_message else bearer(watcher.credential)
    async with connect(url, additional_headers=headers, proxy=None) as ws:
        if by_message:
            await ws.send(json.dumps({"type": "auth", "token": watcher.credential}))
        for subscription in subscriptions:
            await ws.send(json.dumps({"type": "subscribe", **subscription}))
        await _take(ws, watcher)
        watcher.over(ws.close_code)


async def _take(ws: ClientConnection, watcher: Watcher) -> None:
    try:
        async for message in ws:
            watcher.note(json.loads(message))
    except ConnectionClosed:
        return  # the close code says why
