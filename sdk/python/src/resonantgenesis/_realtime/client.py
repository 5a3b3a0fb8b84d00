"""`client.realtime()`: one socket for any number of channels and sessions."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack

from .._core.calls import NOT_GIVEN, answer_fields
from .._core.event_plan import EventFilter, Filters, OnExpired, Patterns
from .._core.execute import StreamOptions, execution
from .._core.messages import Place, new_key, place_of, segment
from .._core.settings import Settings
from .._process.fork import Owned, leave
from .._process.reachability import Reachability
from ..errors import ConnectionLost
from ..models import Chunk, Event
from .consumers import MAX_ITEMS, ChunkConsumer, Consumer, EventConsumer
from .credential import Credential, GetToken
from .requests import PendingReply
from .runner import SocketRunner
from .state import RealtimeState
from .websocket import Compression

Context = str | Mapping[str, Any] | None


class Realtime(Owned):
    """One socket, renewed for as long as that takes; use it as `async with`.

    After a cut, a silence, or a restart of the server it reconnects, after a back-off with full
    jitter above the wait that the server asked for. It goes on from the last cursors and
    positions: no gap, no duplicate. `max_retries` sockets in a row that bring nothing end it, for
    all its streams.

    Each consumer has a buffer of `buffer_size` items. When a buffer is full, the server is told to
    stop sending to it; once most of it has been taken, the server goes on from the place reached.
    A slow consumer loses nothing and holds up nobody.
    """

    def __init__(
        self,
        settings: Settings,
        reach: Reachability,
        *,
        get_token: GetToken | None = None,
        buffer_size: int = MAX_ITEMS,
        ping_interval: float = 30.0,
        ping_timeout: float = 10.0,
        compression: Compression = "deflate",
    ) -> None:
        super().__init__()
        if buffer_size < 1 or not ping_interval > 0 or not ping_timeout > 0:
            raise ValueError("buffer_size, ping_interval and ping_timeout must be more than 0")
        self._buffer_size = buffer_size
        self._runner = SocketRunner(
            settings,
            Credential(settings.api_key, get_token, settings.timeouts.connect),
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            compression=compression,
            reach=reach,
        )
        self._task: asyncio.Task[None] | None = None

    # -- subscriptions and turns ----------------------------------------------------------------

    async def subscribe(
        self,
        channels: str | Sequence[str],
        *,
        events: Patterns = None,
        filters: Filters = None,
        since: Place = None,
        on_expired: OnExpired = "raise",
    ) -> RealtimeSubscription:
        """Events of `channels` from now on, or from `since`; returns once the server has
        confirmed it. Raises StreamError, and ValueError for a channel that this socket is
        subscribed to already."""
        names = (channels,) if isinstance(channels, str) else tuple(dict.fromkeys(channels))
        if not names or any(name.startswith("session:") for name in names):
            raise ValueError("channels: name at least one; for a session's chunks use session()")
        consumer = EventConsumer(
            names, EventFilter.of(events, filters), place_of(since), on_expired, self._buffer_size
        )
        self._check_running()
        return await RealtimeSubscription(self, consumer).__aenter__()

    def session(
        self,
        session_id: str,
        *,
        resume_from: int | None = None,
        compact: bool = False,
        raise_on_error: bool = True,
    ) -> RealtimeStream:
        """A session's chunks from after `resume_from`, else from the start of its newest turn
        (or from where this socket has got, if it reads the session already); stays for later
        turns. Nothing to await."""
        segment(session_id)
        return self._stream(
            ChunkConsumer(
                session_id=session_id,
                resume_from=resume_from,
                compact=compact,
                raise_on_error=raise_on_error,
                max_items=self._buffer_size,
            )
        )

    def execute(
        self,
        agent_id: str,
        goal: str,
        *,
        context: Context = None,
        session_id: str | None = None,
        **options: Unpack[StreamOptions],
    ) -> RealtimeStream:
        """Start a turn when iterated, once, and stream its chunks; nothing to await.

        Whatever happens to the socket, an Idempotency-Key names the turn, so that an execute
        whose answer was lost never starts a second one. Raises ValueError for `resume_from`: take
        a stream up again with `session()`.
        """
        made = execution(agent_id, goal, context, None, options)
        if made.resume_from:
            raise ValueError("resume_from: use session(session_id, resume_from=…)")
        return self._stream(
            ChunkConsumer(
                body=made.body(session_id),
                key=made.idempotency_key,
                compact=made.compact,
                raise_on_error=made.raise_on_error,
                max_items=self._buffer_size,
            )
        )

    async def unsubscribe(self, subscription: RealtimeSubscription) -> None:
        """End a subscription, as its own `unsubscribe` does."""
        await subscription.unsubscribe()

    async def cancel(self, session_id: str, *, turn: int | None = None) -> None:
        """Cancel the turns of a session that run or wait, or only `turn`. Raises StreamError."""
        self._check_running()
        message = {"type": "cancel", "session_id": session_id}
        await self._answer(self.state.request(message | ({"turn": turn} if turn else {})))

    async def send(self, session_id: str, content: str, *, message_id: str | None = None) -> str:
        """Say something to the open turn of a session, and return the id of the message.

        Like `client.sessions.send`. Raises StreamError.
        """
        self._check_running()
        name = message_id or f"msg_{new_key()}"  # sent again over a new socket it is the same one
        message = {"session_id": session_id, "content": content, "message_id": name}
        await self._answer(self.state.request({"type": "message", **message}))
        return name

    async def input(
        self,
        session_id: str,
        call_id: str,
        *,
        approved: bool | None = None,
        payload: Any = NOT_GIVEN,
        reason: str | None = None,
        turn: int | None = None,
    ) -> None:
        """Answer what a turn asks; its chunks go on in the streams of its session.

        Like `client.sessions.input`. Raises StreamError, and ValueError without an answer.
        """
        self._check_running()
        answer = answer_fields(approved, payload, reason, turn)
        message = {"type": "input", "session_id": session_id, "call_id": call_id, **answer}
        await self._answer(self.state.request(message))

    # -- opening and closing --------------------------------------------------------------------

    async def __aenter__(self) -> Realtime:
        """Connect. Raises StreamError when that fails for good."""
        if self._task is not None:
            raise RuntimeError("a realtime() can be entered once")
        self._task = asyncio.create_task(self._runner.run(), name="resonantgenesis realtime")
        try:
            await self._runner.begun.wait()
            if self.state.error is not None:
                raise self.state.error
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the socket: its streams raise ConnectionLost, turns go on. May be repeated."""
        if self.inherited:
            leave(self._task)
            return
        if self.state.error is None:
            self.state.fail(ConnectionLost("the realtime() was closed", retryable=False))
        task = self._task
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()

    @property
    def state(self) -> RealtimeState:
        """The shared state; for this socket's streams only."""
        return self._runner.state

    def nudge(self) -> None:
        """Wake the sender: there may be something to send."""
        self._runner.nudge()

    def __repr__(self) -> str:
        state = (
            "over" if self.state.error else "open" if self._runner.connected else "not connected"
        )
        return f"<{type(self).__name__} {self._runner.url} {state}>"

    # -- internal -------------------------------------------------------------------------------

    def _stream(self, consumer: ChunkConsumer) -> RealtimeStream:
        self._check_running()
        return RealtimeStream(self, consumer)

    async def _answer(self, reply: PendingReply) -> None:
        there = asyncio.Event()
        reply.wake = there.set
        self.nudge()
        if not reply.there:
            await there.wait()
        if reply.error is not None:
            raise reply.error

    def _check_running(self) -> None:
        if self.inherited:
            raise RuntimeError("this socket is another process's: open one with client.realtime()")
        if self._task is None:
            raise RuntimeError("use it inside `async with client.realtime() as rt:`")


