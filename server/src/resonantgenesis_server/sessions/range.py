"""Reading a session: where a stream starts, what it says, when it ends. For every transport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from ..feed.subscription import (
    PAGE_BYTES,
    PAGE_ENTRIES,
    Caller,
    Follower,
    Parking,
    PlaceExpired,
    StreamGone,
)
from ..log.base import Entry
from ..model.errors import InvalidRequest, PositionExpired
from .cache import take_in
from .state import SessionState, TurnState, control_stream
from .supervisor import Supervisor

#: A compact reader's pages: large, so that a gap of 10,000 chunks becomes one.
_COMPACT_ENTRIES, _COMPACT_BYTES = 20_000, 2 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a session's log a reader stands, and what it wants to see.

    `after`: it has everything up to there; None: from the start of the running, else the last
    turn (with `turn`: of that one). `turn`: ends after that turn. `follow`: never ends.
    """

    after: int | None = None
    turn: int | None = None
    follow: bool = False
    compact: bool = False
    epoch: str | None = None


class View(Parking):
    """One reader's way through a session; made by `open_view`. Single use. The form of its sink
    refuses what has a `done`: whether the view ends with that, it sees itself."""

    def __init__(
        self, supervisor: Supervisor, session_id: str, state: SessionState, place: Place, after: int
    ) -> None:
        super().__init__()
        #: Who waits for what it says, where that is more than whether it is open.
        self.caller: Caller | None = None
        self.session_id = session_id
        self.state = state
        #: The turn whose `done` ends the view, once known.
        self.until: TurnState | None = None
        self._supervisor = supervisor
        self._place = place
        self._after = after
        if place.turn is not None:
            self.until = state.turn(place.turn)

    @property
    def turn(self) -> TurnState | None:
        """The turn a viewer is told it sees."""
        return self.until or self.state.current

    def is_empty(self, head: int) -> bool:
        """Whether nothing follows the reader's place and nothing is to come."""
        if self._place.follow or self._after < head:
            return self.until is not None and self._is_over(self._after)
        return not self.state.open_turns or (self.until is not None and self._is_over(self._after))

    def start_at_once(self) -> list[Entry] | None:
        """What the reader lacks, if that is in memory and only live chunks are to follow: then it
        can `park` once it has been told. None: `batches` must be asked, and nothing has
        happened."""
        if self._sink is None or self._place.compact or (self.until and not self.until.first):
            return None
        follower = self._enter()
        found = follower.pull_recent(_announced(self._supervisor, self.session_id, self.state))
        if found is not None:
            after = found[-1].position if found else self._after
            ahead = any(entry.kind == "done" and entry.position > self.state.end for entry in found)
            if not ahead and not self._is_over(after):
                self._follower, self._after = follower, after
                return found
        follower.__exit__()
        return None

    async def batches(self, silence: float) -> AsyncGenerator[list[Entry], None]:
        """The chunks, in order, each once; an empty list after every `silence` seconds without.

        Ends as the place says, or when the session is deleted. Raises PositionExpired when the
        reader is so slow that its place is trimmed, and the log's LogUnavailable.
        """
        if self._follower is None:
            async for _ in self._wait_for_start(silence):
                yield []
        follower = self._follower
        self.parked = False
        if follower is None:
            follower = self._follower = self._enter()
            if await self._supervisor.states.load(self.session_id) is None:
                self.close()  # deleted before we were registered, so nobody would tell us
        try:
            while not self._stopped and not self._is_over(self._after):
                if self.park():
                    return
                entries = await follower.batch(silence)
                if entries:
                    await self._keep_up(entries)
                    entries = self._up_to_end(entries)
                    self._after = entries[-1].position
                yield entries
        except StreamGone:
            return
        except PlaceExpired as error:
            raise expired(error.earliest, self._supervisor.log.epoch) from error
        finally:
            if not self.parked:
                self.close()

    def _enter(self) -> Follower:
        large = self._place.compact
        follower = Follower(
            self._supervisor.hub,
            self._supervisor.log,
            self.session_id,
            self._after,
            page_entries=_COMPACT_ENTRIES if large else PAGE_ENTRIES,
            page_bytes=_COMPACT_BYTES if large else PAGE_BYTES,
            caller=self.caller,
        )
        return follower.__enter__()

    async def _wait_for_start(self, silence: float) -> AsyncGenerator[None, None]:
        """A queued turn asked for by number has no place yet; yields after each silence."""
        turn = self.until
        if turn is None or turn.first or self._place.after is not None:
            return
        supervisor = self._supervisor
        stream = control_stream(self.session_id)
        after = self.state.position
        with Follower(supervisor.hub, supervisor.log, stream, after) as self._follower:
            while not turn.first and not self._stopped:
                try:
                    records = await self._follower.batch(silence)
                    self.state.apply(records)
                    if not records:
                        yield
                except StreamGone:
                    self._stopped = True
                    return
        self._follower = None
        self._after = turn.first - 1

    def _is_over(self, position: int) -> bool:
        if self._place.follow:
            return False
        if self.until is None:
            # Which turn runs or waits last is asked when the reader has caught up.
            last = self.state.turns[-1] if self.state.turns else None
            if last is None or position < self.state.end:
                return False
            self.until = last
        return 0 < self.until.last <= position

    async def _keep_up(self, entries: list[Entry]) -> None:
        """Entries that were read can be ahead of their announcement: whoever has seen a `done`
        must find the turn ended, whatever it asks next."""
        end = self.state.end
        if any(entry.kind == "done" and entry.position > end for entry in entries):
            await take_in(self._supervisor.log, self.session_id, self.state)

    def _up_to_end(self, entries: list[Entry]) -> list[Entry]:
        """Leaves out what follows the turn that the view ends with."""
        last = self.until.last if self.until is not None else 0
        if self._place.follow or not last or entries[-1].position <= last:
            return entries
        return [entry for entry in entries if entry.position <= last]


