"""The owner of a server's connections: their bounds, and how they share the event loop."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from ...model.limits import Limits
from .connection_limit import SURPLUS, ConnectionLimit, Place, SilentConnections
from .eager import EagerStarter

#: Seconds between two looks at the unsent bytes of a connection, at most.
_LOOK = 5.0


class FairReading:
    """The queue of those that have more to read than is read in one go. All of them together get
    half of the loop's time at most: one packet may hold 40,000 chunks, and anybody may send it."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._runs = False

    def wait(self, read_on: Callable[[], None]) -> None:
        """Call `read_on` when it is its turn; it may wait again."""
        self._waiting.append(read_on)
        if not self._runs:
            self._runs = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            self._waiting.popleft()()
        finally:
            self._runs = bool(self._waiting)
            if self._runs:
                loop.call_later(loop.time() - began, self._next)


class SendWatchdog:
    """Cuts a connection on which bytes have waited for `patience` seconds and none has gone.

    It does so after a close as well, since a close waits for the bytes without a bound.
    """

    __slots__ = ("_loop", "_moved", "_patience", "_timer", "_transport", "_unsent")

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, patience: float
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._patience = patience
        self._timer: asyncio.TimerHandle | None = None
        self._unsent = 0
        self._moved = 0.0

    def watch(self) -> None:
        """Bytes may be waiting: look after them until they have gone."""
        if self._timer is None and (unsent := self._transport.get_write_buffer_size()):
            self._unsent, self._moved = unsent, self._loop.time()
            self._look_later()

    def stop(self) -> None:
        """The connection is lost, or has another owner."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_later(self) -> None:
        self._timer = self._loop.call_later(min(_LOOK, self._patience / 4), self._look)

    def _look(self) -> None:
        self._timer = None
        unsent = self._transport.get_write_buffer_size()
        if not unsent:
            return
        now = self._loop.time()
        if unsent != self._unsent:
            self._unsent, self._moved = unsent, now
        elif now - self._moved >= self._patience:
            self._transport.abort()
            return
        self._look_later()


class ConnectionOwner(ABC):
    """What the connections of one server share."""

    #: Of uvicorn, once it serves.
    config: Config
    server_state: ServerState
    app_state: dict[str, Any]
    loop: asyncio.AbstractEventLoop

    def __init__(self, limit: ConnectionLimit, limits: Limits) -> None:
        self.limit = limit
        #: Seconds: without a request; without progress of an answer.
        self.keep_alive, self.stall = limits.keep_alive, limits.stall
        #: Connections that wait for their clients: within the limit, and beyond it.
        self.silent, self.surplus = SilentConnections(), SilentConnections()
        self.bodies = FairReading()
        self.requests = EagerStarter("request")
        #: The server is going away: each answer from now on is the last of its connection.
        self.draining = False
        #: All that are open, for the server's shutdown.
        self.connections: set[asyncio.Protocol] = set()

    def find_place(self) -> Place:
        """The place of a connection that is new, and in `connections`.

        Without a place the longest silent connection gives way. If none is silent, only a health
        check is answered.
        """
        over = len(self.connections) - self.limit.most if self.limit.most else 0
        if over <= 0 or self.silent.displace():
            return Place.WITHIN
        return Place.SURPLUS if over <= SURPLUS or self.surplus.displace() else Place.NONE

    @abstractmethod
    def take_back(self, transport: asyncio.Transport, data: bytes) -> None:
        """Serve the next request of a connection whose stream has ended; `data` has come of it."""

    def closing(self, transport: asyncio.Transport) -> None:
        """Let no close of this connection wait for its client without a bound."""
        SendWatchdog(transport, self.loop, self.stall).watch()