T = TypeVar("T")


class RealtimeReader(ABC, Owned, Generic[T]):
    """One consumer. Starts when first iterated, or entered with `async with`."""

    def __init__(self, host: Realtime, consumer: Consumer[T]) -> None:
        super().__init__()
        self._host = host
        self._consumer = consumer
        self._changed = asyncio.Event()
        self._started = self._busy = self._looped = self._left = False
        consumer.wake = self._changed.set

    def __aiter__(self) -> AsyncIterator[T]:
        """Iterate in one loop, which leaves the stream however the loop ends, as `aclose` does."""
        if self._left or (self._looped and not self._consumer.over):
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
        """Wait until the server has confirmed it, so that nothing from now on is missed."""
        self._start()
        try:
            await self._until(lambda: self._consumer.there or self._consumer.over)
        except BaseException:
            await self.aclose()
            raise
        if self._consumer.error is not None and not self._consumer.waiting:
            raise self._consumer.error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop reading; a turn goes on. May be repeated."""
        if self.inherited:
            return
        self._host.state.leave(self._consumer)
        self._host.nudge()

    async def _next(self) -> T:
        self._start()
        consumer = self._consumer
        await self._until(lambda: consumer.waiting > 0 or consumer.over)
        if consumer.waiting:
            item = consumer.take()
            self._host.state.taken(consumer)
            self._host.nudge()
            return item
        if consumer.error is not None:
            raise consumer.error
        raise StopAsyncIteration

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._host.state.start(self._consumer)
            self._host.nudge()

    async def _until(self, reached: Callable[[], bool]) -> None:
        # Bounded by the socket's own retries: when they are spent, the consumer is over.
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
        """The place, for error messages."""

    def __repr__(self) -> str:
        state = "closed" if self._consumer.over else "open" if self._started else "not started"
        return f"<{type(self).__name__} {self._where()} {state}>"


class RealtimeSubscription(RealtimeReader[Event]):
    """Events of channels, in order, each once, over as many sockets as it takes.

    Has no end of its own. Raises StreamError: PositionExpired where what was asked for is no
    longer kept, the server's refusal, or ConnectionLost once the retries are spent.
    """

    def __init__(self, host: Realtime, consumer: EventConsumer) -> None:
        super().__init__(host, consumer)
        self._events = consumer

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels of the subscription."""
        return self._events.channels

    @property
    def cursor(self) -> str | None:
        """The cursor up to which all events are handed out."""
        return self._events.cursor

    async def unsubscribe(self) -> None:
        """End it; events that have arrived can still be read."""
        await self.aclose()

    def _where(self) -> str:
        return f"{','.join(self.channels)} cursor={self.cursor}"


