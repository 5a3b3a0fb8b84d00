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
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from .cors import HeaderList

EXTENSION = "resonantgenesis.transport"
#: Seconds from a connection, or the first byte of a request, to the end of its headers.
HEADERS_WITHIN = 30.0
#: What uvicorn still looks at of the request of a response under way.
_AFTERWARDS: Any = {"type": "http", "method": "GET"}


class Connection:
    """What a stream is given of its connection."""

    __slots__ = ("_cycle", "_protocol", "full", "lost", "on_lost", "ready", "transport")

    def __init__(self, protocol: StreamHttpProtocol, cycle: RequestResponseCycle) -> None:
        self._protocol = protocol
        self._cycle = cycle
        self.transport: asyncio.Transport = protocol.transport
        #: More is unsent than the transport's bound: nothing may be written now.
        self.full = protocol.flow.write_paused
        self.lost = False
        #: Neither full nor lost.
        self.ready = not self.full
        self.on_lost: Callable[[], None] | None = None

    def begin(self, headers: HeaderList, first: bytes) -> None:
        """Take the response over, with status 200 in chunked encoding, and write its first part.

        uvicorn asks nothing more of an application whose client it takes for gone, and lets it
        return before the response is complete. What only the request needed is given back: a
        stream stays open for hours.
        """
        protocol, cycle = self._protocol, self._cycle
        cycle.response_started = cycle.disconnected = True
        cycle.scope = protocol.scope = _AFTERWARDS
        protocol.headers = []
        close = () if cycle.keep_alive else ((b"connection", b"close"),)
        lines = [b"%b: %b\r\n" % line for line in (*cycle.default_headers, *headers, *close)]
        self.send(
            b"HTTP/1.1 200 OK\r\n%btransfer-encoding: chunked\r\n\r\n%b"
            % (b"".join(lines), chunked(first))
        )

    async def room(self) -> None:
        """Return when the client has taken enough of what was written, or is gone."""
        if self.full:
            await self._protocol.flow.drain()

    def write(self, data: bytes) -> None:
        """Write a part, for which there must be room."""
        if not self.lost:
            self.send(chunked(data))

    def send(self, data: bytes) -> bool:
        """Write bytes as they are. False: the connection is closed, which `on_lost` tells."""
        try:
            self.transport.write(data)
        except RuntimeError:  # uvloop's, between a reset and `connection_lost`
            return False
        return True

    def finish(self, last: bytes) -> None:
        """Complete the response; the connection serves the next request."""
        cycle = self._cycle
        if self.lost or cycle.response_complete:
            return
        self.send((chunked(last) if last else b"") + b"0\r\n\r\n")
        cycle.response_complete = True
        if not cycle.keep_alive:
            self.transport.close()
        self._protocol.on_response_complete()

    def drop(self) -> None:
        """Cut off a client whose response has begun and was not completed: nothing else would
        tell it."""
        if self._cycle.disconnected and not self._cycle.response_complete:
            self.transport.abort()

    # -- called by the protocol ------------------------------------------------------------

    def set_full(self, full: bool) -> None:
        self.full = full
        self.ready = not full and not self.lost

    def set_lost(self) -> None:
        self.lost, self.ready = True, False
        if self.on_lost is not None:
            self.on_lost()


def chunked(data: bytes) -> bytes:
    """A part of a response in chunked encoding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


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

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.connection = connection = Connection(self, cycle)
        extensions: dict[str, Any] = {EXTENSION: connection}
        cycle.scope["extensions"] = extensions
        at_once = getattr(app, "at_once", None)
        if at_once is None or cycle.scope["method"] != "GET" or not at_once(cycle.scope):
            super()._start_asgi_task(cycle, app)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.connection is not None:
            self.connection.set_full(True)

    def resume_writing(self) -> None:
        if self.connection is not None:
            self.connection.set_full(False)
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._headers_are_here()
        if self.connection is not None:
            self.connection.set_lost()


def connection_of(scope: Scope) -> Connection | None:
    """The request's connection, if the server gives it and answers in chunked encoding."""
    if scope["http_version"] != "1.1":
        return None
    connection = scope.get("extensions", {}).get(EXTENSION)
    return connection if isinstance(connection, Connection) else None