def view_at_once(
    supervisor: Supervisor, session_id: str, state: SessionState, place: Place
) -> View | None:
    """`open_view`, for a session that others are reading or that is quiet: nothing is read from
    the log. None where that would be needed, or where `open_view` has to say why there is no
    view."""
    head = _announced(supervisor, session_id, state)
    after = _first(state, place)
    if head is None or after > head or place.epoch not in {None, supervisor.log.epoch}:
        return None
    if place.turn is not None and state.turn(place.turn) is None:
        return None
    view = View(supervisor, session_id, state, place, after)
    return None if view.is_empty(head) else view


def _announced(supervisor: Supervisor, session_id: str, state: SessionState) -> int | None:
    """The last position that was announced, if that is in memory."""
    head = supervisor.hub.head(session_id)
    if head:
        return head
    if state.running is not None:
        return supervisor.announced(session_id)
    return state.end  # every chunk is of a turn, and what was announced of those has ended


def _first(state: SessionState, place: Place) -> int:
    """The position to read after."""
    if place.after is not None:
        return place.after
    turn = state.current if place.turn is None else state.turn(place.turn)
    return 0 if turn is None or not turn.first else turn.first - 1


async def open_view(
    supervisor: Supervisor, session_id: str, state: SessionState, place: Place
) -> View | None:
    """A view from this place; None when nothing follows it and nothing is to come.

    Raises InvalidRequest beyond the end or for a turn that is not there, PositionExpired for a
    trimmed place or one of another epoch.
    """
    epoch = supervisor.log.epoch
    if place.turn is not None and state.turn(place.turn) is None:
        count = len(state.turns)
        has = "one turn" if count == 1 else f"{count or 'no'} turns"
        raise InvalidRequest.field("turn", f"the session has {has}")
    turn = state.current if place.turn is None else state.turn(place.turn)
    after = _first(state, place)
    page = await supervisor.log.read(session_id, after, limit=1)
    if page.info is None:
        await supervisor.check_there(session_id)
    head, earliest = (page.info.head, page.info.earliest) if page.info else (0, 1)
    # A turn may have ended since the page was read; the state, being live, would say that nothing
    # is to come, and the page that nothing is there.
    head = max(head, state.end)
    if place.epoch not in {None, epoch}:
        raise PositionExpired(
            "the server's history has changed since, so positions from before mean nothing;"
            f" start anew, at {earliest} the earliest",
            details={"earliest": earliest, "epoch": epoch},
        )
    if after > head:
        raise InvalidRequest.field("resume_from", f"the session ends at {head}")
    if after + 1 < earliest:
        # A turn that waits has no place yet, which is not one that is gone.
        if place.after is not None or (place.turn is not None and turn is not None and turn.first):
            raise expired(earliest, epoch)
        after = earliest - 1
    view = View(supervisor, session_id, state, place, after)
    return None if view.is_empty(head) else view


def expired(earliest: int, epoch: str) -> PositionExpired:
    return PositionExpired(
        f"this position is no longer kept; the earliest is {earliest}",
        details={"earliest": earliest, "epoch": epoch},
    )


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
    follower = Follower(supervisor.hub, supervisor.log, stream, state.position, caller=caller)
    with follower:
        if await supervisor.states.load(session_id) is None:
            return False  # deleted before we were registered, so nobody would tell us
        while not turn.last:
            left = deadline - loop.time()
            if left <= 0:
                return False
            try:
                state.apply(await follower.batch(left))
            except StreamGone:
                return False
    return True
