"""Subscriptions to a session's chunks, and the wait for a turn's end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ..feed.subscription import (
    COMPACT_PAGE,
    PAGE,
    Caller,
    StreamGone,
    Subscription,
)
from ..log.base import Entry
from ..model.errors import PositionExpired
from .cache import SessionCache
from .range import (
    ReadFrom,
    SessionRange,
    checked_position,
    expired,
    first_position,
)
from .state import SessionState, TurnState, control_stream


class SessionSubscription(Subscription):
    """A subscription to a session's chunks; made by `open_subscription`. Single use.

    The sink's encoder refuses a batch with a `done`, since the range may end there.
    """

    def __init__(
        self,
        sessions: SessionCache,
        session_id: str,
        state: SessionState,
        start: ReadFrom,
        after: int,
    ) -> None:
        if state.info is not None:
            session_id = state.info.session_id  # one text for all of its viewers
        super().__init__(
            sessions.hub,
            sessions.log,
            session_id,
            after,
            page=COMPACT_PAGE if start.compact else PAGE,
        )
        self.session_id = session_id
        self.state = state
        self.range = SessionRange(start.turn, follow=start.follow, waits=start.waits)
        self._sessions = sessions
        self._has_position = start.after is not None
        #: The position up to which the client was given everything.
        self._shown_up_to = after
        #: Reads the session's records until a queued turn starts.
        self._waiting: Subscription | None = None

    @property
    def turn(self) -> TurnState | None:
        """The turn that the client's answer names."""
        until = self.range.until
        return self.state.current if until is None else self.state.turn(until)

    def announced(self) -> int | None:
        return self._sessions.announced(self.session_id, self.state)

    def stop(self) -> None:
        super().stop()
        if self._waiting is not None:
            self._waiting.gone()

    def close(self) -> None:
        super().close()
        self._stop_waiting()

    async def _begin(self, silence: float) -> bool:
        waits = self.range.until is not None and not self._has_position
        turn = self.turn if waits else None
        if turn is not None and not turn.first:
            if not await self._wait_for_start(turn, silence):
                return self._stopped
            self.position = self._shown_up_to = turn.first - 1
        await super()._begin(silence)
        if await self._sessions.load(self.session_id) is None:
            self.close()  # deleted before it was registered, so `gone` is not called any more
        return True

    async def _wait_for_start(self, turn: TurnState, silence: float) -> bool:
        """Whether a queued turn, asked for by number, got its place within `silence`."""
        if self._waiting is None:
            sessions, stream = self._sessions, control_stream(self.session_id)
            records = Subscription(sessions.hub, sessions.log, stream, self.state.position)
            self._waiting = records.__enter__()
        while not turn.first and not self._stopped:
            try:
                found = await self._waiting.batch(silence)
            except StreamGone:
                self._stopped = True
                break
            self.state.apply(found)
            if not found:
                return False
        self._stop_waiting()
        return not self._stopped

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.__exit__()
            self._waiting = None

    def _is_over(self) -> bool:
        return super()._is_over() or self.range.is_over(self.state, self._shown_up_to)

    async def _shown(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        await self._sessions.keep_up(self.session_id, entries, self.state)
        shown, _ = self.range.cut(await super()._shown(entries))
        if shown:
            self._shown_up_to = max(self._shown_up_to, shown[-1].position)
        return shown

    def expired(self, earliest: int) -> PositionExpired:
        return expired(earliest, self._log.epoch)


async def open_subscription(
    sessions: SessionCache, session_id: str, state: SessionState, start: ReadFrom
) -> SessionSubscription | None:
    """A subscription from this position; None when nothing follows it and nothing is to come.

    Does not suspend when memory holds everything that the reader lacks. Raises InvalidRequest
    beyond the end or for a turn that is not there, PositionExpired for a trimmed position or
    one of another epoch.
    """
    first = first_position(state, start)
    head, earliest = _known_bounds(sessions, session_id, state, start, first) or await _bounds(
        sessions, session_id, first
    )
    # A turn may have ended since the log was read. The live state then says that nothing is to
    # come, and the older page that nothing is there.
    head = max(head, state.told)
    after = checked_position(
        state, start, first, head=head, earliest=earliest, epoch=sessions.log.epoch
    )
    subscription = SessionSubscription(sessions, session_id, state, start, after)
    return None if subscription.range.is_empty(state, after, head) else subscription


def _known_bounds(
    sessions: SessionCache, session_id: str, state: SessionState, start: ReadFrom, after: int
) -> tuple[int, int] | None:
    """The session's head, and a position that is kept, if memory has all that the reader lacks."""
    head = sessions.announced(session_id, state)
    if head is None or start.epoch not in {None, sessions.log.epoch}:
        return None
    if SessionRange(start.turn, follow=start.follow, waits=start.waits).is_over(state, head):
        return None  # nothing live is to come, and the log may have been trimmed since
    if after == head or sessions.hub.recent(session_id, after, 1):
        return head, after + 1
    return None


async def _bounds(sessions: SessionCache, session_id: str, after: int) -> tuple[int, int]:
    """The session's head and its earliest position. Raises SessionNotFound."""
    page = await sessions.log.read(session_id, after, limit=1)
    if page.info is None:
        await sessions.check_kept(session_id)
        return 0, 1
    return page.info.head, page.info.earliest


async def wait_over(
    sessions: SessionCache,
    session_id: str,
    state: SessionState,
    turn: TurnState,
    seconds: float,
    caller: Caller | None = None,
    *,
    or_waits: bool = False,
) -> bool:
    """Whether the turn ended within `seconds`, or asks with `or_waits`; `caller` waits for it
    meanwhile."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    stream = control_stream(session_id)
    records = Subscription(sessions.hub, sessions.log, stream, state.position, caller=caller)
    with records:
        if await sessions.load(session_id) is None:
            return False  # deleted before it was registered, so `gone` is not called any more
        while not turn.last and not (or_waits and turn.status == "waiting"):
            left = deadline - loop.time()
            if left <= 0:
                return False
            try:
                state.apply(await records.batch(left))
            except StreamGone:
                return False
    return True
