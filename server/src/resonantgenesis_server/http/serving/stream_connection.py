"""A connection while a stream is written to it, which may be for hours.

Everything that only requests need has been given back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol


class StreamListener(Protocol):
    """A stream, as its connection knows it."""

    def filled(self) -> None:
        """More is unsent than the bound: write nothing. Called within the write that filled it."""
        ...

    def left(self) -> None:
        """The client has left."""
        ...


class StreamOwner(Protocol):
    """The owner of a stream's connection: the server's, or the request that is still read."""

    #: All that are open, for the server's shutdown.
    connections: set[asyncio.Protocol]

    def take_back(self, transport: asyncio.Transport, data: bytes) -> None:
        """Serve the next request; `data` has come of it already."""
        ...

    def closing(self, transport: asyncio.Transport) -> None:
        """Let no close of this connection wait for its client without a bound."""
        ...


#: Bytes of a next request that are read while the stream goes on.
EARLY_BYTES = 64 * 1024


class StreamConnection(asyncio.Protocol):
    """The transport's protocol from the first byte of a stream to its last.

    If the client has begun to send its next request, the protocol that reads it passes calls on.
    """

    __slots__ = (
        "_early", "_head", "_is_over", "_keep_alive", "_owner", "_writable", "full", "listener",
        "lost", "ready", "transport",
    )  # fmt: skip

    def __init__(
        self,
        owner: StreamOwner,
        transport: asyncio.Transport,
        *,
        keep_alive: bool,
        full: bool,
        head: bytes = b"",
    ) -> None:
        """`head`: bytes to be sent before the first part, with it or by `flush`."""
        self._owner = owner
        self._keep_alive = keep_alive
        self._head = head
        #: The response is complete.
        self._is_over = False
        #: The bytes that have come of the next request.
        self._early = b""
        self._writable: asyncio.Future[None] | None = None
        self.transport = transport
        #: More is unsent than the transport's bound: nothing may be written now.
        self.full = full
        self.lost = False
        #: Neither full nor lost.
        self.ready = not full
        self.listener: StreamListener | None = None

    def take_over(self) -> None:
        """Become the transport's protocol."""
        self._owner.connections.add(self)
        self.transport.set_protocol(self)

    # -- for the stream --------------------------------------------------------------------

    async def drain(self) -> None:
        """Wait until the client has taken enough of what was written, or has left."""
        while self.full and not self.lost:
            if self._writable is None:
                self._writable = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._writable)

    def write(self, data: bytes) -> None:
        """Write a part; the connection must not be full."""
        if not self.lost:
            self.send(chunked(data))

    def flush(self) -> None:
        """Write the head, if that was not done."""
        if self._head and not self.lost:
            self.send(b"")

    def send(self, data: bytes) -> bool:
        """Write bytes as they are. False: the connection is closed, which `left` tells."""
        if self._head:
            data, self._head = self._head + data, b""
        try:
            self.transport.write(data)
        except RuntimeError:  # uvloop's, between a reset and `connection_lost`
            return False
        return True

    def finish(self, last: bytes) -> None:
        """Complete the response; the connection serves the next request."""
        if self.lost or self._is_over:
            return
        self._is_over = True
        self.send((chunked(last) if last else b"") + b"0\r\n\r\n")
        self.listener = None
        if not self._keep_alive or self.transport.is_closing():
            self.transport.close()
            self._owner.closing(self.transport)
            return
        self._owner.connections.discard(self)
        if len(self._early) > EARLY_BYTES:
            self.transport.resume_reading()
        self._owner.take_back(self.transport, self._early)

    def cut(self) -> None:
        """Close after what was written, so that the client sees an incomplete response."""
        if self.lost or self._is_over:
            return
        self._is_over = True
        self.flush()
        self.listener = None
        self.transport.close()
        self._owner.closing(self.transport)

    def drop(self) -> None:
        """Cut off a client whose response was not completed: nothing else would tell it."""
        if not self._is_over:
            self.transport.abort()

    # -- the protocol ----------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Keep the next request until the stream is over. Reading goes on, since it tells that the
        client has left."""
        self._early += data
        if len(self._early) > EARLY_BYTES:
            self.transport.pause_reading()

    def eof_received(self) -> None:
        """The client has left, as far as anybody can tell; the transport closes."""
        self._owner.closing(self.transport)

    def pause_writing(self) -> None:
        self.full, self.ready = True, False
        if self.listener is not None:
            self.listener.filled()

    def resume_writing(self) -> None:
        self.full, self.ready = False, not self.lost
        self._wake_writers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.connections.discard(self)
        self.lost, self.ready = True, False
        self._wake_writers()
        if self.listener is not None:
            self.listener.left()

    def _wake_writers(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def shutdown(self) -> None:
        """From the server: serve no further request."""
        self._keep_alive = False


def chunked(data: bytes) -> bytes:
    """A part of a response in chunked encoding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as the lines of a response's head."""
    return b"".join([b"%b: %b\r\n" % line for line in headers])


def opening(headers: bytes, first: bytes, *, keep_alive: bool) -> bytes:
    """The head of a stream's response, with status 200 in chunked encoding, and its first part.
    `headers`: see `header_lines`."""
    return b"HTTP/1.1 200 OK\r\n%b%btransfer-encoding: chunked\r\n\r\n%b" % (
        headers,
        b"" if keep_alive else b"connection: close\r\n",
        chunked(first),
    )
