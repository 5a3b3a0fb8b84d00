"""A client's connection: how long it may be silent, how it ends, what a request sees of it."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Protocol

from starlette.types import Scope
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from ..cors import HeaderList
from .connection_limit import SURPLUS_WITHIN, Peer, SilentConnections, client_address, has_input
from .connection_owner import ConnectionOwner, SendWatchdog
from .stream_connection import StreamConnection, opening

EXTENSION = "resonantgenesis.transport"

#: Seconds from a connection, or the first byte of a request, to the end of its headers.
HEADERS_WITHIN = 30.0
#: Seconds for a request that began to come when its connection was to be closed.
LAST_REQUEST = 1.0
#: Seconds, and bytes, for which a client is read on after its last answer: it would not find the
#: answer if the connection were closed while it sends (RFC 9112, 9.6).
CLOSE_WITHIN, CLOSE_BYTES = 2.0, 1024 * 1024


class Flow(FlowControl):
    """uvicorn's, which lets an application that waits for its client read on."""

    #: More has come than is dealt with at once: nothing is read, whoever waits for it.
    held = False

    def resume_reading(self) -> None:
        if not self.held:
            super().resume_reading()

    def release(self) -> None:
        """Read on."""
        self.held = False
        super().resume_reading()


class HttpConnection(asyncio.Protocol, ABC):
    """A connection without its requests, which a subclass reads and answers."""

    #: A stream that is written while some of its request is still to come.
    stream: StreamConnection | None = None

    def __init__(self, owner: ConnectionOwner, transport: asyncio.Transport, peer: Peer) -> None:
        self.owner = owner
        self.loop = owner.loop
        self.transport = transport
        #: Address and port.
        self.client = peer
        self.flow = Flow(transport)
        self._sending = SendWatchdog(transport, owner.loop, owner.stall)
        #: There are more connections than the limit: this one is for health checks only.
        self._is_surplus = False
        #: The server stops: the next answer is the last.
        self._stops = False
        self._headers_timer: asyncio.TimerHandle | None = None
        self._keep_alive_timer: asyncio.TimerHandle | None = None
        #: Bytes that a client may still send after its last answer; None: it has not had that yet.
        self._lingers: int | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        owner.connections.add(self)

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

    def expect_first(self, *, surplus: bool) -> None:
        """The connection is new, and nothing has come of it."""
        self._is_surplus = surplus
        self._expect_headers()

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
    """The connection of a request, for the application: `begin` makes it a stream's.

    It owns the stream while the protocol still has to read: of the request's body, or to the end of
    the client's side.
    """

    __slots__ = (
        "_begun", "_cycle", "_holds_head", "_listener", "_protocol", "connections", "ended", "lost",
        "on_lost", "transport",
    )  # fmt: skip

    def __init__(self, protocol: HttpConnection, cycle: RequestResponseCycle) -> None:
        self._protocol = protocol
        self._cycle = cycle
        self._begun: StreamConnection | None = None
        self._holds_head = True
        #: See `StreamOwner`.
        self.connections: set[asyncio.Protocol] = set()
        self.transport: asyncio.Transport = protocol.transport
        self.lost = False
        #: The client has ended its side.
        self.ended = False
        self._listener: ClientListener | None = None
        self.on_lost: Callable[[], None] | None = None

    def begin(self, headers: HeaderList, first: bytes) -> StreamConnection:
        """Take the connection for a stream: status 200, and a first part that is not empty.

        They are sent with the next part, or when the request waits for something.
        """
        protocol, cycle = self._protocol, self._cycle
        # uvicorn lets an application return before the response is complete, and asks nothing more
        # of it, when its client has left.
        cycle.response_started = cycle.disconnected = True
        stays = protocol.is_reading
        lines = [*cycle.default_headers, *headers]
        stream = self._begun = StreamConnection(
            self if stays else protocol.owner,
            self.transport,
            head=opening(lines, first, keep_alive=cycle.keep_alive),
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
        self._cycle.response_complete = True
        self._protocol.stream = None
        self._protocol.on_response_complete()

    def closing(self, transport: asyncio.Transport) -> None:
        """See `StreamOwner`."""
        self._protocol.watch_sending()

    @property
    def unread(self) -> bool:
        """Whether some of the request's body is still to come."""
        return bool(self._cycle.more_body)

    def linger(self) -> None:
        """The client has its answer, and is read on since it has not sent everything."""
        self._protocol.silence()

    def give_up(self) -> None:
        """The client is gone, which uvicorn does not know yet: it waits for no answer."""
        self._cycle.disconnected = True

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
