"""The one task that writes to a socket: what waits is sent, then subscriptions that are behind
are read on from the log, in turn. So there is no queue per subscription, and memory is bounded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from ..feed.follow import PAGE_BYTES
from ..feed.hub import Batch
from .ws_wire import AsgiWire, Encode

#: A queued message costs this much beside its bytes.
_OVERHEAD = 64


class Behind(Protocol):
    """A subscription that must read from the log."""

    async def step(self) -> None:
        """Read one page and `put` it; ask to be called again if that was not all."""
        ...


class SocketWriter:
    """The outgoing side. `bound`: unsent bytes beyond which live entries are not taken."""

    def __init__(self, wire: AsgiWire, bound: int) -> None:
        self._wire = wire
        self._bound = bound
        self._messages: list[bytes] = []
        self._size = 0
        self._behind: deque[Behind] = deque()
        self._closing: tuple[int, str] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._room = asyncio.Event()
        self._room.set()
        #: How often something was handed to the connection; a sign of life for the watch.
        self.writes = 0

    @property
    def waiting(self) -> int:
        """Bytes that are still to be handed to the connection."""
        return self._size

    @property
    def closing(self) -> bool:
        return self._closing is not None

    def put(self, message: bytes) -> None:
        """Send a message, after those that wait. Ignored once the socket closes."""
        if self._closing is None:
            self._add(message)
            self._wake()

    async def room(self) -> None:
        """Return when less than the bound waits: who answers waits here before it hears more."""
        await self._room.wait()

    @property
    def pours(self) -> bool:
        """Whether live entries can be written straight to the connection."""
        return self._wire.pours

    def pour(self, batch: Batch, form: str, encode: Callable[[Batch], Iterable[bytes]]) -> bool:
        """Write live entries now, or say False. `form` names what `encode` makes of the batch,
        which is the same for all who use it; nothing made: False as well."""
        if self._messages or self._waiter is None or self._closing is not None:
            return False
        if not self._wire.push(batch, form, encode):
            return False
        self.writes += 1
        return True

    def push(self, batch: Batch, form: str, encode: Encode) -> bool:
        """Take live entries of a subscription that has everything before them, or say False."""
        if self.pour(batch, form, encode):
            return True
        if self._closing is not None:
            return False
        if self._size >= self._bound or sum([len(entry.body) for entry in batch]) > PAGE_BYTES:
            return False
        for message in encode(batch):
            self._add(message)
        self._wake()
        return True

    def behind(self, subscription: Behind) -> None:
        """Call its `step` when nothing else is to be sent; asked for once, it is called once."""
        if subscription not in self._behind:
            self._behind.append(subscription)
        self._wake()

    def close(self, code: int, reason: str, last: bytes | None = None) -> None:
        """Close once what waits is sent; with a `last` message that is all that is still sent."""
        if self._closing is not None:
            return
        if last is not None:
            self._messages, self._size = [last], len(last)
        self._closing = (code, reason)
        self._room.set()
        self._wake()

    async def run(self) -> None:
        """Write until closed. Raises SocketLost."""
        while True:
            if self._messages:
                messages, self._messages, self._size = self._messages, [], 0
                self._room.set()
                await self._wire.write(messages)
                self.writes += 1
            elif self._closing is not None:
                await self._wire.close(*self._closing)
                return
            elif self._behind:
                await self._behind.popleft().step()
            else:
                await self._rest()

    async def _rest(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _add(self, message: bytes) -> None:
        self._messages.append(message)
        self._size += len(message) + _OVERHEAD
        if self._size >= self._bound:
            self._room.clear()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
