"""One request and its answer between the server and the app: the edge's headers go out with it,
and a body that nobody has read to its end does not keep the connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable

from starlette.types import Message, Receive, Scope, Send

from .body import header
from .cors import HeaderList
from .serving.http_protocol import request_connection_of

#: How long, and for how many bytes, a client is listened to that was answered in mid-body: most
#: read no answer before they have sent everything, and would not find it if we closed under them.
LINGER_SECONDS = 30.0
LINGER_BYTES = 64 * 1024 * 1024

_CLOSE = (b"connection", b"close")


class Exchange:
    """The app's `send`, and the `receive` that goes with it."""

    __slots__ = (
        "_body_ended", "_connection", "_headers", "_lingers", "_receive", "_scope", "_send",
        "finished", "receive", "started",
    )  # fmt: skip

    def __init__(self, scope: Scope, receive: Receive, send: Send, headers: HeaderList) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        #: Whoever still holds this list may add to it before the answer starts.
        self._headers = headers
        self._connection = request_connection_of(scope)
        self._body_ended = False
        self._lingers = False
        #: Our own server knows by itself how far the body has come.
        self.receive: Receive = receive if self._connection is not None else self._noting
        self.started = False
        self.finished = False

    def send(self, message: Message) -> Awaitable[None]:
        """After the start only one more plain call for each message."""
        kind = message["type"]
        if kind in {"http.response.start", "websocket.http.response.start"}:
            self.started = True
            headers = [*message.get("headers", ()), *self._headers]
            if kind == "http.response.start" and self._is_unread():
                self._lingers = True
                if _CLOSE not in headers:
                    headers.append(_CLOSE)
            message = {**message, "headers": headers}
        elif kind in {"http.response.body", "websocket.http.response.body"}:
            self.finished = not message.get("more_body", False)
            if self.finished and self._lingers:
                return self._finish(message)
        elif kind in {"websocket.accept", "websocket.close"}:
            self.started = True
        return self._send(message)

    def gives_up(self, error: Exception) -> bool:
        """Whether the error is what uvloop raises for a write between a reset and its telling of
        it: nobody is left to answer."""
        connection = self._connection
        if connection is None or not connection.transport.is_closing():
            return False
        if not isinstance(error, RuntimeError) or "handler is closed" not in str(error):
            return False
        connection.give_up()
        return True

    async def _noting(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._body_ended = True
        return message

    def _is_unread(self) -> bool:
        """Whether some of the request's body is still to come."""
        if self._connection is not None:
            return self._connection.unread
        return not self._body_ended and announces_body(self._scope)

    async def _finish(self, message: Message) -> None:
        """Give the client all of the answer, let it send for a while, then close."""
        await self._send({**message, "more_body": True})
        if self._connection is not None:
            self._connection.linger()
        left = LINGER_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while left > 0 and self._is_unread():
                    got = await self.receive()
                    if got["type"] == "http.disconnect":
                        break
                    left -= len(got.get("body", b""))
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


def announces_body(scope: Scope) -> bool:
    """Whether the request says that it has a body."""
    if header(scope, b"transfer-encoding") is not None:
        return True
    return (header(scope, b"content-length") or b"0").strip() != b"0"
