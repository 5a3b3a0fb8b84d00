"""A plain socket that comes back, and the heartbeat that keeps one alive."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, Protocol

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from .._core.buffer import json_object
from .._core.proxy import address_of, proxy_for
from .._core.retry import Backoff
from .._process.fork import Owned
from .._realtime.websocket import Compression, closed, closed_error, connected
from ..errors import InvalidSettings, StreamError

Handler = Callable[[dict[str, Any]], Awaitable[object] | object]
OnConnect = Callable[[ClientConnection], Awaitable[object] | object]

log = logging.getLogger("resonantgenesis")


class ReconnectingWebSocket:
    """A WebSocket that is opened again whenever it is lost, for as long as `listen` runs.

    `ws` is the open connection of the `websockets` library, None before the first; what was
    subscribed on one is not on the next, so subscribe in `on_connect`, which is called with each.
    The wait before an attempt lies between half and the whole of `reconnect_delay`, in seconds,
    which doubles up to `max_delay` and is back at its first value once a message has come; what a
    server asks for in Retry-After is waited in any case. So neither a wrong key nor a server that
    drains is asked in a tight loop.

    `on_handler_error`: an exception of the handler ends `listen` and is raised there, after the
    connection is closed ("raise"), or is logged, and the next message is handled ("log").

    For events and sessions without gaps use `client.realtime()`; this is the bare building block.
    """

    def __init__(
        self,
        uri: str,
        api_key: str,
        *,
        on_connect: OnConnect | None = None,
        on_handler_error: Literal["raise", "log"] = "raise",
        compression: Compression = "deflate",
    ) -> None:
        if on_handler_error not in ("raise", "log"):
            raise ValueError("on_handler_error must be 'raise' or 'log'")
        self.uri = uri
        self.api_key = api_key
        self.ws: ClientConnection | None = None
        self.reconnect_delay = 1.0
        self.max_delay = 60.0
        self._first_delay: float | None = None
        self._on_connect = on_connect
        self._raise = on_handler_error == "raise"
        self._compression = compression
        self._closing = asyncio.Event()
        self._opened = Owned()

    async def connect(self) -> None:
        """Connect, however many attempts that takes, and return with `ws` open.

        Raises the exceptions of `on_connect`, InvalidSettings for a variable that names no proxy,
        and RuntimeError once it is `aclose`d.
        """
        if not await self._connect():
            raise RuntimeError("closed")

    async def listen(self, handler: Handler) -> None:
        """Connect, unless `connect` has, and call `handler` with each message, one after the other.

        Runs until it is cancelled or `aclose`d. The handler may be asynchronous. Raises the
        exceptions of the handler and of `on_connect`.
        """
        try:
            while self._is_open() or await self._connect():
                await self._handle_all(handler)
        finally:
            await self._close_socket()

    async def aclose(self) -> None:
        """Close the connection and let `listen` return. May be repeated."""
        self._closing.set()
        await self._close_socket()

    async def __aenter__(self) -> ReconnectingWebSocket:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _is_open(self) -> bool:
        here = not self._opened.inherited
        return here and self.ws is not None and self.ws.state is State.OPEN

    async def _connect(self) -> bool:
        """Whether `ws` is open now; False: it is closed for good."""
        await self._close_socket()
        while not self._closing.is_set():
            try:
                self.ws = await connected(
                    self.uri,
                    self.api_key,
                    compression=self._compression,
                    proxy=proxy_for(self.uri),
                    place=address_of(self.uri),
                )
                self._opened = Owned()
                if self._on_connect is not None:
                    await _awaited(self._on_connect(self.ws))
            except InvalidSettings:
                raise
            except StreamError as error:
                await self._wait(error)
            except ConnectionClosed as error:
                await self._wait(closed_error(error))
            else:
                return True
        return False

    async def _handle_all(self, handler: Handler) -> None:
        ws = self.ws
        if ws is None:
            return
        began = time.monotonic()
        try:
            while True:
                text = await ws.recv()
                self._good()
                await self._handle(handler, text)
        except ConnectionClosed as error:
            if time.monotonic() - began > self.max_delay:
                self._good()
            await self._wait(closed_error(error))

    async def _handle(self, handler: Handler, text: str | bytes) -> None:
        message = json_object(text)
        if message is None:
            log.warning("the socket received a message that is not a JSON object")
            return
        try:
            await _awaited(handler(message))
        except Exception:
            if self._raise:
                raise
            log.exception("the handler failed; going on with the next message")

    def _good(self) -> None:
        if self._first_delay is not None:
            self.reconnect_delay, self._first_delay = self._first_delay, None

    async def _wait(self, error: StreamError) -> None:
        if self._first_delay is None:
            self._first_delay = self.reconnect_delay
        backoff = Backoff(self.reconnect_delay, self.reconnect_delay, jitter=0.5)
        delay = backoff.delay(1, floor=error.retry_after or 0.0)
        if self._closing.is_set():
            return
        self.reconnect_delay = min(self.reconnect_delay * 2, self.max_delay)
        log.warning("%s: %s; next attempt in %.1f s", self.uri, error, delay)
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._closing.wait()

    async def _close_socket(self) -> None:
        if self.ws is not None:
            await closed(self.ws, self._opened)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.uri}>"


class Pingable(Protocol):
    """A connection of any release of `websockets`, or what looks like one."""

    async def send(self, message: str, /) -> None:
        """Send a text."""
        ...

    async def wait_closed(self) -> None:
        """Return when the connection is closed."""
        ...


async def maintain_connection(ws: Pingable, interval: float = 30.0) -> None:
    """Send a ping now and every `interval` seconds, until either side closes the connection."""
    while True:
        try:
            await ws.send(json.dumps({"type": "ping"}))
        except ConnectionClosed:
            return
        try:
            async with asyncio.timeout(interval):
                await ws.wait_closed()
            return
        except TimeoutError:
            continue


async def _awaited(value: Awaitable[object] | object) -> None:
    if inspect.isawaitable(value):
        await value
