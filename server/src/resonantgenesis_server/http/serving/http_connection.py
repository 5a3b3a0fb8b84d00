"""A client's connection: how long it may be silent, how it ends, what a request sees of it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Protocol

import structlog
from starlette.types import ASGIApp, Message, Scope

from ..cors import HeaderList
from .connection_limit import (
    SURPLUS_WITHIN,
    Peer,
    Place,
    SilentConnections,
    client_address,
    has_input,
    peer_of,
)
from .connection_owner import ConnectionOwner, SendWatchdog
from .request_head import TOKEN, RequestHead, tokens
from .stream_connection import StreamConnection, chunked, header_lines, opening

log_ = structlog.get_logger("resonantgenesis.http")

EXTENSION = "resonantgenesis.transport"

#: Seconds from a connection, or the first byte of a request, to the end of its headers.
HEADERS_WITHIN = 30.0
#: Seconds for a request that began to come when its connection was to be closed.
LAST_REQUEST = 1.0
#: Seconds, and bytes, for which a client is read on after its last answer: it would not find the
#: answer if the connection were closed while it sends (RFC 9112, 9.6).
CLOSE_WITHIN, CLOSE_BYTES = 2.0, 1024 * 1024

#: A line of an answer's head; a line break in a value would begin another answer.
_FIELD = re.compile(rb"%b: [^\x00-\x08\x0a-\x1f\x7f]*" % TOKEN)
_PHRASES = {int(status): status.phrase.encode() for status in HTTPStatus}
#: Statuses without a body.
_BODILESS = frozenset({204, 304})
#: The answer of an application that failed before it answered.
_FAILED = b"Internal Server Error"
_FAILED_HEADERS = [
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"content-length", b"%d" % len(_FAILED)),
    (b"connection", b"close"),
]


class Flow:
    """How a connection's two directions are held back."""

    __slots__ = ("_read_paused", "_transport", "_writable", "held", "write_paused")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._read_paused = False
        self.write_paused = False
        #: Made by the first that waits.
        self._writable: asyncio.Event | None = None
        #: More has come than is dealt with at once: nothing is read, whoever waits for it.
        self.held = False

    async def drain(self) -> None:
        """Wait until the client has taken enough of what was written, or has left."""
        if self.write_paused:
            self._writable = self._writable or asyncio.Event()
            await self._writable.wait()

    def pause_reading(self) -> None:
        if not self._read_paused:
            self._read_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._read_paused and not self.held:
            self._read_paused = False
            self._transport.resume_reading()

    def release(self) -> None:
        """Read on."""
        self.held = False
        self.resume_reading()

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        if self._writable is not None:
            self._writable.set()
            self._writable = None


