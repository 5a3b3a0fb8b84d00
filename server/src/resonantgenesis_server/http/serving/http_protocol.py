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
from typing import Any, Protocol
from urllib.parse import unquote

import structlog
from starlette.types import Scope
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ...model.ids import new_id
from ..cors import HeaderList
from .close_delimited import close_delimited
from .connection_limit import HEALTH_PATHS, SURPLUS_WITHIN, ConnectionLimit
from .eager import EagerStarter
from .fair_reading import FairReading
from .request_head import (
    LARGE_HEADERS,
    LINGER_BYTES,
    LINGER_SECONDS,
    LONG_URL,
    NO_ROOM,
    Refused,
    RequestHead,
    raw_answer,
)
from .request_reader import RequestReader
from .sending import Sending
from .silent_connections import SilentConnections, address_of, has_input
from .stream_connection import MOST_EARLY, Home, StreamConnection, opening

log_ = structlog.get_logger("resonantgenesis.http")
#: uvicorn warns of what clients do wrong; that is told to the client, and here in our words.
_library_log = logging.getLogger("resonantgenesis.http.uvicorn")
_library_log.setLevel(logging.ERROR)

EXTENSION = "resonantgenesis.transport"
#: Seconds from a connection, or the first byte of a request, to the end of its headers.
HEADERS_WITHIN = 30.0
#: Seconds in which a client that is still sending may read its answer, when the server stops.
_LAST_WORDS = 1.0
#: Seconds for a request that began to come when its connection was to be closed.
LAST_REQUEST = 1.0
#: What the library for sockets reads of a request: fields, and bytes of a line.
_SOCKET_FIELDS, _SOCKET_LINE = 128, 8_190
#: What uvicorn still looks at of the request of a response under way.
_AFTERWARDS: Any = {"type": "http", "method": "GET"}
#: What is known of a request that could not be read.
_UNREAD: Any = {"type": "http", "headers": []}


class Flow(FlowControl):
    """uvicorn's, which lets an application that waits for its client read on."""

    #: More has come than is dealt with at once: nothing is read whoever waits.
    held = False

    def resume_reading(self) -> None:
        if not self.held:
            super().resume_reading()


class Answering:
    """What an answer is written to, as far as uvicorn knows: closing it destroys nothing."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, protocol: StreamHttpProtocol) -> None:
        self.write = protocol.transport.write
        self.is_closing = protocol.transport.is_closing
        self.close = protocol.close_answered


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
            early = protocol.leave()
            stream.take_over()
            if early:
                stream.data_received(early)
        head = [*cycle.default_headers, *headers]
        stream.send(opening(head, first, keep_alive=cycle.keep_alive))
        return stream

    def take_back(self, transport: asyncio.Transport, data: bytes) -> None:
        """A stream that stayed has ended: serve the next request, whose bytes the parser has."""
        del transport, data
        self._cycle.response_complete = True
        self._protocol.stream = None
        self._protocol.on_response_complete()

    def closing(self, transport: asyncio.Transport) -> None:
        self._protocol.watch_sending()

    @property
    def unread(self) -> bool:
        """Whether some of the request's body is still to come."""
        return bool(self._cycle.more_body)

    def linger(self) -> None:
        """The client has its answer, and is listened to since it has not said everything."""
        self._protocol.silence()

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
    """Where connections belong, how many it holds, and how long it waits for their clients."""

    room: ConnectionLimit
    #: Those within the room, and those beyond it.
    silent: SilentConnections
    surplus: SilentConnections
    #: Those that have more of a body than is read in one go.
    parts: FairReading
    #: Starts the requests.
    requests: EagerStarter
    #: Seconds: without a request; without progress of an answer.
    keep_alive: float
    stall: float
    #: The server goes away: whoever is answered shall ask on elsewhere.
    draining: bool


class StreamHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with our own reader before it and the connection in
    `scope["extensions"]`: one request at a time, and what comes behind it waits as bytes."""

    #: Where the connection belongs; set by who makes the protocol.
    home: House
    connection: RequestConnection | None = None
    #: One that is written while the client has begun to ask on.
    stream: StreamConnection | None = None
    _overdue: asyncio.TimerHandle | None = None
    #: There are more connections than there is room for: this one is for health checks only.
    _surplus = False
    flow: Flow
    #: The client has ended its side and waits for the answer.
    _half_closed = False
    #: The answer under way is a stream without an end of its own, to a client of HTTP/1.0.
    follows = False
    #: The server stops: the next answer is the last.
    _stops = False
    #: More of a body has come than is read at once.
    _reads_on = False
    #: `_read` is under way, which deals with all that there is.
    _is_in_read = False
    #: Bytes that a refused client may still send; None: it was not refused.
    _lingers: int | None = None
    _linger_timer: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.parser = None  # type: ignore[assignment]  # uvicorn's, in whose place ours stands
        self._reader = RequestReader()
        self._sending: Sending
        self._address = ""

    # -- the connection --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.logger = _library_log
        self.timeout_keep_alive = self.home.keep_alive  # type: ignore[assignment]
        self.flow = Flow(transport)
        self._sending = Sending(transport, self.loop, self.home.stall)
        self._address = address_of(transport)

    def expect_first(self, *, surplus: bool) -> None:
        """It is new, and nothing has come of it."""
        self._surplus = surplus
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._wait_no_more()
        self._speak()
        self._sending.stop()
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
        if self.stream is None and cycle is not None and not self.follows:
            answered = cycle.response_complete or cycle.disconnected
            if not answered and (self._reads_on or not self._reader.in_body):
                self._half_closed = True
                if self.connection is not None:
                    self.connection.set_ended()
                return True
        self._sending.watch()
        return None

    def rest(self) -> None:
        """An answer was completed, by a stream: the client has as long as after any other."""
        self.on_response_complete()

    @property
    def is_reading(self) -> bool:
        """Whether some of the request is still to come, or the client has ended its side: then
        only this protocol knows what is to follow."""
        return self._reader.in_body or self._half_closed

    def leave(self) -> bytes:
        """The connection is a stream's now. Give back what only requests need; what has come of
        the next one."""
        self._wait_no_more()
        self._sending.stop()
        self.connections.discard(self)
        self.connection = None
        self.cycle.scope = self.scope = _AFTERWARDS
        self.flow.held = False
        self.flow.resume_reading()
        return self._reader.rest()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.stream is not None:
            self.stream.pause_writing()
        else:
            self._sending.watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.stream is not None:
            self.stream.resume_writing()

    def shutdown(self) -> None:
        """From the server: it stops. A request that has come is still answered."""
        self._stops = True
        if self._is_idle and (self._reader.waiting or has_input(self.transport)):
            self._wait_no_more()
            self._overdue = self.loop.call_later(LAST_REQUEST, self._close)
            return
        super().shutdown()
        self._sending.watch()
        if self.stream is not None:
            self.stream.shutdown()
        elif self.connection is not None and self.connection.unread:
            # Answered in mid-body, as all are by now, and listened to for as long as it sends.
            self.loop.call_later(_LAST_WORDS, self.transport.abort)

    def timeout_keep_alive_handler(self) -> None:
        """The client may be asking just now."""
        if has_input(self.transport):
            self.timeout_keep_alive_task = self.loop.call_later(
                LAST_REQUEST, self.timeout_keep_alive_handler
            )
        else:
            self._close()

    def watch_sending(self) -> None:
        """The connection may be closed, which waits until the client has taken everything."""
        self._sending.watch()

    def close_answered(self) -> None:
        """The answer was the last. A client that has begun to say more, or is about to, is listened
        to: a close under its words would destroy the answer on its way (RFC 9112, 9.6)."""
        if not self.transport.is_closing() and self._lingers is None:
            self._linger()

    def _linger(self) -> None:
        """End our side, and listen for a while."""
        self._wait_no_more()
        self._lingers = LINGER_BYTES
        self._reader.rest()
        self.flow.held = False
        self.flow.resume_reading()
        self._linger_timer = self.loop.call_later(LINGER_SECONDS, self._close)
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _close(self) -> None:
        self.transport.close()
        self._sending.watch()

    # -- a silent connection ---------------------------------------------------------------

    @property
    def _is_idle(self) -> bool:
        """No request is being read or answered."""
        answered = self.cycle is None or self.cycle.response_complete
        return answered and not self._reader.in_body and self.stream is None

    @property
    def speaks(self) -> bool:
        return has_input(self.transport)

    def give_way(self) -> None:
        self.connections.discard(self)
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    @property
    def _silent(self) -> SilentConnections:
        return self.home.surplus if self._surplus else self.home.silent

    def silence(self) -> None:
        """The client is to say something, or has its answer and is only listened to."""
        self._silent.add(self, self._address)

    def _speak(self) -> None:
        self._silent.discard(self)

    # -- the request -----------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._lingers is not None:
            self._lingers -= len(data)
            if self._lingers < 0:
                self.transport.abort()
            return
        self._reader.feed(data)
        self._read()

    def _read(self) -> None:
        """Take from the reader what can be dealt with now. A request that is answered within this
        call leaves the rest to it."""
        if self._is_in_read:
            return
        self._is_in_read = True
        try:
            while self._take_part():
                pass
        finally:
            self._is_in_read = False
        too_much = self._reader.waiting > MOST_EARLY
        # Of a head, or of what stands between chunks, more has to come.
        self.flow.held = too_much and (
            self._reads_on or not (self._is_idle or self._reader.in_body)
        )
        if self.flow.held:
            self.flow.pause_reading()

    def _take_part(self) -> bool:
        """A head, or what there is of a body; False: nothing more is to be taken now."""
        if self._reads_on or self._lingers is not None:
            return False
        if self._reader.in_body:
            return self._read_body()
        return self._is_idle and self._read_head()

    def _read_on(self) -> None:
        self._reads_on = False
        self.flow.held = False
        if self.transport.is_closing():
            return
        self._read()
        if not self.flow.held and len(self.cycle.body) <= HIGH_WATER_LIMIT:
            self.flow.resume_reading()

    def _read_head(self) -> bool:
        """Begin with the next request; False: it is not here."""
        self.scope = _UNREAD
        try:
            head = self._reader.head() if self._reader.waiting else None
            if head is None:
                self._rest()
                return False
            self.scope = {"type": "http", "headers": head.headers}  # type: ignore[typeddict-item]
            self._wait_no_more()
            return self._take(head)
        except Refused as refused:
            self._refuse(refused)
            return False

    def _take(self, head: RequestHead) -> bool:
        """False: nothing more is to be read here."""
        if self._surplus and head.target.partition(b"?")[0].decode() not in HEALTH_PATHS:
            raise Refused(NO_ROOM)
        if head.upgrade == b"websocket" and head.method == "GET" and not head.has_body:
            self._change_to_socket(head)
            return False
        self._speak()
        cycle = self._begin(head)
        self._read_body()
        if not cycle.disconnected:  # the body was not refused
            self._start_asgi_task(cycle, self.app)
        return True

    def _rest(self) -> None:
        """Wait for the next request, or what is missing of it."""
        if self._half_closed:
            self._close()
            return
        if self._reader.waiting or self._surplus:
            self._unset_keepalive_if_required()
            self._expect_headers()
        elif self.timeout_keep_alive_task is None:
            self._wait_no_more()
            self._keep_alive()
            if self.cycle is None:  # nothing but an empty line has come
                self.silence()

    def _keep_alive(self) -> None:
        within = LAST_REQUEST if self._stops else self.home.keep_alive
        self.timeout_keep_alive_task = self.loop.call_later(within, self.timeout_keep_alive_handler)

    def _expect_headers(self) -> None:
        """A client may not dribble them for as long as it cares to."""
        if self._overdue is None:
            within = SURPLUS_WITHIN if self._surplus else HEADERS_WITHIN
            self._overdue = self.loop.call_later(within, self.transport.abort)
            self.silence()

    def _wait_no_more(self) -> None:
        self._unset_keepalive_if_required()
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _begin(self, head: RequestHead) -> RequestResponseCycle:
        """As uvicorn does when its parser has read a head."""
        raw_path, _, query = head.target.partition(b"?")
        path = raw_path.decode()
        self.scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": head.version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme or "http",
            "root_path": self.root_path,
            "headers": head.headers,
            "state": self.app_state.copy(),
            "method": head.method,
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
        }
        self.follows = False
        last = self._surplus or self._stops or self.home.draining
        self.cycle = RequestResponseCycle(
            scope=self.scope,
            transport=Answering(self),  # type: ignore[arg-type]  # all that it asks for
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=head.waits,
            keep_alive=head.keep_alive and not last,
            on_response=self.on_response_complete,
        )
        return self.cycle

    def _read_body(self) -> bool:
        """Hand on what has come; False: there is more to come."""
        cycle, reader = self.cycle, self._reader
        try:
            piece, more = reader.body()
        except Refused as refused:
            self._refuse_body(refused)
            return False
        if piece:
            cycle.waiting_for_100_continue = False
        if piece and not (cycle.response_complete or self.stream is not None):
            cycle.body += piece
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
        if not reader.in_body:
            cycle.more_body = cycle.waiting_for_100_continue = False
        if piece or not reader.in_body:
            cycle.message_event.set()
        if more:
            self._reads_on = True
            self.home.parts.wait(self._read_on)
        elif reader.in_body and self._half_closed:
            self._close()
        return not reader.in_body

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.connection = connection = RequestConnection(self, cycle)
        extensions: dict[str, Any] = {EXTENSION: connection}
        cycle.scope["extensions"] = extensions
        if cycle.scope["http_version"] != "1.1":
            app = close_delimited(app, cycle, self)
        task = self.home.requests.start(cycle.run_asgi(app))
        if task is None:
            self._answered()
        else:
            task.add_done_callback(self._answered)
            self.tasks.add(task)

    def _answered(self, task: asyncio.Task[None] | None = None) -> None:
        if task is not None:
            self.tasks.discard(task)
        if self.transport.is_closing():  # what failed in the middle was cut off
            self._sending.watch()

    def on_response_complete(self) -> None:
        """Deal with what has come behind the request, or wait for it."""
        self.server_state.total_requests += 1
        self._sending.watch()
        self.silence()
        if self.transport.is_closing() or self._lingers is not None:
            return
        self.follows = False
        self.flow.held = False
        self.flow.resume_reading()
        if self._reader.in_body:
            self._keep_alive()  # for the rest of the body, which nobody wants
        self._read()

    def _change_to_socket(self, head: RequestHead) -> None:
        """RFC 9110, 7.8: all that follows the head is in the other protocol."""
        lines = [b"%b: %b" % field for field in head.headers]
        if len(lines) > _SOCKET_FIELDS or max(map(len, lines)) > _SOCKET_LINE:
            raise Refused(LARGE_HEADERS)
        first = b"GET %b HTTP/1.1" % head.target
        if len(first) > _SOCKET_LINE:
            raise Refused(LONG_URL)
        self._speak()
        self._sending.stop()
        self.flow.held = False
        self.flow.resume_reading()
        self.connections.discard(self)
        protocol = self.ws_protocol_class(  # type: ignore[call-arg, misc]
            config=self.config, server_state=self.server_state, app_state=self.app_state
        )
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        protocol.data_received(b"\r\n".join([first, *lines, b"", b""]))
        behind = self._reader.rest()
        if behind and not self.transport.is_closing():
            protocol.data_received(behind)

    # -- refusals --------------------------------------------------------------------------

    def _headers_of_edge(self) -> tuple[str, HeaderList]:
        """The id of the request, and what the app adds to each of its answers."""
        headers_for = getattr(self.app, "headers_for", None)
        if headers_for is not None and self.scope is not None:
            request_id, headers = headers_for(self.scope)
            return request_id, headers
        request_id = new_id("req")
        return request_id, [(b"x-request-id", request_id.encode())]

    def _refuse_body(self, refused: Refused) -> None:
        """The app is told that the client has left."""
        cycle = self.cycle
        if cycle.response_complete:
            self._close()
            return
        cycle.disconnected = True
        cycle.message_event.set()
        if cycle.response_started:  # nothing can be put into the middle of an answer
            self.transport.abort()
        else:
            self._refuse(refused)

    def _refuse(self, refused: Refused) -> None:
        """Answer, listen for a while, and close."""
        self.silence()
        request_id, more = self._headers_of_edge()
        defaults = self.server_state.default_headers
        self.transport.write(raw_answer(refused, request_id, defaults, more))
        self._linger()
        log_.info(
            "request refused",
            request_id=request_id,
            status=int(refused.status),
            code=refused.error.code,
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
