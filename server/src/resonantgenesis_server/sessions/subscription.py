"""Subscriptions to a session's chunks, and the wait for a turn's end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from ..feed.subscription import (
    COMPACT_BYTES,
    COMPACT_ENTRIES,
    PAGE_BYTES,
    PAGE_ENTRIES,
    Caller,
    StreamGone,
    Subscription,
)
from ..log.base import Entry
from ..model.errors import PositionExpired
from .cache import take_in
from .range import (
    Place,
    SessionRange,
    checked_position,
    expired,
    first_position,
    last_done,
    turn_at,
)
from .state import SessionState, TurnState, control_stream
from .supervisor import Supervisor


class SessionSubscription(Subscription):
    """One reader's way through a session; made by `open_subscription`. Single use.

    The sink's encoder refuses a batch with a `done`: whether the range ends there is decided here.
    """

    def __init__(
        self, supervisor: Supervisor, session_id: str, state: SessionState, place: Place, after: int
    ) -> None:
        super().__init__(
            supervisor.hub,
            supervisor.log,
            session_id,
            after,
            page_entries=COMPACT_ENTRIES if place.compact else PAGE_ENTRIES,
            page_bytes=COMPACT_BYTES if place.compact else PAGE_BYTES,
        )
        self.session_id = session_id
        self.state = state
        self.range = SessionRange(place.turn, follow=place.follow)
        self._supervisor = supervisor
        self._has_place = place.after is not None
        #: The position up to which the client was given everything.
        self._shown_up_to = after
        #: Reads the session's records while a queued turn has no place yet.
        self._waiting: Subscription | None = None

    @property
    def turn(self) -> TurnState | None:
        """The turn that a client is told it sees."""
        until = self.range.until
        return self.state.current if until is None else self.state.turn(until)

    def announced(self) -> int | None:
        return announced(self._supervisor, self.session_id, self.state)

    def stop(self) -> None:
        super().stop()
        if self._waiting is not None:
            self._waiting.gone()

    async def _begin(self, silence: float) -> AsyncGenerator[None, None]:
        async for _ in self._wait_for_start(silence):
            yield
        async for _ in super()._begin(silence):
            yield
        if await self._supervisor.states.load(self.session_id) is None:
            self.close()  # deleted before it was registered, so nobody would tell it

    async def _wait_for_start(self, silence: float) -> AsyncGenerator[None, None]:
        """A queued turn asked for by number has no place yet; yields after each silence."""
        turn = self.turn
        if self.range.until is None or turn is None or turn.first or self._has_place:
            return
        supervisor, stream = self._supervisor, control_stream(self.session_id)
        records = Subscription(supervisor.hub, supervisor.log, stream, self.state.position)
        with records as self._waiting:
            while not turn.first and not self._stopped:
                try:
                    found = await records.batch(silence)
                except StreamGone:
                    self._stopped = True
                    return
                self.state.apply(found)
                if not found:
                    yield
        self._waiting = None
        self.position = self._shown_up_to = turn.first - 1

    def _is_over(self) -> bool:
        return self.range.is_over(self.state, self._shown_up_to)

    async def _shown(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        await keep_up(self._supervisor, self.session_id, self.state, entries)
        shown, _ = self.range.cut(entries)
        self._shown_up_to = shown[-1].position
        return shown

    def expired(self, earliest: int) -> PositionExpired:
        return expired(earliest, self._log.epoch)


async def open_subscription(
    supervisor: Supervisor, session_id: str, state: SessionState, place: Place
) -> SessionSubscription | None:
    """A subscription from this place; None when nothing follows it and nothing is to come.

    Does not suspend when memory holds everything that the reader lacks. Raises InvalidRequest
    beyond the end or for a turn that is not there, PositionExpired for a trimmed place or one of
    another epoch.
    """
    turn_at(state, place)
    head, earliest = _known_bounds(supervisor, session_id, state, place) or await _bounds(
        supervisor, session_id, first_position(state, place)
    )
    # A turn may have ended since the log was read; the state, being live, would say that nothing
    # is to come, and the log that nothing is there.
    head = max(head, state.end)
    after = checked_position(state, place, head=head, earliest=earliest, epoch=supervisor.log.epoch)
    subscription = SessionSubscription(supervisor, session_id, state, place, after)
    return None if subscription.range.is_empty(state, after, head) else subscription


def _known_bounds(
    supervisor: Supervisor, session_id: str, state: SessionState, place: Place
) -> tuple[int, int] | None:
    """The session's head, and a position that is kept, if memory has all that the reader lacks."""
    head, after = announced(supervisor, session_id, state), first_position(state, place)
    if head is None or place.epoch not in {None, supervisor.log.epoch}:
        return None
    if SessionRange(place.turn, follow=place.follow).is_over(state, head):
        return None  # nothing live is to come, and the log may have been trimmed since
    if after == head or supervisor.hub.recent(session_id, after, 1):
        return head, after + 1
    return None


async def _bounds(supervisor: Supervisor, session_id: str, after: int) -> tuple[int, int]:
    """The session's head and its earliest position. Raises SessionNotFound."""
    page = await supervisor.log.read(session_id, after, limit=1)
    if page.info is None:
        await supervisor.check_there(session_id)
        return 0, 1
    return page.info.head, page.info.earliest


def announced(supervisor: Supervisor, session_id: str, state: SessionState) -> int | None:
    """The last position that was announced, if that is in memory."""
    head = supervisor.hub.head(session_id)
    if head:
        return head
    if state.running is not None:
        return supervisor.announced(session_id)
    return state.end  # every chunk is of a turn, and what was announced of those has ended


async def keep_up(
    supervisor: Supervisor,
    session_id: str,
    state: SessionState | None,
    entries: Sequence[Entry],
) -> None:
    """Bring the state up to entries that were read, before a client sees them.

    Entries read from the log can be ahead of their announcement. A client that has seen a `done`
    must find the turn ended, whatever it asks next. `state` None: the one in use, if any is.
    """
    done = last_done(entries)
    if not done:
        return
    state = state or await supervisor.states.load(session_id)
    if state is not None and done > state.end:
        await take_in(supervisor.log, session_id, state)


async def wait_over(
    supervisor: Supervisor,
    session_id: str,
    state: SessionState,
    turn: TurnState,
    seconds: float,
    caller: Caller | None = None,
) -> bool:
    """Whether the turn was over within `seconds`; `caller` watches it meanwhile."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    stream = control_stream(session_id)
    records = Subscription(supervisor.hub, supervisor.log, stream, state.position, caller=caller)
    with records:
        if await supervisor.states.load(session_id) is None:
            return False  # deleted before it was registered, so nobody would tell it
        while not turn.last:
            left = deadline - loop.time()
            if left <= 0:
                return False
            try:
                state.apply(await records.batch(left))
            except StreamGone:
                return False
    return True
