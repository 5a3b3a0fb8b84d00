"""The acceptor of connections: makes the protocol of each, for its requests."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from ...model.limits import Limits
from .connection_limit import ConnectionLimit
from .connection_owner import ConnectionOwner
from .http_protocol import HttpProtocol


class ConnectionAcceptor(ConnectionOwner):
    """The maker of each connection's protocol, given to uvicorn as its setting `http`.

    `limits`: how long it waits for clients.
    """

    def __init__(self, limit: ConnectionLimit | None = None, limits: Limits | None = None) -> None:
        super().__init__(limit or ConnectionLimit(), limits or Limits())

    def __call__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> HttpProtocol:
        self.config, self.server_state, self.app_state = config, server_state, app_state
        self.loop = _loop or asyncio.get_running_loop()
        self.connections = server_state.connections  # type: ignore[assignment]  # a set of its own
        return HttpProtocol(self)

    def take_back(self, transport: asyncio.Transport, data: bytes) -> None:
        protocol = HttpProtocol(self)
        protocol.attach(transport)
        transport.set_protocol(protocol)
        protocol.on_response_complete()
        if data:
            protocol.data_received(data)

    async def close(self) -> None:
        """End what the acceptor holds; the server closes the connections."""
        await self.requests.close()
