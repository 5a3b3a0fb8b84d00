"""What callers iterate over on a socket: events of channels, chunks of sessions."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from .._process.ownership import Owned
from ..models import Chunk, Event
from .consumers import ChunkFeed, EventFeed, Feed
from .state import RealtimeState

T = TypeVar("T")


class Host(Protocol):
    """The socket that streams live on."""

    @property
    def state(self) -> RealtimeState:
        """What is to be read, and from where."""
        ...

    def nudge(self) -> None:
        """There may be something to send."""
        ...

    async def cancel(self, session_id: str, *, turn: int | None = None) -> None:
        """Cancels turns."""
        ...


class RealtimeReader(ABC, Owned, Generic[T]):
    """One consumer. Starts when first iterated, or entered with `async with`."""

    def __init__(self, host: Host, feed: Feed[T]) -> None:
        super().__init__()
        self._host = host
        self._feed = feed
        self._changed = asyncio.Event()
        self._started = self._busy = self._looped = self._left = False
        feed.wake = self._changed.set

    def __aiter__(self) -> AsyncIterator[T]:
        """For one loop, which leaves the stream however it ends, as `aclose` does."""
        if self._left or (self._looped and not self._feed.over):
            raise RuntimeError("a loop over this stream was left, which closes it: ask for another")
        self._looped = True
        return self._items()

    async def _items(self) -> AsyncIterator[T]:
        # An iterator of the loop's own: see AsyncReader.
        try:
            while True:
                try:
                    item = await self.__anext__()
                except StopAsyncIteration:
                    return
                yield item
        except GeneratorExit:
            self._left = True
            raise
        finally:
            await self.aclose()

    async def __anext__(self) -> T:
        self._enter_read()
        try:
            return await self._next()
        except StopAsyncIteration:
            raise
        except BaseException:
            # Cancelled from outside, or failed: either way nobody reads on.
            await self.aclose()
            raise
        finally:
            self._busy = False

    async def __aenter__(self) -> Self:
        """Waits until the server has confirmed it, so that nothing from here on is missed."""
        self._start()
        try:
            await self._until(lambda: self._feed.there or self._feed.over)
        except BaseException:
            await self.aclose()
            raise
        if self._feed.error is not None and not self._feed.waiting:
            raise self._feed.error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stops reading; a turn goes on. Harmless if repeated."""
        if self.inherited:
            return
        self._host.state.leave(self._feed)
        self._host.nudge()

    async def _next(self) -> T:
        self._start()
        feed = self._feed
        await self._until(lambda: feed.waiting > 0 or feed.over)
        if feed.waiting:
            item = feed.take()
            self._host.state.taken(feed)
            self._host.nudge()
            return item
        if feed.error is not None:
            raise feed.error
        raise StopAsyncIteration

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._host.state.start(self._feed)
            self._host.nudge()

    async def _until(self, reached: Callable[[], bool]) -> None:
        # Bounded by the socket's own retries: when they are spent, the feed is over.
        while not reached():
            self._changed.clear()
            await self._changed.wait()

    def _enter_read(self) -> None:
        if self.inherited:
            raise RuntimeError("this socket is another process's: open one with client.realtime()")
        if self._busy:
            raise RuntimeError("the stream is already being read by another task")
        self._busy = True

    @abstractmethod
    def _where(self) -> str:
        """The place, for people."""

    def __repr__(self) -> str:
        state = "closed" if self._feed.over else "open" if self._started else "not started"
        return f"<{type(self).__name__} {self._where()} {state}>"


class RealtimeSubscription(RealtimeReader[Event]):
    """Events of channels, in order, each once, over as many sockets as it takes.

    Has no end of its own. Raises StreamError: PositionExpired where what was asked for is no
    longer kept, the server's refusal, or ConnectionLost once the retries are spent.
    """

    def __init__(self, host: Host, feed: EventFeed) -> None:
        super().__init__(host, feed)
        self._events = feed

    @property
    def channels(self) -> tuple[str, ...]:
        """What it is subscribed to."""
        return self._events.channels

    @property
    def cursor(self) -> str | None:
        """Everything up to here has been handed out."""
        return self._events.cursor

    async def unsubscribe(self) -> None:
        """Ends it; what has arrived can still be read."""
        await self.aclose()

    def _where(self) -> str:
        return f"{','.join(self.channels)} cursor={self.cursor}"


class RealtimeStream(RealtimeReader[Chunk]):
    """Chunks of a session, in order, each once, over as many sockets as it takes.

    Of an execute it ends after the turn's `done`; of a session it stays for later turns. Raises
    StreamError: an `error` chunk's own, the server's refusal, or ConnectionLost once the retries
    are spent. Leaving it never cancels the turn; `cancel` does.
    """

    def __init__(self, host: Host, feed: ChunkFeed) -> None:
        super().__init__(host, feed)
        self._chunks = feed

    @property
    def session_id(self) -> str | None:
        """The session; None until the server has named it."""
        return self._chunks.session_id

    @property
    def turn(self) -> int | None:
        """The turn that was started; None for a session, and until the server has named it."""
        return self._chunks.turn

    @property
    def position(self) -> int:
        """The position of the last chunk handed out; before the first, where the stream began."""
        return self._chunks.position

    async def cancel(self) -> None:
        """Cancels the turn; the stream goes on to its `done`. One not started just ends."""
        if not self._started:
            await self.aclose()
            return
        await self._until(lambda: self._chunks.session_id is not None or self._chunks.over)
        if self._chunks.session_id is not None:
            await self._host.cancel(self._chunks.session_id, turn=self._chunks.turn)

    def _where(self) -> str:
        return f"session={self.session_id} turn={self.turn} position={self.position}"
