"""`GET /v1/ws`: handshakes, and the drain of all sockets."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext

from starlette.types import Receive, Scope, Send

from ... import metrics
from ...events.service import EventService
from ...model.errors import Unavailable
from ...model.limits import Limits
from ...model.principal import Principal
from ...sessions.service import SessionService
from ...webhooks.service import WebhookService
from ..auth.authenticator import CredentialAuthenticator
from ..limits import RequestLimit, SocketLimits
from ..routing import FastRoute, fast_route
from ..serving.connection_limit import client_address
from ..serving.websocket_protocol import handshake_error, not_taken, socket_of
from ..watchdog import StreamWatchdog
from .commands import Services
from .connection import Socket
from .messages import PATH
from .writer import AsgiTransport, DirectTransport

#: Seconds that clients are asked to wait before they come back.
RETRY_AFTER = 1.0
#: A bound for the server's stop, since each closed socket comes back at once.
_CLOSES_PER_SECOND = 50
#: Seconds for the last chunks of turns that were cancelled at the end of the drain.
_LAST_CHUNKS = 5.0
_LOOK = 0.05


async def _not_upgraded(scope: Scope, receive: Receive, send: Send) -> None:
    """A plain GET, or an upgrade whose headers a proxy has dropped. Raises ApiError."""
    raise handshake_error(scope["headers"]) or not_taken(scope)


class SocketRoutes:
    """The route `/v1/ws`, and all sockets of the process."""

    def __init__(
        self,
        sessions: SessionService,
        events: EventService,
        authenticator: CredentialAuthenticator,
        limits: Limits,
        watch: StreamWatchdog,
        requests: RequestLimit,
        webhooks: WebhookService,
        socket_limits: SocketLimits | None = None,
    ) -> None:
        self._services = Services(
            sessions, events, limits, requests, socket_limits or SocketLimits.of(limits), webhooks
        )
        self._authenticator = authenticator
        self._watch = watch
        self._sockets: set[Socket] = set()
        self._unauthenticated = UnauthenticatedSockets()
        self._draining = False

    def routes(self) -> list[FastRoute]:
        return [
            fast_route("WEBSOCKET", PATH, self.connect, counted=False),
            fast_route("GET", PATH, _not_upgraded, counted=False, public=True),
        ]

    @property
    def count(self) -> int:
        """The number of open sockets."""
        return len(self._sockets)

    async def connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI app of the route; raises ApiError instead of accepting."""
        principal: Principal | None = scope["state"]["principal"]
        request_id: str = scope["state"]["request_id"]
        if self._draining:
            raise Unavailable("the server is shutting down", retry_after=RETRY_AFTER)
        connection = socket_of(scope)
        transport = AsgiTransport(send) if connection is None else DirectTransport(send, connection)
        socket = Socket(
            self._services,
            self._authenticator,
            self._watch,
            transport,
            principal,
            request_id,
            lenient=scope["state"]["lenient"],
        )
        if connection is not None:
            connection.allow(socket.allowance)
        if principal is None:
            limit = self._services.socket.unauthenticated
            self._unauthenticated.admit(socket, client_address(scope.get("client")), limit)
        opening = nullcontext() if principal is None else self._watch.opening(principal)
        self._sockets.add(socket)
        try:
            with opening as place:
                await receive()
                headers = [(b"x-request-id", request_id.encode())]
                await send({"type": "websocket.accept", "headers": headers})
                scope["headers"] = []  # of a quiet socket they would be a tenth
                await socket.run(receive, place)
        finally:
            self._sockets.discard(socket)
            self._unauthenticated.discard(socket)

    # -- the end ---------------------------------------------------------------------------

    async def drain(self, seconds: float) -> None:
        """Tell all that the server stops and close them with 1012, spread over at most `seconds`.

        Those that follow sessions stay while turns still run, and a little longer for the last
        chunks. New ones are refused from now on. Returns when all are closed, or have had time to.
        """
        self._draining = True
        loop = asyncio.get_running_loop()
        for socket in self._sockets:
            socket.announce(RETRY_AFTER)
        began = loop.time()
        due = self._spread(list(self._sockets), began, seconds)
        while self._sockets and loop.time() < began + seconds + _LAST_CHUNKS:
            now = loop.time()
            running = self._services.sessions.supervisor.running > 0
            for socket, at in list(due.items()):
                if now >= at and not (running and socket.follows_sessions):
                    del due[socket]
                    socket.restart()
            await asyncio.sleep(_LOOK)
        for socket in due:
            socket.restart()
        if due:
            await asyncio.sleep(_LOOK)

    def _spread(self, sockets: list[Socket], now: float, seconds: float) -> dict[Socket, float]:
        """The time at which each socket is to be closed."""
        window = min(seconds, len(sockets) / _CLOSES_PER_SECOND)
        chance = random.SystemRandom()
        return {socket: now + chance.uniform(0, window) for socket in sockets}


class UnauthenticatedSockets:
    """The sockets that wait to be authenticated: a bounded number, fairly among addresses.

    Without a place for one more, the oldest socket of the address with the most of them gives way.
    So nobody keeps another address out, however many connections it opens. A fixed share for each
    address would do that as well. But behind a proxy all clients have one address: it gets all
    places, and a slow client gives way to a new one.
    """

    def __init__(self) -> None:
        self._waiting: dict[Socket, str] = {}  # the oldest first

    def admit(self, socket: Socket, address: str, limit: int) -> None:
        """Count this socket; at most `limit` wait. Raises Unavailable when none can give way."""
        waiting = {known: of for known, of in self._waiting.items() if known.is_waiting}
        if len(waiting) >= limit:
            metrics.limit_hit("unauthenticated_sockets")
            del waiting[_displaced(waiting, address)]
        waiting[socket] = address
        self._waiting = waiting

    def discard(self, socket: Socket) -> None:
        self._waiting.pop(socket, None)


def _displaced(waiting: Mapping[Socket, str], newcomer: str) -> Socket:
    """The socket that has given way. Raises Unavailable."""
    crowds = Counter(waiting.values())
    crowds[newcomer] += 1
    largest = max(crowds.values())
    for socket, address in waiting.items():
        if crowds[address] == largest and socket.displace():
            return socket
    raise Unavailable("too many sockets wait to be authenticated", retry_after=1)
