"""The outgoing side of a socket: frames, the way to the connection, and the one task that writes.

The task sends waiting messages. Then it reads subscriptions that are behind from the log, in turn.
So there is no queue per subscription, and memory is bounded.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from starlette.types import Send

from ...codec.websocket import deflated, text_frame
from ...feed.encoder import Encoder
from ...feed.hub import Write
from ...feed.subscription import PAGE
from ...log.base import Entry
from ..serving.websocket_protocol import Gate, SocketConnection

#: Shorter messages gain nothing from compression.
LEAST = 128
_KEPT_BYTES = 1 << 20


class FrameCache:
    """Text frames of messages, for one width of the window; the newest MiB of them."""

    def __init__(self) -> None:
        self._frames: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()
        self._size = 0

    def frame(self, message: bytes, window_bits: int | None) -> bytes:
        """The frame of a message; `window_bits` None: not compressed."""
        if window_bits is None or len(message) < LEAST:
            return text_frame(message)
        # The hash of a bytes object is computed once and a hit compares by identity first, so
        # looking up a message that is shared costs less than even a short one's deflate.
        key = (message, window_bits)
        frame = self._frames.get(key)
        if frame is None:
            frame = text_frame(deflated(message, window_bits), compressed=True)
            self._keep(key, frame)
        return frame

    def _keep(self, key: tuple[bytes, int], frame: bytes) -> None:
        self._frames[key] = frame
        self._size += len(key[0]) + len(frame)
        while self._size > _KEPT_BYTES:
            (message, _), old = self._frames.popitem(last=False)
            self._size -= len(message) + len(old)


FRAMES = FrameCache()


#: Bytes handed to the transport between two looks at whether the client takes them.
_SLICE = 64 * 1024
_MAX_REASON = 120


class SocketLost(Exception):
    """The client is gone, or the connection is no longer open for messages."""


class AsgiTransport:
    """The way to the client by `send` of the server, which waits while the client takes nothing."""

    def __init__(self, send: Send) -> None:
        self._send = send

    @property
    def unsent(self) -> int:
        """Bytes that the client has not taken, as far as that can be seen."""
        return 0

    #: The connection's own `write`, for frames; None: there is only `send`.
    direct: Write | None = None
    #: Of the compression that was agreed on, for frames; None: none was.
    window_bits: int | None = None

    @property
    def ready(self) -> bool:
        """Whether frames may be written directly now."""
        return False

    def send_now(self, message: bytes) -> bool:
        """Send a text without waiting. False: that cannot be done now."""
        del message
        return False

    def on_full(self, call: Callable[[], None]) -> None:
        """Call this when no frame may be written directly until `ready` again."""

    async def write(self, messages: Sequence[bytes]) -> None:
        """Send texts, waiting for the client where it is slow. Raises SocketLost."""
        for message in messages:
            await self._call({"type": "websocket.send", "text": message.decode()})

    async def close(self, code: int, reason: str) -> None:
        """Raises SocketLost."""
        cut = reason.encode()[:_MAX_REASON].decode("utf-8", "ignore")
        await self._call({"type": "websocket.close", "code": code, "reason": cut})

    def abort(self) -> None:
        """Drop the connection, where that is possible."""

    async def _call(self, message: dict[str, object]) -> None:
        try:
            await self._send(message)
        except (OSError, RuntimeError) as error:
            # Servers differ in how they say that a connection has closed meanwhile.
            raise SocketLost(str(error)) from error


class DirectTransport(AsgiTransport):
    """Frames written straight to the transport, each made once for all sockets."""

    def __init__(self, send: Send, connection: SocketConnection) -> None:
        super().__init__(send)
        self._connection = connection
        self.direct = connection.transport.write
        self.window_bits = connection.window_bits

    @property
    def unsent(self) -> int:
        return self._connection.transport.get_write_buffer_size()

    @property
    def ready(self) -> bool:
        return not self._connection.full and self._connection.open

    def send_now(self, message: bytes) -> bool:
        frame = FRAMES.frame(message, self.window_bits)
        return self.ready and self._connection.send(frame)

    def on_full(self, call: Callable[[], None]) -> None:
        self._connection.on_full = call

    async def write(self, messages: Sequence[bytes]) -> None:
        bits = self.window_bits
        frames: list[bytes] = []
        size = 0
        for message in messages:
            frame = FRAMES.frame(message, bits)
            frames.append(frame)
            size += len(frame)
            if size >= _SLICE:
                await self._flush(b"".join(frames))
                frames, size = [], 0
        if frames:
            await self._flush(b"".join(frames))

    async def _flush(self, data: bytes) -> None:
        connection = self._connection
        if connection.full:
            await connection.drain()
        if not connection.open:
            raise SocketLost("closed")
        connection.transport.write(data)

    def abort(self) -> None:
        self._connection.transport.abort()


#: A queued message costs this much beside its bytes.
_OVERHEAD = 64


Encode = Callable[[Sequence[Entry]], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class SocketEncoder(Encoder):
    """The encoder of a socket's subscription: one message for each entry, live in text frames.
    `window_bits`: of the compression that was agreed on."""

    window_bits: int | None

    def live(self, entries: Sequence[Entry]) -> bytes | None:
        bits = self.window_bits
        return b"".join([FRAMES.frame(message, bits) for message in self.encode(entries)])


class SteppedSubscription(Protocol):
    """A subscription that the writer calls when it may send more."""

    async def step(self) -> None:
        """Read one page and `put` it; ask to be called again if that was not all."""
        ...

    def unpark(self) -> None:
        """Take no direct writes from now on."""
        ...


class SocketWriter:
    """The outgoing side. `bound`: unsent bytes beyond which live entries are not taken."""

    def __init__(self, transport: AsgiTransport, bound: int) -> None:
        self._transport = transport
        self._bound = bound
        self._messages: list[bytes] = []
        self._size = 0
        self._behind: list[SteppedSubscription] = []
        #: Subscriptions whose live entries are written straight to the connection.
        self._parked: set[SteppedSubscription] = set()
        #: `run` is writing messages.
        self._writing = False
        self._closing: tuple[int, str] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._below_bound = Gate()
        #: The number of writes to the connection; a sign of life for the watchdog.
        self.writes = 0
        self.window_bits = transport.window_bits
        transport.on_full(self.filled)

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
        if self._messages or self._writing or not self._transport.send_now(message):
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

    async def drain(self) -> None:
        """Wait until less than the bound is to be sent. The reader of messages waits here before it
        takes the next one."""
        await self._below_bound.wait()

    @property
    def has_direct_writes(self) -> bool:
        """Whether live entries can ever be written straight to the connection."""
        return self._transport.direct is not None

    @property
    def is_direct(self) -> bool:
        """Whether they may be now: nothing waits to be sent before them."""
        waits = self._messages or self._writing or self._closing is not None
        return not waits and self._transport.ready

    @property
    def write(self) -> Write:
        """Where they are written then."""
        if self._transport.direct is None:
            raise RuntimeError("this server has no way past its `send`")
        return self._transport.direct

    def parked(self, subscription: SteppedSubscription) -> None:
        """Its live entries are written to the connection; `unpark` it before anything waits."""
        self._parked.add(subscription)

    def unparked(self, subscription: SteppedSubscription) -> None:
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
        if sum([len(entry.body) for entry in entries]) > PAGE.bytes:
            return False
        for message in encode(entries):
            self.put(message)
        return True

    def behind(self, subscription: SteppedSubscription) -> None:
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
        self._below_bound.set()
        self._wake()

    def lost(self) -> None:
        """The client has left: nothing is sent any more, and `drain` returns."""
        self._messages, self._size = [], 0
        self._closing = self._closing or (1006, "")
        self._behind.clear()
        self.filled()
        self._below_bound.set()

    async def run(self) -> None:
        """Write until closed. Raises SocketLost."""
        while True:
            if self._messages:
                messages, self._messages, self._size = self._messages, [], 0
                self._below_bound.set()
                self._writing = True
                try:
                    await self._transport.write(messages)
                finally:
                    self._writing = False
                self.writes += 1
            elif self._closing is not None:
                await self._transport.close(*self._closing)
                return
            elif self._behind:
                await self._behind.pop(0).step()
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
            self._below_bound.clear()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
