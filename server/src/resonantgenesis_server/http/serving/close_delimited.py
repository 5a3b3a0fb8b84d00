"""Answers to HTTP/1.0, which knows no chunked encoding: what has no length ends with the
connection."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

_BODILESS = frozenset({204, 304})


class Followed(Protocol):
    """Whoever hears of the client's leaving."""

    #: The answer is a stream: a client that ends its side has left.
    follows: bool


def close_delimited(app: ASGIApp, cycle: RequestResponseCycle, followed: Followed) -> ASGIApp:
    """The app, whose answers without a Content-Length are written as HTTP/1.0 has them."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, _Plain(cycle, send, followed))

    return wrapped


class _Plain:
    """`send` for one answer; one that has a length is uvicorn's affair."""

    def __init__(self, cycle: RequestResponseCycle, send: Send, followed: Followed) -> None:
        self._cycle = cycle
        self._followed = followed
        self._transport: asyncio.Transport = cycle.transport
        self._send = send
        self._plain = False

    async def __call__(self, message: Message) -> None:
        cycle = self._cycle
        if message["type"] == "http.response.start" and not cycle.response_started:
            names = {name.lower() for name, _ in message.get("headers", ())}
            bodiless = cycle.scope["method"] == "HEAD" or message["status"] in _BODILESS
            self._plain = b"content-length" not in names and not bodiless
            if self._plain and not cycle.disconnected:
                self._start(message)
                return
        if not self._plain:
            await self._send(message)
        elif not cycle.disconnected:
            await self._body(message)

    def _start(self, message: Message) -> None:
        cycle = self._cycle
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        status = HTTPStatus(message["status"])
        given = [pair for pair in message["headers"] if pair[0].lower() != b"connection"]
        self._followed.follows = any(
            name.lower() == b"content-type" and value.startswith(b"text/event-stream")
            for name, value in given
        )
        headers = [*cycle.default_headers, *given, (b"connection", b"close")]
        lines = b"".join(b"%b: %b\r\n" % pair for pair in headers)
        first = b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode())
        self._transport.write(first + lines + b"\r\n")

    async def _body(self, message: Message) -> None:
        cycle = self._cycle
        if cycle.flow.write_paused:
            await cycle.flow.drain()
        if body := message.get("body", b""):
            self._transport.write(body)
        if not message.get("more_body", False):
            cycle.response_complete = True
            cycle.message_event.set()
            self._transport.close()
            cycle.on_response()
