"""Where a reader of a session starts, what it sees and where it ends: for every transport, without
I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..codec.json import loads
from ..log.base import Entry
from ..model.errors import InvalidRequest, PositionExpired
from .state import SessionState, TurnState


@dataclass(frozen=True, slots=True)
class ReadFrom:
    """Where in a session's log a reader stands, and what it wants to see.

    `after`: the reader has everything up to this position; None: it starts with turn `turn`, else
    with the running turn, else with the last. `turn`: the reading ends after that turn. `follow`:
    it never ends. `waits`: it does not end where the turn waits.
    """

    after: int | None = None
    turn: int | None = None
    follow: bool = False
    compact: bool = False
    waits: bool = False
    epoch: str | None = None


@dataclass(frozen=True, slots=True)
class StartPosition:
    """Read after this position, and show nothing before turn `skip` has ended (0: at once)."""

    after: int
    skip: int = 0


class SessionRange:
    """The part of a session that a reader sees. Single use, by one reader.

    `until`: the number of the turn whose `done` is the end. None: with `follow` there is no end,
    else the end is that of the last turn, once the reader has caught up. `skip`: nothing is shown
    before this turn has ended; 0: everything is shown.

    A reader without `follow` also ends where its turn waits, once it has caught up: nobody knows
    how long it will wait. One that `waits` goes on.
    """

    __slots__ = ("_named", "_waits", "follow", "over", "skip", "until")

    def __init__(
        self,
        until: int | None = None,
        *,
        follow: bool = False,
        skip: int = 0,
        waits: bool = False,
    ) -> None:
        self._waits = waits
        self.until = self._named = until
        self.follow = follow
        self.skip = skip
        #: The reader has passed the end.
        self.over = False

    @property
    def ends(self) -> bool:
        """Whether the next `done` may begin or end the visible part."""
        return self.skip > 0 or not self.follow

    def cut(self, entries: Sequence[Entry]) -> tuple[Sequence[Entry], int | None]:
        """The visible entries, and the last turn that ended in them, for `advance`.

        Changes nothing: a reader whose client takes no entries now can ask again.
        """
        if not self.skip and (self.until is None or self.follow):
            return entries, None
        shown: list[Entry] = []
        ended: int | None = None
        skip = self.skip
        for entry in entries:
            if not skip:
                shown.append(entry)
            if entry.kind != "done":
                continue
            ended = int(loads(entry.body)["turn"])
            if ended >= skip:
                skip = 0
            if self._is_end(ended):
                break
        return shown, ended

    def advance(self, ended: int) -> None:
        """Note that the client has the `done` of this turn."""
        if ended >= self.skip:
            self.skip = 0
        self.over = self._is_end(ended)

    def extend(self, turn: int) -> bool:
        """Move the end to this turn, if it is a later one. Returns whether the end moved."""
        if self.until is None or turn <= self.until:
            return False
        self.until, self.over = turn, False
        return True

    def is_over(self, state: SessionState, position: int) -> bool:
        """Whether nothing follows for a reader that has everything up to `position`."""
        if self.follow:
            return False
        if self._rests(state, position):
            return True
        if self.until is None:
            # The last turn is known only when the reader has caught up.
            if not state.turns or position < state.end:
                return False
            self.until = state.turns[-1].turn
        turn = state.turn(self.until)
        return turn is not None and 0 < turn.last <= position

    def is_empty(self, state: SessionState, position: int, head: int) -> bool:
        """Whether nothing follows a reader's position and nothing is to come."""
        if not self.follow and position >= head and not state.open_turns:
            return True
        if self._rests(state, position):
            return True
        return self.until is not None and self.is_over(state, position)

    def _rests(self, state: SessionState, position: int) -> bool:
        """Whether the reader has all of a turn that waits, and looks for no later one."""
        waiting = state.waiting
        return (
            not (self.follow or self._waits)
            and waiting is not None
            and self._named in {None, waiting.turn}
            and 0 < waiting.told <= position
        )

    def _is_end(self, turn: int) -> bool:
        return self.until is not None and not self.follow and turn >= self.until


def turn_at(state: SessionState, start: ReadFrom) -> TurnState | None:
    """The turn with which a reader begins. Raises InvalidRequest for one that is not there."""
    if start.turn is None:
        return state.current
    turn = state.turn(start.turn)
    if turn is None:
        count = len(state.turns)
        has = "one turn" if count == 1 else f"{count or 'no'} turns"
        raise InvalidRequest.field("turn", f"the session has {has}")
    return turn


def first_position(state: SessionState, start: ReadFrom) -> int:
    """The position to read after. Raises InvalidRequest for a turn that is not there."""
    turn = turn_at(state, start)
    if start.after is not None:
        return start.after
    return 0 if turn is None or not turn.first else turn.first - 1


def checked_position(
    state: SessionState, start: ReadFrom, after: int, *, head: int, earliest: int, epoch: str
) -> int:
    """The position to read after, held against what the log has. `after`: `first_position`.

    Raises InvalidRequest beyond the end, PositionExpired for a trimmed position or one of
    another epoch.
    """
    if start.epoch not in {None, epoch}:
        raise PositionExpired(
            "the server's history has changed since, so positions from before mean nothing;"
            f" start anew, at {earliest} the earliest",
            details={"earliest": earliest, "epoch": epoch},
        )
    if after > head:
        raise InvalidRequest.field("resume_from", f"the session ends at {head}")
    if after + 1 >= earliest:
        return after
    # A turn that waits has no position yet, so its position has not expired.
    turn = turn_at(state, start)
    if start.after is not None or (start.turn is not None and turn is not None and turn.first):
        raise expired(earliest, epoch)
    return earliest - 1


def start_of_turn(state: SessionState, number: int) -> StartPosition:
    """The first chunk of a turn, which may still wait behind others."""
    turn = state.turn(number)
    if turn is not None and turn.first:
        return StartPosition(turn.first - 1)
    begun = next((t for t in reversed(state.turns[: number - 1]) if t.first), None)
    if begun is None:
        return StartPosition(0, number - 1)
    if begun.turn == number - 1 and begun.last:
        return StartPosition(begun.last)
    return StartPosition(begun.first - 1, number - 1)


def expired(earliest: int, epoch: str) -> PositionExpired:
    return PositionExpired(
        f"this position is no longer kept; the earliest is {earliest}",
        details={"earliest": earliest, "epoch": epoch},
    )
