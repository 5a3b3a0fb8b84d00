"""A bounded pool of open sockets."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from .._core.buffer import json_object
from .._core.retry import RetryBudget
from .._core.settings import DEFAULT_MAX_RETRIES, resolve
from .._process.fork import Owned, PerProcess
from .._process.reachability import Reachability
from .._realtime.websocket import Compression, closed, connected, socket_url
from ..errors import ConnectionLost, StreamError

#: Seconds that a returned socket may take to become quiet; then it is closed.
QUIET_TIMEOUT = 2.0

log = logging.getLogger("resonantgenesis")


class PooledConnection(Owned):
    """A socket on loan: `send`, `recv` and `async for` of texts, as the library's; `ws` is it.

    Remembers its subscriptions and the turns that have not ended, so that the next borrower finds
    none of them. It does not know messages that are sent to `ws` directly.
    """

    def __init__(self, ws: ClientConnection) -> None:
        super().__init__()
        self.ws = ws
        self._channels: set[str] = set()
        self._turns = 0

    async def send(self, message: str | dict[str, Any]) -> None:
        """Send a text, or an object as JSON. Raises ConnectionClosed of `websockets`."""
        fields = message if isinstance(message, dict) else json_object(message) or {}
        if fields.get("type") == "subscribe":
            self._channels.update(map(str, fields.get("channels") or ()))
        elif fields.get("type") == "execute":
            self._turns += 1
        await self.ws.send(message if isinstance(message, str) else json.dumps(message))

    async def recv(self) -> str | bytes:
        """The next text. Raises ConnectionClosed of `websockets`."""
        text = await self.ws.recv()
        if self._turns:
            message = json_object(text) or {}
            self._turns -= "position" in message and message.get("type") == "done"
        return text

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        while True:
            try:
                text = await self.recv()
            except ConnectionClosed:
                return
            yield text

    @property
    def is_open(self) -> bool:
        """Whether the link stands, as far as is known."""
        return self.ws.state is State.OPEN

    async def quieten(self, token: str) -> bool:
        """Unsubscribe and read the messages that are still on their way; False if that failed."""
        if not self.is_open or self._turns > 0:
            return False
        try:
            async with asyncio.timeout(QUIET_TIMEOUT):
                if self._channels:
                    leave = {"type": "unsubscribe", "channels": sorted(self._channels)}
                    await self.ws.send(json.dumps(leave))
                await self.ws.send(json.dumps({"type": "ping", "id": token}))
                while (json_object(await self.ws.recv()) or {}).get("id") != token:
                    continue
        except (ConnectionClosed, TimeoutError):
            return False
        self._channels.clear()
        return True


class _Sockets:
    """The sockets of one process."""

    def __init__(self, max_connections: int) -> None:
        self.slots = asyncio.Semaphore(max_connections)
        self.idle: deque[PooledConnection] = deque()
        self.lent: set[PooledConnection] = set()


class StreamingPool:
    """At most `max_connections` open sockets, lent in turn, used again, replaced when broken.

    Waiting borrowers are served in the order of their requests. `api_key` and `base_url` have the
    client's defaults. Use it as `async with`, or `aclose` it; it belongs to one event loop.
    """

    def __init__(
        self,
        max_connections: int = 10,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        max_retries: int = DEFAULT_MAX_RETRIES,
        compression: Compression = "deflate",
    ) -> None:
        if max_connections < 1:
            raise ValueError("max_connections must be 1 or more")
        self._settings = resolve(api_key, base_url, None, max_retries)
        self._compression = compression
        self._reach = PerProcess(lambda: Reachability(self._settings))
        self._sockets = PerProcess(lambda: _Sockets(max_connections))
        self._tokens = map("pool-{}".format, itertools.count(1))
        self._closed = False

    @property
    def size(self) -> int:
        """How many sockets there are, lent and idle."""
        sockets = self._sockets.get()
        return len(sockets.idle) + len(sockets.lent)

    @asynccontextmanager
    async def get_connection(self) -> AsyncIterator[PooledConnection]:
        """A socket to use in the block. Waits while all are lent. Raises StreamError when none
        can be opened, RuntimeError when the pool is closed."""
        sockets = self._sockets.get()
        async with sockets.slots:
            connection = await self._take(sockets)
            sockets.lent.add(connection)
            try:
                yield connection
            except BaseException:
                # The socket may be in the middle of an exchange.
                await closed(connection.ws, connection)
                raise
            finally:
                sockets.lent.discard(connection)
                await self._give_back(connection, sockets)

    async def aclose(self) -> None:
        """Close all sockets, lent ones too."""
        self._closed = True
        sockets = self._sockets.get()
        everything = [*sockets.idle, *sockets.lent]
        sockets.idle.clear()
        await asyncio.gather(*(connection.ws.close() for connection in everything))

    async def __aenter__(self) -> StreamingPool:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _take(self, sockets: _Sockets) -> PooledConnection:
        while sockets.idle:
            connection = sockets.idle.popleft()
            if connection.is_open:
                return connection
        return PooledConnection(await self._open())

    async def _open(self) -> ClientConnection:
        settings = self._settings
        retries = RetryBudget(settings.max_retries, settings.backoff)
        while not self._closed:
            try:
                opened = await connected(
                    socket_url(settings.base_url),
                    settings.api_key,
                    timeout=settings.timeouts.connect,
                    compression=self._compression,
                    proxy=settings.proxy,
                    place=settings.place,
                )
                self._reach.get().found()
                return opened
            except StreamError as error:
                if isinstance(error, ConnectionLost):
                    self._reach.get().lost(error.message)
                wait = retries.after(error) if error.retryable else None
                if wait is None:
                    raise
                log.info("pool: %s; next attempt in %.2f s", error, wait.seconds)
            await asyncio.sleep(wait.seconds)
        raise RuntimeError("the pool is closed")

    async def _give_back(self, connection: PooledConnection, sockets: _Sockets) -> None:
        if connection.inherited:
            return
        if not self._closed and await connection.quieten(next(self._tokens)) and not self._closed:
            sockets.idle.append(connection)
        else:
            await connection.ws.close()

    def __repr__(self) -> str:
        sockets = self._sockets.get()
        return f"<{type(self).__name__} {len(sockets.lent)} lent, {len(sockets.idle)} idle>"
