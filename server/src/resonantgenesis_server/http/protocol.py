"""The HTTP protocol class of our own `serve`: streams write to their connection directly.

Everything works without it, under any ASGI server. With it, a live chunk costs one `write` of
bytes that all its viewers share instead of a task's wake-up for each, a stream hears of its
client's leaving without a task that waits for it, sees whether the client takes bytes, and can
drop a connection that a polite close would wait on for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

EXTENSION = "resonantgenesis.transport"
#: Seconds from a connection, or the first byte of a request, to the end of its headers.
HEADERS_WITHIN = 30.0
#: What uvicorn still looks at of the request of a response under way.
_AFTERWARDS: Any = {"type": "http", "method": "GET"}


class Connection:
    """What a stream is given of its connection."""

    __slots__ = ("_protocol", "full", "lost", "on_lost", "transport")

    def __init__(self, protocol: StreamHttpProtocol) -> None:
        self._protocol = protocol
        self.transport: asyncio.Transport = protocol.transport
        #: More is unsent than the transport's bound: nothing may be written now.
        self.full = False
        self.lost = False
        self.on_lost: Callable[[], None] | None = None

    def park(self) -> None:
        """Let the application return without having completed its response.

        uvicorn asks nothing more of an application whose client it takes for gone. What only the
        request needed is given back: most of a stream's life is spent here.
        """
        cycle = self._protocol.cycle
        cycle.disconnected = True
        cycle.scope = _AFTERWARDS
        self._protocol.scope = _AFTERWARDS
        self._protocol.headers = []

    def unpark(self) -> None:
        """The response goes on and may be completed."""
        cycle = self._protocol.cycle
        cycle.disconnected = self.lost
        cycle.on_response = self._protocol.on_response_complete


class StreamHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the connection in `scope["extensions"]`."""

    connection: Connection | None = None
    _overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_headers()

    def _expect_headers(self) -> None:
        """uvicorn waits for headers as long as a client cares to dribble them."""
        if self._overdue is None:
            self._overdue = self.loop.call_later(HEADERS_WITHIN, self.transport.abort)

    def _headers_are_here(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def on_headers_complete(self) -> None:
        self._headers_are_here()
        super().on_headers_complete()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_headers()
        if self.connection is None:
            self.connection = Connection(self)
        extensions: dict[str, Any] = {EXTENSION: self.connection}
        self.scope["extensions"] = extensions

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.connection is not None:
            self.connection.full = True

    def resume_writing(self) -> None:
        if self.connection is not None:
            self.connection.full = False
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._headers_are_here()
        connection = self.connection
        if connection is not None:
            connection.lost = True
            if connection.on_lost is not None:
                connection.on_lost()


def connection_of(scope: Scope) -> Connection | None:
    """The request's connection, if the server gives it and answers in chunked encoding."""
    if scope["http_version"] != "1.1":
        return None
    connection = scope.get("extensions", {}).get(EXTENSION)
    return connection if isinstance(connection, Connection) else None
