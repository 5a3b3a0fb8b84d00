"""The acceptor of connections: finds a place for each, and its protocol with its first bytes."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from ...model.limits import Limits
from .connection_limit import SURPLUS, ConnectionLimit, Peer, client_address, has_input, peer_of
from .connection_owner import ConnectionOwner
from .http_connection import HEADERS_WITHIN, LAST_REQUEST
from .http_protocol import HttpProtocol


class ConnectionAcceptor(ConnectionOwner):
    """The maker of each connection's protocol, given to uvicorn as its setting `http`.

    `limits`: how long it waits for clients. `pending`: the protocol of each new connection.
    """

    def __init__(
        self,
        limit: ConnectionLimit | None = None,
        pending: type[PendingConnection] | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(limit or ConnectionLimit(), limits or Limits())
        self._pending = pending or PendingConnection

    def __call__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> PendingConnection:
        self.config, self.server_state, self.app_state = config, server_state, app_state
        self.loop = _loop or asyncio.get_running_loop()
        self.connections = server_state.connections  # type: ignore[assignment]  # a set of its own
        return self._pending(self)

    def place(self, pending: PendingConnection, transport: asyncio.Transport, peer: Peer) -> None:
        """Find a place for a new connection.

        Without a place the longest silent connection gives way. If none is silent, only a health
        check is answered.
        """
        over = len(self.connections) - self.limit.most if self.limit.most else 0
        if over <= 0 or self.silent.displace():
            pending.wait()
        elif over <= SURPLUS or self.surplus.displace():
            pending.leave()
            self.serve(transport, peer).expect_first(surplus=True)
        else:
            pending.leave()
            transport.abort()

    def serve(self, transport: asyncio.Transport, peer: Peer) -> HttpProtocol:
        """Serve the requests of a connection from here on."""
        protocol = HttpProtocol(self, transport, peer)
        transport.set_protocol(protocol)
        return protocol

    def take_back(self, transport: asyncio.Transport, data: bytes) -> None:
        protocol = self.serve(transport, peer_of(transport))
        protocol.on_response_complete()
        if data:
            protocol.data_received(data)

    async def close(self) -> None:
        """End what the acceptor holds; the server closes the connections."""
        await self.requests.close()


class PendingConnection(asyncio.Protocol):
    """A connection before its first bytes."""

    __slots__ = ("_acceptor", "_peer", "_timer", "_transport")

    def __init__(self, acceptor: ConnectionAcceptor) -> None:
        self._acceptor = acceptor
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport
        self._peer: Peer = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport, self._peer = transport, peer_of(transport)
        self._acceptor.connections.add(self)
        self._acceptor.place(self, transport, self._peer)

    def wait(self) -> None:
        """Wait for the first bytes: there is a place."""
        acceptor = self._acceptor
        acceptor.silent.add(self, client_address(self._peer))
        self._timer = acceptor.loop.call_later(HEADERS_WITHIN, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        self.leave()
        self._acceptor.serve(self._transport, self._peer).data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.leave()

    def shutdown(self) -> None:
        """From the server: it stops. A request that has come is still answered, and a client that
        has just connected has a moment to send one."""
        loop, timer = self._acceptor.loop, self._timer
        is_new = timer is not None and timer.when() - loop.time() > HEADERS_WITHIN - LAST_REQUEST
        if is_new or has_input(self._transport):
            self._stop_timer()
            self._timer = loop.call_later(LAST_REQUEST, self._transport.close)
        else:
            self._transport.close()

    @property
    def speaks(self) -> bool:
        """See `SilentConnection`."""
        return has_input(self._transport)

    def give_way(self) -> None:
        """See `SilentConnection`."""
        self.leave()
        self._transport.close()

    def leave(self) -> None:
        """Another protocol has the connection now, or none has it."""
        self._acceptor.connections.discard(self)
        self._acceptor.silent.discard(self)
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
