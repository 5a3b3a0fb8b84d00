"""The server with every write to a client looked at: none may meet more unsent than its bound.

`CARELESS=1` makes streams believe that there is always room, which must be noticed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import structlog
from resonantgenesis_server.cli.app import main
from resonantgenesis_server.http.serving import acceptor, stream_connection
from resonantgenesis_server.http.serving import websocket_protocol as ws_protocol


class Watched:
    """A transport that looks before it writes."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        unsent = self._transport.get_write_buffer_size()
        bound = self._transport.get_write_buffer_limits()[1]
        if unsent > bound:
            structlog.get_logger("watched").error("over the bound", unsent=unsent, bound=bound)
        self._transport.write(data)


class WatchedProtocol(acceptor.HttpProtocol):
    __slots__ = ()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(Watched(transport))  # type: ignore[arg-type]


def _deaf(self: Any) -> None:
    del self


if os.environ.get("CARELESS"):
    stream_connection.StreamConnection.pause_writing = _deaf  # type: ignore[method-assign]
    ws_protocol.SocketProtocol.pause_writing = _deaf  # type: ignore[method-assign]
vars(acceptor)["HttpProtocol"] = WatchedProtocol
sys.exit(main())
