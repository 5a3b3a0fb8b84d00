"""`client.realtime()`: one socket for any number of channels and sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Unpack

from .._core.event_request import Filters, OnExpired, Patterns, Place, Wanted, place_of
from .._core.execute import StreamOptions, execution
from .._core.messages import segment
from .._core.settings import Settings
from .._process.ownership import Owned, leave
from .._process.reach import Reach
from ..errors import ConnectionLost
from .consumers import MAX_ITEMS, ChunkFeed, EventFeed
from .credential import Credential, GetToken
from .runner import Runner
from .state import Outcome, RealtimeState
from .streams import RealtimeStream, RealtimeSubscription
from .websocket import Compression

Context = str | Mapping[str, Any] | None


class Realtime(Owned):
    """One socket, renewed for as long as that takes; use it as `async with`.

    After a cut, a silence, or a restart of the server it comes back after a back-off with full
    jitter (above what the server asked for) and goes on from the last cursors and positions: no
    gap, no duplicate. `max_retries` sockets in a row that bring nothing end it, for all who read.

    Each consumer has a buffer of `buffer_size` items. When one is full, the server is told to
    stop sending to it, and asked to go on from the place reached once most of it has been taken:
    a slow consumer loses nothing and holds up nobody.
    """

    def __init__(
        self,
        settings: Settings,
        reach: Reach,
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
        self._runner = Runner(
            settings,
            Credential(settings.api_key, get_token, settings.timeouts.connect),
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            compression=compression,
            reach=reach,
        )
        self._task: asyncio.Task[None] | None = None

    # -- what it is for -------------------------------------------------------------------------

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
        feed = EventFeed(
            names, Wanted.of(events, filters), place_of(since), on_expired, self._buffer_size
        )
        self._check_running()
        return await RealtimeSubscription(self, feed).__aenter__()

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
            ChunkFeed(
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
        """Starts a turn when iterated, once, and streams its chunks; nothing to await.

        Whatever happens to the socket, an Idempotency-Key names the turn, so that an execute
        whose answer was lost never starts a second one. Raises ValueError for `resume_from`: take
        a stream up again with `session()`.
        """
        made = execution(agent_id, goal, context, None, options)
        if made.resume_from:
            raise ValueError("resume_from: use session(session_id, resume_from=…)")
        return self._stream(
            ChunkFeed(
                body=made.body(session_id),
                key=made.idempotency_key,
                compact=made.compact,
                raise_on_error=made.raise_on_error,
                max_items=self._buffer_size,
            )
        )

    async def unsubscribe(self, subscription: RealtimeSubscription) -> None:
        """Ends a subscription; the same as its own `unsubscribe`."""
        await subscription.unsubscribe()

    async def cancel(self, session_id: str, *, turn: int | None = None) -> None:
        """Cancels what runs or waits in a session, or only `turn`. Raises StreamError."""
        self._check_running()
        message = {"type": "cancel", "session_id": session_id}
        await self._answer(self.state.request(message | ({"turn": turn} if turn else {})))

    # -- life -----------------------------------------------------------------------------------

    async def __aenter__(self) -> Realtime:
        """Connects. Raises StreamError when that fails for good."""
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
        """Closes the socket; whoever still reads gets ConnectionLost, turns go on. Harmless if
        repeated."""
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
        """Of interest to its streams only."""
        return self._runner.state

    def nudge(self) -> None:
        """There may be something to send."""
        self._runner.nudge()

    def __repr__(self) -> str:
        state = "over" if self.state.error else "open" if self._runner.linked else "not connected"
        return f"<{type(self).__name__} {self._runner.url} {state}>"

    # -- inside ---------------------------------------------------------------------------------

    def _stream(self, feed: ChunkFeed) -> RealtimeStream:
        self._check_running()
        return RealtimeStream(self, feed)

    async def _answer(self, outcome: Outcome) -> None:
        there = asyncio.Event()
        outcome.wake = there.set
        self.nudge()
        if not outcome.there:
            await there.wait()
        if outcome.error is not None:
            raise outcome.error

    def _check_running(self) -> None:
        if self.inherited:
            raise RuntimeError("this socket is another process's: open one with client.realtime()")
        if self._task is None:
            raise RuntimeError("use it inside `async with client.realtime() as rt:`")