class RealtimeStream(RealtimeReader[Chunk]):
    """Chunks of a session, in order, each once, over as many sockets as it takes.

    Of an execute it ends after the turn's `done`; of a session it stays for later turns. Raises
    StreamError: an `error` chunk's own, the server's refusal, or ConnectionLost once the retries
    are spent. Leaving it never cancels the turn; `cancel` does.
    """

    def __init__(self, host: Realtime, consumer: ChunkConsumer) -> None:
        super().__init__(host, consumer)
        self._chunks = consumer

    @property
    def session_id(self) -> str | None:
        """The session; None until the server has named it."""
        return self._chunks.session_id

    @property
    def turn(self) -> int | None:
        """The turn that this started; None for a session, and until the server has named it."""
        return self._chunks.turn

    @property
    def position(self) -> int:
        """The position of the last chunk handed out; before the first, where the stream began."""
        return self._chunks.position

    async def cancel(self) -> None:
        """Cancel the turn; the stream goes on to its `done`. One that was not started just ends."""
        if not self._started:
            await self.aclose()
            return
        await self._until(lambda: self._chunks.session_id is not None or self._chunks.over)
        if self._chunks.session_id is not None:
            await self._host.cancel(self._chunks.session_id, turn=self._chunks.turn)

    def _where(self) -> str:
        return f"session={self.session_id} turn={self.turn} position={self.position}"
