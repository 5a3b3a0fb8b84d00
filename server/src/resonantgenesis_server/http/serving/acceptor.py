"""Where connections come in. Who asks for a stream that can be opened at once is let in by a short
way, since a thousand of those come back together; everybody else is uvicorn's guest."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from uvicorn.config import Config
from uvicorn.server import ServerState

from ...model.limits import Limits
from ..cors import HeaderList
from .connection_limit import SURPLUS, ConnectionLimit
from .fair_reading import FairReading
from .http_protocol import EXTENSION, HEADERS_WITHIN, LAST_REQUEST, StreamHttpProtocol
from .request_head import Refused, parse_head
from .sending import Sending
from .silent_connections import SilentConnections, address_of, has_input
from .stream_connection import StreamConnection, opening


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
        self._server: tuple[Config, ServerState, dict[str, Any], asyncio.AbstractEventLoop]
        self._at_once: Callable[[dict[str, Any]], bool] | None = None

    def __call__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> PendingConnection:
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

    def admit(self, doorway: PendingConnection, transport: asyncio.Transport, data: bytes) -> None:
        """Serve a connection of which these are the first bytes."""
        request = None if self._at_once is None else parse_stream_request(data)
        if request is None or not self._let_in(request, doorway):
            self.serve(transport).data_received(data)

    def _let_in(self, request: StreamRequest, doorway: PendingConnection) -> bool:
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

    def closing(self, transport: asyncio.Transport) -> None:
        """See `Home`."""
        Sending(transport, self.loop, self.stall).watch()


class PendingConnection(asyncio.Protocol):
    """A connection of which nothing has come yet."""

    __slots__ = ("_door", "_overdue", "_transport", "lost")

    def __init__(self, door: ConnectionAcceptor) -> None:
        self._door = door
        self._overdue: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport
        self.lost = False

    def begin(self, headers: HeaderList, first: bytes) -> StreamConnection:
        """See `Connection`."""
        door, transport = self._door, self._transport
        stays = not door.draining
        stream = StreamConnection(door, transport, keep_alive=stays, full=False)
        stream.take_over()
        stream.send(opening([*door.defaults, *headers], first, keep_alive=stays))
        return stream

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
        self._door.admit(self, self._transport, data)

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


#: Longer requests go the long way.
_MOST = 8_192
_START = re.compile(
    rb"GET (/(?:api/)?v1/sessions/[A-Za-z0-9_-]+/stream)(?:\?([A-Za-z0-9_.=&-]*))? HTTP/1\.1\r\n"
)
#: Whoever sends one of these wants more than a stream on a connection that stays.
_LONG_WAY = frozenset({b"content-length", b"cookie", b"expect", b"transfer-encoding", b"upgrade"})


class StreamRequest(NamedTuple):
    """A GET of HTTP/1.1 for a session's stream, on a connection that is kept alive. Header names
    are in lower case."""

    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]


def parse_stream_request(data: bytes) -> StreamRequest | None:
    """The request that these bytes are; None: it has to go the long way."""
    start = _START.match(data)
    if start is None or len(data) > _MOST or data.find(b"\r\n\r\n") != len(data) - 4:
        return None
    try:
        head = parse_head(data)
    except Refused:
        return None
    if not head.keep_alive or any(name in _LONG_WAY for name, _ in head.headers):
        return None
    return StreamRequest(start[1].decode(), start[2] or b"", head.headers)
