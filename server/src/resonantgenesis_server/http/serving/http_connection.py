"""A client's connection between and during its requests: how long it may be silent, how it ends."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.flow_control import FlowControl

from .connection_limit import SURPLUS_WITHIN, Peer, SilentConnections, client_address, has_input
from .connection_owner import ConnectionOwner, SendWatchdog

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


class HttpConnection(asyncio.Protocol):
    """A connection without its requests, which a subclass reads and answers."""

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
