"""The acceptor of connections: finds a place for each, and its protocol with its first bytes."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from ...model.limits import Limits
from .connection_limit import SURPLUS, ConnectionLimit
from .eager import EagerStarter
from .fair_reading import FairReading
from .http_protocol import HEADERS_WITHIN, LAST_REQUEST, StreamHttpProtocol
from .sending import Sending
from .silent_connections import SilentConnections, address_of, has_input


class ConnectionAcceptor:
    """What uvicorn calls for each connection to get its protocol, given as its setting `http`.

    `room`: how many connections there may be. `limits`: how long it waits for clients. `doorway`:
    the protocol of each connection at its start.
    """

    def __init__(
        self,
        room: ConnectionLimit | None = None,
        doorway: type[PendingConnection] | None = None,
        limits: Limits | None = None,
    ) -> None:
        limits = limits or Limits()
        self.room = room or ConnectionLimit()
        self.keep_alive, self.stall = limits.keep_alive, limits.stall
        self.silent, self.surplus = SilentConnections(), SilentConnections()
        self.parts = FairReading()
        self.draining = False
        self.connections: set[asyncio.Protocol] = set()
        self._doorway = doorway or PendingConnection
        self.requests = EagerStarter("request")
        self._server: tuple[Config, ServerState, dict[str, Any], asyncio.AbstractEventLoop]

    def __call__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> PendingConnection:
        self._server = (config, server_state, app_state, _loop or asyncio.get_running_loop())
        self.connections = server_state.connections  # type: ignore[assignment]  # a set of its own
        return self._doorway(self)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._server[3]

    def welcome(self, doorway: PendingConnection, transport: asyncio.Transport) -> None:
        """Find a place for a new connection. Where there is none the longest silent gives way;
        where all are busy it is looked at whether this one asks for the server's health."""
        over = len(self.connections) - self.room.most if self.room.most else 0
        if over <= 0 or self.silent.displace():
            doorway.wait()
        elif over <= SURPLUS or self.surplus.displace():
            doorway.leave()
            self.serve(transport).expect_first(surplus=True)
        else:
            doorway.leave()
            transport.abort()

    def serve(self, transport: asyncio.Transport) -> StreamHttpProtocol:
        """Serve a connection in full from here on."""
        config, server_state, app_state, loop = self._server
        protocol = StreamHttpProtocol(config, server_state, app_state, loop)
        protocol.home = self
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        return protocol

    def take_back(self, transport: asyncio.Transport, data: bytes) -> None:
        """A stream has ended."""
        protocol = self.serve(transport)
        protocol.rest()
        if data:
            protocol.data_received(data)

    async def close(self) -> None:
        """End what the acceptor holds; the connections are closed by the server."""
        await self.requests.close()

    def closing(self, transport: asyncio.Transport) -> None:
        """See `Home`."""
        Sending(transport, self.loop, self.stall).watch()


class PendingConnection(asyncio.Protocol):
    """A connection of which nothing has come yet."""

    __slots__ = ("_door", "_overdue", "_transport")

    def __init__(self, door: ConnectionAcceptor) -> None:
        self._door = door
        self._overdue: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport

    # -- the protocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._door.connections.add(self)
        self._door.welcome(self, transport)

    def wait(self) -> None:
        """There is a place for it."""
        door, transport = self._door, self._transport
        door.silent.add(self, address_of(transport))
        self._overdue = door.loop.call_later(HEADERS_WITHIN, transport.abort)

    def data_received(self, data: bytes) -> None:
        self.leave()
        self._door.serve(self._transport).data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.leave()

    def shutdown(self) -> None:
        """From the server: it stops. A request that has come is still answered."""
        if has_input(self._transport):
            self._wait_no_more()
            self._overdue = self._door.loop.call_later(LAST_REQUEST, self._transport.close)
        else:
            self._transport.close()

    @property
    def speaks(self) -> bool:
        """See `Silent`."""
        return has_input(self._transport)

    def give_way(self) -> None:
        """See `Silent`."""
        self.leave()
        self._transport.close()

    def leave(self) -> None:
        """The connection is another's now, or nobody's."""
        self._door.connections.discard(self)
        self._door.silent.discard(self)
        self._wait_no_more()

    def _wait_no_more(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
