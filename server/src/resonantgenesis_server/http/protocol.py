"""The HTTP protocol class of our own `serve`: streams write to their connection directly.

Everything works without it, under any ASGI server. With it, a live chunk costs one `write` of
bytes that all its viewers share instead of a task's wake-up for each, a stream hears of its
client's leaving without a task that waits for it, sees whether the client takes bytes, and can
drop a connection that a polite close would wait on for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, Protocol

import structlog
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ..model.ids import new_id
from .close_delimited import close_delimited
from .cors import HeaderList
from .raw_refusals import (
    BAD_HTTP,
    HEADERS_LIMIT,
    LARGE_HEADERS,
    LINGER_BYTES,
    LINGER_SECONDS,
    LONG_URL,
    NO_ROOM,
    URL_LIMIT,
    Refused,
    error_of,
    raw_answer,
)
from .room import HEALTH_PATHS, SURPLUS, SURPLUS_WITHIN, Room
from .stream_connection import Home, StreamConnection, opening

log_ = structlog.get_logger("resonantgenesis.http")
#: uvicorn warns of what clients do wrong; that is told to the client, and here in our words.
_library_log = logging.getLogger("resonantgenesis.http.uvicorn")
_library_log.setLevel(logging.ERROR)

EXTENSION = "resonantgenesis.transport"
#: Seconds from a connection, or the first byte of a request, to the end of its headers.
HEADERS_WITHIN = 30.0
#: Seconds in which a client that is still sending may read its answer, when the server stops.
_LAST_WORDS = 1.0
#: What uvicorn still looks at of the request of a response under way.
_AFTERWARDS: Any = {"type": "http", "method": "GET"}


class Connection(Protocol):
    """A request's connection, on which a stream may begin."""

    @property
    def lost(self) -> bool: ...

    def begin(self, headers: HeaderList, first: bytes) -> StreamConnection:
        """Take the connection for a stream, answer with status 200 and write its first part."""
        ...


class Listener(Protocol):
    """Who wants to know what becomes of a request's client."""

    def end_side(self) -> None:
        """It sends nothing more, and may have left."""
        ...

    def leave(self) -> None:
        """It has left."""
        ...


class RequestConnection:
    """The connection of a request that uvicorn serves, and the home of its stream if that stays."""

    __slots__ = (
        "_cycle", "_listener", "_protocol", "connections", "ended", "lost", "on_lost", "transport",
    )  # fmt: skip

    def __init__(self, protocol: StreamHttpProtocol, cycle: RequestResponseCycle) -> None:
        self._protocol = protocol
        self._cycle = cycle
        self.connections: set[asyncio.Protocol] = set()
        self.transport: asyncio.Transport = protocol.transport
        self.lost = False
        #: The client has ended its side.
        self.ended = False
        self._listener: Listener | None = None
        self.on_lost: Callable[[], None] | None = None

    def begin(self, headers: HeaderList, first: bytes) -> StreamConnection:
        """uvicorn asks nothing more of an application whose client it takes for gone, and lets it
        return before the response is complete."""
        protocol, cycle = self._protocol, self._cycle
        cycle.response_started = cycle.disconnected = True
        stays = protocol.is_reading
        stream = StreamConnection(
            self if stays else protocol.home,
            self.transport,
            keep_alive=cycle.keep_alive,
            full=protocol.flow.write_paused,
        )
        if stays:
            protocol.stream = stream
        else:
            protocol.leave()
            stream.take_over()
        head = [*cycle.default_headers, *headers]
        stream.send(opening(head, first, keep_alive=cycle.keep_alive))
        return stream

    def take_back(self, transport: asyncio.Transport, data: bytes) -> None:
        """A stream that stayed has ended: serve the next request, whose bytes the parser has."""
        del transport, data
        self._cycle.response_complete = True
        self._protocol.stream = None
        self._protocol.on_response_complete()

    @property
    def unread(self) -> bool:
        """Whether some of the request's body is still to come."""
        return bool(self._cycle.more_body)

    def give_up(self) -> None:
        """The client is gone, of which uvicorn has not been told yet: it waits for no answer."""
        self._cycle.disconnected = True

    @contextlib.contextmanager
    def telling(self, listener: Listener) -> Iterator[None]:
        """Tell it of what the client has done, or does within the block."""
        self._listener = listener
        if self.ended:
            listener.end_side()
        if self.lost:
            listener.leave()
        try:
            yield
        finally:
            self._listener = None

    def set_ended(self) -> None:
        self.ended = True
        if self._listener is not None:
            self._listener.end_side()

    def set_lost(self) -> None:
        self.lost = True
        if self._listener is not None:
            self._listener.leave()
        if self.on_lost is not None:
            self.on_lost()


class House(Home, Protocol):
    """Where connections belong, and how many it holds."""

    room: Room


class StreamHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the connection in `scope["extensions"]`."""

    #: Where the connection belongs; set by who makes the protocol.
    home: House
    connection: RequestConnection | None = None
    #: One that is written while the client has begun to ask on.
    stream: StreamConnection | None = None
    #: Part of a request has come, and not all of it.
    _in_message = False
    _overdue: asyncio.TimerHandle | None = None
    #: There are more connections than there is room for: this one is for health checks only.
    _surplus = False
    #: The client has ended its side and waits for the answer.
    _half_closed = False
    #: Bytes of a head that has not come to its end, counted in whole reads.
    _head = 0
    _large_head = False
    #: Bytes that a refused client may still send; None: it was not refused.
    _lingers: int | None = None
    _linger_timer: asyncio.TimerHandle | None = None
    _refusal: HTTPStatus | None = None

    # -- the connection --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.logger = _library_log
        most = self.home.room.most
        if most and len(self.connections) > most:
            self._surplus = True
            if len(self.connections) > most + SURPLUS:
                transport.abort()
                return
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._headers_are_here()
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        if self.connection is not None:
            self.connection.set_lost()
        if self.stream is not None:
            self.stream.connection_lost(exc)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """A client may end its side and wait for the answer. Who does so in mid-request has left,
        and who does so in mid-stream is taken to have: nothing tells it from one that closed."""
        cycle = self.cycle
        if self.stream is not None or cycle is None:
            return None
        if cycle.response_complete or cycle.more_body or cycle.disconnected:
            return None
        self._half_closed = True
        if self.connection is not None:
            self.connection.set_ended()
        return True

    def rest(self) -> None:
        """An answer was completed, by a stream: the client has as long as after any other."""
        self._headers_are_here()
        self.on_response_complete()

    @property
    def is_reading(self) -> bool:
        """Whether the client has begun to ask on, or has ended its side: then only this protocol
        knows what is to follow."""
        return self._in_message or bool(self.pipeline) or self._half_closed

    def leave(self) -> None:
        """The connection is a stream's now. Give back what only requests need."""
        self._headers_are_here()
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        self.connection = None
        self.parser = None  # type: ignore[assignment]  # as uvicorn does at the end
        self.cycle.scope = self.scope = _AFTERWARDS
        self.headers = []

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.stream is not None:
            self.stream.pause_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.stream is not None:
            self.stream.resume_writing()

    def shutdown(self) -> None:
        super().shutdown()
        if self.stream is not None:
            self.stream.shutdown()
        elif self.connection is not None and self.connection.unread:
            # Answered in mid-body, as all are by now, and listened to for as long as it sends.
            self.loop.call_later(_LAST_WORDS, self.transport.abort)

    # -- the request -----------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._lingers is not None:
            self._lingers -= len(data)
            if self._lingers < 0:
                self.transport.abort()
            return
        waited = self._overdue is not None
        self._large_head = waited and self._head + len(data) > HEADERS_LIMIT
        super().data_received(data)
        if not waited or self._overdue is None or self._lingers is not None:
            self._head = 0
            return
        self._head += len(data)
        if self._head > URL_LIMIT + HEADERS_LIMIT:
            self._refuse(LONG_URL if len(self.url) > URL_LIMIT else LARGE_HEADERS)

    def _expect_headers(self) -> None:
        """uvicorn waits for headers as long as a client cares to dribble them."""
        if self._overdue is None:
            within = SURPLUS_WITHIN if self._surplus else HEADERS_WITHIN
            self._overdue = self.loop.call_later(within, self.transport.abort)

    def _headers_are_here(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def on_message_begin(self) -> None:
        self._in_message = True
        super().on_message_begin()
        self._expect_headers()

    def on_message_complete(self) -> None:
        self._in_message = False
        super().on_message_complete()

    def on_headers_complete(self) -> None:
        self._headers_are_here()
        if self.parser.get_http_version() not in {"1.0", "1.1"}:
            self._stop_parsing(BAD_HTTP)
        if len(self.url) > URL_LIMIT:
            self._stop_parsing(LONG_URL)
        if self._large_head and sum(len(n) + len(v) for n, v in self.headers) > HEADERS_LIMIT:
            self._stop_parsing(LARGE_HEADERS)
        if self._surplus and self.url.partition(b"?")[0].decode("latin-1") not in HEALTH_PATHS:
            self._stop_parsing(NO_ROOM)
        super().on_headers_complete()
        if self._surplus:
            self.cycle.keep_alive = False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.connection = connection = RequestConnection(self, cycle)
        extensions: dict[str, Any] = {EXTENSION: connection}
        cycle.scope["extensions"] = extensions
        if cycle.scope["http_version"] != "1.1":
            app = close_delimited(app, cycle)
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._half_closed and not self.pipeline:
            self.transport.close()

    # -- refusals --------------------------------------------------------------------------

    def _stop_parsing(self, status: HTTPStatus) -> None:
        """Raises Refused, which comes back to us by way of `send_400_response`."""
        self._refusal = status
        raise Refused(status)

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal or BAD_HTTP)

    def _headers_of_edge(self) -> tuple[str, HeaderList]:
        """The id of the request, and what the app adds to each of its answers."""
        headers_for = getattr(self.app, "headers_for", None)
        if headers_for is not None and self.scope is not None:
            request_id, headers = headers_for(self.scope)
            return request_id, headers
        request_id = new_id("req")
        return request_id, [(b"x-request-id", request_id.encode())]

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer, listen for a while, and close; the app is told that the client has left."""
        self._headers_are_here()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            # An answer is under way, or will be: this one cannot be put into its middle.
            if cycle.response_started or self.pipeline:
                self.transport.abort()
                return
            cycle.disconnected = True
            cycle.message_event.set()
        request_id, more = self._headers_of_edge()
        self._lingers = LINGER_BYTES
        self._linger_timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)
        defaults = self.server_state.default_headers
        self.transport.write(raw_answer(status, request_id, defaults, more))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        log_.info(
            "request refused",
            request_id=request_id,
            status=int(status),
            code=error_of(status).code,
            client=None if self.client is None else self.client[0],
        )


def connection_of(scope: Scope) -> Connection | None:
    """The request's connection, if the server gives it and answers in chunked encoding."""
    if scope["http_version"] != "1.1":
        return None
    connection: Connection | None = scope.get("extensions", {}).get(EXTENSION)
    return connection


def request_connection_of(scope: Scope) -> RequestConnection | None:
    """The same for a request that uvicorn serves, whatever its version."""
    connection = scope.get("extensions", {}).get(EXTENSION)
    return connection if isinstance(connection, RequestConnection) else None