class HttpConnection(asyncio.Protocol, ABC):
    """A connection without its requests, which a subclass reads and answers."""

    __slots__ = (
        "_headers_timer", "_is_surplus", "_keep_alive_timer", "_linger_timer", "_lingers",
        "_sending", "_stops", "client", "flow", "loop", "owner", "stream", "transport",
    )  # fmt: skip

    def __init__(self, owner: ConnectionOwner) -> None:
        self.owner = owner
        self.loop = owner.loop
        self.transport: asyncio.Transport
        #: Address and port.
        self.client: Peer = None
        self.flow: Flow
        self._sending: SendWatchdog
        #: A stream that is written while some of its request is still to come.
        self.stream: StreamConnection | None = None
        #: There are more connections than the limit: this one is for health checks only.
        self._is_surplus = False
        #: The server stops: the next answer is the last.
        self._stops = False
        self._headers_timer: asyncio.TimerHandle | None = None
        self._keep_alive_timer: asyncio.TimerHandle | None = None
        #: Bytes that a client may still send after its last answer; None: it has not had that yet.
        self._lingers: int | None = None
        self._linger_timer: asyncio.TimerHandle | None = None

    def attach(self, transport: asyncio.Transport) -> None:
        """Serve the requests of this connection."""
        self.transport = transport
        self.client = peer_of(transport)
        self.flow = Flow(transport)
        self._sending = SendWatchdog(transport, self.loop, self.owner.stall)
        self.owner.connections.add(self)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.attach(transport)
        place = self.owner.find_place()
        if place is Place.NONE:
            self.owner.connections.discard(self)
            transport.abort()
        else:
            self._expect_first(surplus=place is Place.SURPLUS)

    @property
    def default_headers(self) -> HeaderList:
        """The headers of every answer; uvicorn replaces them each second."""
        return self.owner.server_state.default_headers

    def connection_lost(self, exc: Exception | None) -> None:
        self.owner.connections.discard(self)
        self.flow.resume_writing()
        self._stop_waiting()
        self._speak()
        self._sending.stop()
        if self._linger_timer is not None:
            self._linger_timer.cancel()

    def pause_writing(self) -> None:
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        self.flow.resume_writing()

    # -- requests --------------------------------------------------------------------------

    @property
    @abstractmethod
    def is_reading(self) -> bool:
        """Whether some of the request is still to come, or the client has ended its side: then only
        this protocol knows what follows."""

    @abstractmethod
    def leave(self) -> bytes:
        """Give the connection to a stream. Returns the bytes that have come of the next request."""

    @abstractmethod
    def on_response_complete(self) -> None:
        """Deal with the bytes behind the request, or wait for the next one."""

    # -- silence ---------------------------------------------------------------------------

    @property
    def speaks(self) -> bool:
        """See `SilentConnection`."""
        return has_input(self.transport)

    def give_way(self) -> None:
        """See `SilentConnection`."""
        self.owner.connections.discard(self)
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    @property
    def _silent(self) -> SilentConnections:
        return self.owner.surplus if self._is_surplus else self.owner.silent

    def silence(self) -> None:
        """The client is to say something, or has its answer and is only listened to."""
        self._silent.add(self, client_address(self.client))

    def _speak(self) -> None:
        self._silent.discard(self)

    def _expect_first(self, *, surplus: bool) -> None:
        """Give a new client a bounded time until it asks for something."""
        self._is_surplus = surplus
        if surplus:
            self._expect_headers()
        else:
            self._keep_alive_timer = self.loop.call_later(HEADERS_WITHIN, self.transport.abort)
            self.silence()

    @property
    def _is_new(self) -> bool:
        """Of a connection without a request: whether it was made a moment ago."""
        timer = self._keep_alive_timer
        left = 0.0 if timer is None else timer.when() - self.loop.time()
        return left > HEADERS_WITHIN - LAST_REQUEST

    def _expect_headers(self) -> None:
        """Give the client a bounded time for all headers of a request together."""
        if self._headers_timer is None:
            within = SURPLUS_WITHIN if self._is_surplus else HEADERS_WITHIN
            self._headers_timer = self.loop.call_later(within, self.transport.abort)
            self.silence()

    def _expect_request(self) -> None:
        """Give the client a bounded time until it asks for something."""
        within = LAST_REQUEST if self._stops else self.owner.keep_alive
        self._keep_alive_timer = self.loop.call_later(within, self._keep_alive_over)

    def _keep_alive_over(self) -> None:
        if has_input(self.transport):  # the client may be asking just now
            self._keep_alive_timer = self.loop.call_later(LAST_REQUEST, self._keep_alive_over)
        else:
            self.close()

    def _expect_last_request(self) -> None:
        """Close soon, unless the request that has begun to come is there by then."""
        self._stop_waiting()
        self._headers_timer = self.loop.call_later(LAST_REQUEST, self.close)

    def _stop_keep_alive(self) -> None:
        if self._keep_alive_timer is not None:
            self._keep_alive_timer.cancel()
            self._keep_alive_timer = None

    def _stop_waiting(self) -> None:
        self._stop_keep_alive()
        if self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None

    # -- the end ---------------------------------------------------------------------------

    def watch_sending(self) -> None:
        """Let no close of the connection wait for its client without a bound."""
        self._sending.watch()

    def close(self) -> None:
        """Close when the client has taken everything."""
        self.transport.close()
        self._sending.watch()

    def close_answered(self) -> None:
        """Close after the last answer. A client that has begun to send more, or is about to, is
        read on: a close while it sends would destroy the answer on its way (RFC 9112, 9.6)."""
        if not self.transport.is_closing() and self._lingers is None:
            self._linger()

    def _linger(self) -> None:
        """End our side, and read on for a while."""
        self._stop_waiting()
        self._lingers = CLOSE_BYTES
        self.flow.release()
        self._linger_timer = self.loop.call_later(CLOSE_WITHIN, self.close)
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _pass_over(self, size: int) -> None:
        """Of a connection that lingers: so many bytes have come."""
        if self._lingers is not None:
            self._lingers -= size
            if self._lingers < 0:
                self.transport.abort()


