"""The one task that writes to a socket: what waits is sent, then subscriptions that are behind
are read on from the log, in turn. So there is no queue per subscription, and memory is bounded.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ...feed.hub import Write
from ...feed.subscription import PAGE_BYTES
from ...log.base import Entry
from .frames import SHARED
from .wire import AsgiWire

#: A queued message costs this much beside its bytes.
_OVERHEAD = 64


Encode = Callable[[Sequence[Entry]], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class SocketForm(ABC):
    """How a subscription's entries look on the wire. Forms that are equal share a live batch's
    bytes. `window_bits`: of the compression that was agreed on."""

    window_bits: int | None

    @abstractmethod
    def encode(self, entries: Sequence[Entry]) -> Iterable[bytes]:
        """The messages that tell these entries."""

    def live(self, entries: Sequence[Entry]) -> bytes:
        """The frames that every socket is written; none if each must look at these by itself."""
        bits = self.window_bits
        return b"".join([SHARED.frame(message, bits) for message in self.encode(entries)])


class Subscription(Protocol):
    """What a socket tells of."""

    async def step(self) -> None:
        """Read one page and `put` it; ask to be called again if that was not all."""
        ...

    def unpark(self) -> None:
        """Nothing may be written past the writer any more."""
        ...


class SocketWriter:
    """The outgoing side. `bound`: unsent bytes beyond which live entries are not taken."""

    def __init__(self, wire: AsgiWire, bound: int) -> None:
        self._wire = wire
        self._bound = bound
        self._messages: list[bytes] = []
        self._size = 0
        self._behind: deque[Subscription] = deque()
        #: Those whose live entries are written straight to the connection.
        self._parked: set[Subscription] = set()
        #: What was handed to `run` is not written yet.
        self._writing = False
        self._closing: tuple[int, str] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._room = asyncio.Event()
        self._room.set()
        #: How often something was handed to the connection; a sign of life for the watch.
        self.writes = 0
        self.window_bits = wire.window_bits
        wire.call(self)

    @property
    def waiting(self) -> int:
        """Bytes that are still to be handed to the connection."""
        return self._size

    @property
    def closing(self) -> bool:
        return self._closing is not None

    def put(self, message: bytes) -> None:
        """Send a message, after those that wait. Ignored once the socket closes."""
        if self._closing is not None:
            return
        if self._messages or self._writing or not self._wire.send_now(message):
            self.queue([message])
        else:
            self.writes += 1

    def queue(self, messages: Iterable[bytes]) -> None:
        """Send messages together, after those that wait; for what was read from the log."""
        waiting = tuple(messages)
        if self._closing is not None or not waiting:
            return
        self.filled()  # nothing may overtake what waits
        for message in waiting:
            self._add(message)
        self._wake()

    async def room(self) -> None:
        """Return when less than the bound waits: who answers waits here before it hears more."""
        await self._room.wait()

    @property
    def can_pour(self) -> bool:
        """Whether live entries can ever be written straight to the connection."""
        return self._wire.direct is not None

    @property
    def pours(self) -> bool:
        """Whether they may be now: nothing waits to be sent before them."""
        waits = self._messages or self._writing or self._closing is not None
        return not waits and self._wire.ready

    @property
    def write(self) -> Write:
        """Where they are written then."""
        if self._wire.direct is None:
            raise RuntimeError("this server has no way past its `send`")
        return self._wire.direct

    def parked(self, subscription: Subscription) -> None:
        """Its live entries are written to the connection; `unpark` it before anything waits."""
        self._parked.add(subscription)

    def unparked(self, subscription: Subscription) -> None:
        """It has left the hub, or is pushed to again."""
        self._parked.discard(subscription)

    def filled(self) -> None:
        """From the connection: it takes nothing for now, or no more."""
        for subscription in tuple(self._parked):
            subscription.unpark()

    def push(self, entries: Sequence[Entry], encode: Encode) -> bool:
        """Take live entries of a subscription that has everything before them, or say False."""
        if self._closing is not None or self._size >= self._bound:
            return False
        if sum([len(entry.body) for entry in entries]) > PAGE_BYTES:
            return False
        for message in encode(entries):
            self.put(message)
        return True

    def behind(self, subscription: Subscription) -> None:
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
        self.filled()
        self._room.set()
        self._wake()

    def lost(self) -> None:
        """The client is gone: nothing is sent any more, and nobody waits for room."""
        self._messages, self._size = [], 0
        self._closing = self._closing or (1006, "")
        self._behind.clear()
        self.filled()
        self._room.set()

    async def run(self) -> None:
        """Write until closed. Raises SocketLost."""
        while True:
            if self._messages:
                messages, self._messages, self._size = self._messages, [], 0
                self._room.set()
                self._writing = True
                try:
                    await self._wire.write(messages)
                finally:
                    self._writing = False
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
