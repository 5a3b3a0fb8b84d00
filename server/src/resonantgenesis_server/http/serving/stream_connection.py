"""A connection while a stream is written to it, which may be for hours: all that only requests
need has been given back."""

from __future__ import annotations

import asyncio
from typing import Protocol

from ..cors import HeaderList


class Holder(Protocol):
    """Whoever writes to a connection."""

    def filled(self) -> None:
        """More is unsent than the bound: write nothing. Called in the write that was one too
        many."""
        ...

    def left(self) -> None:
        """The client has left."""
        ...


class Home(Protocol):
    """Where connections belong."""

    #: All that are open, for the server's shutdown.
    connections: set[asyncio.Protocol]

    def take_back(self, transport: asyncio.Transport, data: bytes) -> None:
        """Serve the next request; `data` has come of it already."""
        ...

    def closing(self, transport: asyncio.Transport) -> None:
        """It is being closed, which waits until the client has taken everything: see to it that
        it does not wait for ever."""
        ...


#: Bytes of a next request that are read while the stream goes on.
MOST_EARLY = 64 * 1024


class StreamConnection(asyncio.Protocol):
    """The transport's protocol from the first byte of a stream to its last; or, for a client that
    has begun to ask on already, told by the one that reads what it asks."""

    __slots__ = (
        "_early", "_home", "_is_over", "_keep_alive", "_room", "full", "holder", "lost", "ready",
        "transport",
    )  # fmt: skip

    def __init__(
        self, home: Home, transport: asyncio.Transport, *, keep_alive: bool, full: bool
    ) -> None:
        self._home = home
        self._keep_alive = keep_alive
        #: The response is complete.
        self._is_over = False
        #: What the client has sent of its next request.
        self._early = b""
        self._room: asyncio.Future[None] | None = None
        self.transport = transport
        #: More is unsent than the transport's bound: nothing may be written now.
        self.full = full
        self.lost = False
        #: Neither full nor lost.
        self.ready = not full
        self.holder: Holder | None = None

    def take_over(self) -> None:
        """Become the transport's protocol."""
        self._home.connections.add(self)
        self.transport.set_protocol(self)

    # -- for the stream --------------------------------------------------------------------

    async def room(self) -> None:
        """Return when the client has taken enough of what was written, or is gone."""
        while self.full and not self.lost:
            if self._room is None:
                self._room = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._room)

    def write(self, data: bytes) -> None:
        """Write a part, for which there must be room."""
        if not self.lost:
            self.send(chunked(data))

    def send(self, data: bytes) -> bool:
        """Write bytes as they are. False: the connection is closed, which `left` tells."""
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
        self.holder = None
        if not self._keep_alive or self.transport.is_closing():
            self.transport.close()
            self._home.closing(self.transport)
            return
        self._home.connections.discard(self)
        if len(self._early) > MOST_EARLY:
            self.transport.resume_reading()
        self._home.take_back(self.transport, self._early)

    def drop(self) -> None:
        """Cut off a client whose response was not completed: nothing else would tell it."""
        if not self._is_over:
            self.transport.abort()

    # -- the protocol ----------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """A client that asks on before it has its answer waits for its turn; it is read on, since
        it may leave."""
        self._early += data
        if len(self._early) > MOST_EARLY:
            self.transport.pause_reading()

    def eof_received(self) -> None:
        """The client has left, as far as anybody can tell; the transport closes."""
        self._home.closing(self.transport)

    def pause_writing(self) -> None:
        self.full, self.ready = True, False
        if self.holder is not None:
            self.holder.filled()

    def resume_writing(self) -> None:
        self.full, self.ready = False, not self.lost
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._home.connections.discard(self)
        self.lost, self.ready = True, False
        self._make_room()
        if self.holder is not None:
            self.holder.left()

    def _make_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    def shutdown(self) -> None:
        """From the server: serve no further request."""
        self._keep_alive = False


def chunked(data: bytes) -> bytes:
    """A part of a response in chunked encoding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def opening(headers: HeaderList, first: bytes, *, keep_alive: bool) -> bytes:
    """The head of a stream's response, with status 200 in chunked encoding, and its first part."""
    lines = [b"%b: %b\r\n" % line for line in headers]
    if not keep_alive:
        lines.append(b"connection: close\r\n")
    return b"HTTP/1.1 200 OK\r\n%btransfer-encoding: chunked\r\n\r\n%b" % (
        b"".join(lines),
        chunked(first),
    )