class ClientListener(Protocol):
    """A listener to the client of a request."""

    def end_side(self) -> None:
        """The client sends nothing more, and may have left."""
        ...

    def leave(self) -> None:
        """The client has left."""
        ...


class RequestConnection:
    """The connection of a request, for the application: ASGI's `receive` and `send`.

    `begin` makes it a stream's. It owns the stream while the protocol still has to read: of the
    request's body, or to the end of the client's side.
    """

    #: Nothing more is received or sent: the client has left, or has a stream.
    disconnected = False
    response_started = False
    response_complete = False
    #: The answer is a stream without an end of its own, to a client of HTTP/1.0.
    is_endless = False
    lost = False
    #: The client has ended its side.
    ended = False
    on_lost: Callable[[], None] | None = None
    #: See `StreamOwner`; only of a connection that owns its stream.
    connections: set[asyncio.Protocol]
    #: Made by the first that waits for news.
    _news: asyncio.Event | None = None
    #: The body of the answer is in chunked encoding; else this is what is left of its length.
    _is_chunked = False
    _left: int | None = None
    _begun: StreamConnection | None = None
    _holds_head = True
    _listener: ClientListener | None = None

    def __init__(
        self, protocol: HttpConnection, head: RequestHead, *, has_body: bool, keep_alive: bool
    ) -> None:
        self._protocol = protocol
        self.transport: asyncio.Transport = protocol.transport
        self._head = head
        self.keep_alive = keep_alive
        #: The client waits for a 100 before it sends the body.
        self.waits = head.waits
        #: What has come of the body and was not received, and whether more is to come.
        self.body = bytearray()
        self.more_body = has_body
        #: Something has changed for `receive`.
        self._has_news = not has_body

    # -- ASGI ------------------------------------------------------------------------------

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Call the application. A client whose answer it leaves incomplete is told, or cut off."""
        try:
            await app(scope, self.receive, self.send)
        except BaseException as error:
            log_.error("the application failed", exc_info=error)
            await self._fail()
            return
        if not (self.response_complete or self.disconnected):
            log_.error("the application returned without a complete response")
            await self._fail()

    async def _fail(self) -> None:
        if self.response_started:
            self._protocol.close_answered()
            return
        await self.send({"type": "http.response.start", "status": 500, "headers": _FAILED_HEADERS})
        await self.send({"type": "http.response.body", "body": _FAILED})

    async def receive(self) -> Message:
        """What has come of the body since the last call, or that nothing more comes."""
        if self.waits and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waits = False
        if not (self.disconnected or self.response_complete):
            self._protocol.flow.resume_reading()
            if not self._has_news:
                self._news = self._news or asyncio.Event()
                await self._news.wait()
            self._has_news = False
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self.body = bytes(self.body), bytearray()
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    def notify(self) -> None:
        """Wake `receive`: the body, the client or the answer has gone on."""
        self._has_news = True
        if self._news is not None:
            self._news.set()
            self._news = None

    async def send(self, message: Message) -> None:
        """Write the head of the answer, or a part of its body, when the client takes it."""
        flow = self._protocol.flow
        if flow.write_paused and not self.disconnected:
            await flow.drain()
        if self.disconnected:
            return
        kind = "http.response.body" if self.response_started else "http.response.start"
        if message["type"] != kind or self.response_complete:
            raise RuntimeError(f"{message['type']} does not fit here in a response")
        if self.response_started:
            self._send_body(message.get("body", b""), more=message.get("more_body", False))
        else:
            self._send_head(message["status"], message.get("headers", ()))

    def _send_head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        lines = [b"HTTP/1.1 %d %b" % (status, _PHRASES.get(status, b""))]
        closes = is_stream = False
        for given, value in [*self._protocol.default_headers, *headers]:
            name = given.lower()
            lines.append(b"%b: %b" % (name, value))
            if _FIELD.fullmatch(lines[-1]) is None:
                raise RuntimeError(f"{name!r} is no header, or has no header's value")
            if name == b"content-length":
                self._left = int(value)
            elif name == b"connection":
                closes = closes or b"close" in tokens([value])
            elif name == b"content-type":
                is_stream = value.startswith(b"text/event-stream")
        self.keep_alive = self.keep_alive and not closes
        if not (self.keep_alive or closes):
            lines.append(b"connection: close")
        if self._left is None and self._head.method != "HEAD" and status not in _BODILESS:
            # HTTP/1.0 knows no chunked encoding: such an answer ends with the connection.
            self._is_chunked = self._head.version == "1.1"
            self.is_endless = is_stream and not self._is_chunked
            if self._is_chunked:
                lines.append(b"transfer-encoding: chunked")
        elif self._left is None:
            self._left = 0
        self.response_started, self.waits = True, False
        self.transport.write(b"\r\n".join([*lines, b"", b""]))

    def _send_body(self, part: bytes, *, more: bool) -> None:
        if self._head.method == "HEAD":
            self._left = 0
        elif self._is_chunked:
            data = chunked(part) if part else b""
            self.transport.write(data if more else data + b"0\r\n\r\n")
        else:
            if self._left is not None:
                self._left -= len(part)
                if self._left < 0:
                    raise RuntimeError("the response is longer than its Content-Length")
            self.transport.write(part)
        if not more:
            self._complete()

    def _complete(self) -> None:
        if self._left:
            raise RuntimeError("the response is shorter than its Content-Length")
        self.response_complete = True
        self.notify()
        if not self.keep_alive:
            self._protocol.close_answered()
        self._protocol.on_response_complete()

    # -- streams ---------------------------------------------------------------------------

    def begin(self, headers: bytes, first: bytes) -> StreamConnection:
        """Take the connection for a stream: status 200, and a first part that is not empty.

        `headers`: lines of the head, see `header_lines`. Head and part are sent with the next part,
        or when the request waits for something.
        """
        protocol = self._protocol
        # As when its client has left, the application may return before the response is complete.
        self.response_started = self.disconnected = True
        stays = protocol.is_reading
        if stays:
            self.connections = set()
        lines = header_lines(protocol.default_headers) + headers
        stream = self._begun = StreamConnection(
            self if stays else protocol.owner,
            self.transport,
            head=opening(lines, first, keep_alive=self.keep_alive),
            keep_alive=self.keep_alive,
            full=protocol.flow.write_paused,
        )
        if stays:
            protocol.stream = stream
        else:
            early = protocol.leave()
            stream.take_over()
            if early:
                stream.data_received(early)
        if not self._holds_head:
            stream.flush()
        return stream

    def flush(self) -> None:
        """Send what a stream holds back: the request waits, or has ended."""
        self._holds_head = False
        if self._begun is not None:
            self._begun.flush()

    def take_back(self, transport: asyncio.Transport, data: bytes) -> None:
        """A stream that stayed has ended: serve the next request, whose bytes the reader has."""
        del transport, data
        self.response_complete = True
        self._protocol.stream = None
        self._protocol.on_response_complete()

    def closing(self, transport: asyncio.Transport) -> None:
        """See `StreamOwner`."""
        self._protocol.watch_sending()

    @property
    def unread(self) -> bool:
        """Whether some of the request's body is still to come."""
        return self.more_body

    def linger(self) -> None:
        """The client has its answer, and is read on since it has not sent everything."""
        self._protocol.silence()

    def give_up(self) -> None:
        """The client is gone, which the transport has not said yet: it waits for no answer."""
        self.disconnected = True

    @contextlib.contextmanager
    def telling(self, listener: ClientListener) -> Iterator[None]:
        """Tell the listener of everything that the client has done, or does within the block."""
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


def connection_of(scope: Scope) -> RequestConnection | None:
    """The request's connection, if the server gives it and answers in chunked encoding."""
    return request_connection_of(scope) if scope["http_version"] == "1.1" else None


def request_connection_of(scope: Scope) -> RequestConnection | None:
    """The request's connection, if the server gives it, whatever the version of HTTP."""
    connection: RequestConnection | None = scope.get("extensions", {}).get(EXTENSION)
    return connection
