"""Where connections come in. Who asks for a stream that can be opened at once is let in by a short
way, since a thousand of those come back together; everybody else is uvicorn's guest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from .cors import HeaderList
from .protocol import EXTENSION, HEADERS_WITHIN, StreamHttpProtocol
from .room import Room
from .stream_connection import StreamConnection, opening
from .stream_request import StreamRequest, parse_stream_request


class Door:
    """What uvicorn calls for each connection to get its protocol, given as its setting `http`.

    `room`: how many connections there may be. `doorway`: the protocol of each at its start.
    """

    def __init__(self, room: Room | None = None, doorway: type[Doorway] | None = None) -> None:
        self.room = room or Room()
        self.connections: set[asyncio.Protocol] = set()
        self._doorway = doorway or Doorway
        self._server: tuple[Config, ServerState, dict[str, Any], asyncio.AbstractEventLoop]
        self._at_once: Callable[[dict[str, Any]], bool] | None = None

    def __call__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> Doorway:
        self._server = (config, server_state, app_state, _loop or asyncio.get_running_loop())
        self.connections = server_state.connections  # type: ignore[assignment]  # a set of its own
        self._at_once = getattr(config.loaded_app, "at_once", None)
        return self._doorway(self)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._server[3]

    @property
    def defaults(self) -> HeaderList:
        """Headers of every answer."""
        return self._server[1].default_headers

    @property
    def is_full(self) -> bool:
        return 0 < self.room.most < len(self.connections)

    def admit(self, doorway: Doorway, transport: asyncio.Transport, data: bytes) -> None:
        """Serve a connection of which these are the first bytes."""
        request = None if self._at_once is None else parse_stream_request(data)
        if request is None or not self._let_in(request, doorway):
            self.serve(transport).data_received(data)

    def _let_in(self, request: StreamRequest, doorway: Doorway) -> bool:
        _, _, app_state, _ = self._server
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "path": request.path,
            "query_string": request.query,
            "headers": request.headers,
            "state": app_state,
            "extensions": {EXTENSION: doorway},
        }
        return self._at_once is not None and self._at_once(scope)

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


class Doorway(asyncio.Protocol):
    """A connection of which nothing has come yet."""

    __slots__ = ("_door", "_overdue", "_transport", "lost")

    def __init__(self, door: Door) -> None:
        self._door = door
        self._overdue: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport
        self.lost = False

    def begin(self, headers: HeaderList, first: bytes) -> StreamConnection:
        """See `Connection`."""
        door, transport = self._door, self._transport
        stream = StreamConnection(door, transport, keep_alive=True, full=False)
        stream.take_over()
        stream.send(opening([*door.defaults, *headers], first, keep_alive=True))
        return stream

    # -- the protocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        door = self._door
        self._transport = transport
        door.connections.add(self)
        if door.is_full:
            self._leave()
            door.serve(transport)
            return
        self._overdue = door.loop.call_later(HEADERS_WITHIN, transport.abort)

    def data_received(self, data: bytes) -> None:
        self._leave()
        self._door.admit(self, self._transport, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def shutdown(self) -> None:
        """From the server: it stops."""
        self._transport.close()

    def _leave(self) -> None:
        self._door.connections.discard(self)
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
