"""An echo on the same protocol class and settings as `serve`, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvloop
from resonantgenesis_server.http.limits import Allowance
from resonantgenesis_server.http.serving.websocket_protocol import socket_of
from ws_harness import listening

#: A path whose sockets may send any number of frames.
FAST = "/fast"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    connection = socket_of(scope)
    if connection is not None and scope["path"] == FAST:
        connection.allow(Allowance(1e9, 0.0))
    await receive()
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 405, "headers": []})
        await send({"type": "http.response.body"})
        return
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        back = {"text": message["text"]} if message.get("text") is not None else message
        await send({"type": "websocket.send", **{k: v for k, v in back.items() if k != "type"}})


@contextmanager
def echoing() -> Iterator[int]:
    """Its port."""
    found: list[int] = []
    ready, stop = threading.Event(), threading.Event()

    async def main() -> None:
        async with listening(echo) as (number, _):
            found.append(number)
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: uvloop.run(main()))
    thread.start()
    assert ready.wait(20)
    yield found[0]
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
