"""The place of a stream in its log: order, gaps and duplicates of chunks and events."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..models import Event


class Verdict(enum.Enum):
    """Pass a chunk on, drop it, or read again from the last good position."""

    NEW = "new"
    SEEN = "seen"
    GAP = "gap"


@dataclass(slots=True)
class ResumePoint:
    """The data with which a stream is found again after it broke off.

    `position` is the position of the last chunk handed to the caller (0: none yet). `settled`:
    there is nothing left to resume. `broken`: nobody reads the stream any more.
    """

    idempotency_key: str | None = None
    session_id: str | None = None
    turn: int | None = None
    epoch: str | None = None
    position: int = 0
    settled: bool = False
    broken: bool = False


class ChunkSequence:
    """Checks that chunks come in the log's order, without gaps, each once.

    `last` is the position up to which everything has been received; None while the start is
    not known, then the first chunk that arrives sets it.
    """

    def __init__(self, last: int | None) -> None:
        self.last = last

    def take(self, raw: Mapping[str, Any], position: int) -> Verdict:
        """The verdict on a chunk; NEW moves `last` to its position."""
        first = first_position(raw, position)
        if self.last is not None:
            if position <= self.last:
                return Verdict.SEEN
            # A merged chunk that begins before our place holds text that was passed on already,
            # and cannot be cut; the log has the parts, so reading again from our place helps.
            if first != self.last + 1:
                return Verdict.GAP
        self.last = position
        return Verdict.NEW


def first_position(raw: Mapping[str, Any], position: int) -> int:
    """Where a chunk begins: `from` for merged ones, else its own position."""
    first = raw.get("from")
    return first if isinstance(first, int) and 0 < first <= position else position


def position_of(raw: Mapping[str, Any], frame_id: str = "") -> int | None:
    """A chunk's position from its data, else from its frame's own id; None if it is no chunk."""
    position = raw.get("position")
    if isinstance(position, int) and not isinstance(position, bool) and position > 0:
        return position
    if frame_id.isascii() and frame_id.isdigit() and len(frame_id) < 19:
        return int(frame_id) or None
    return None


class RecentIds:
    """Remembers the newest `limit` ids to find duplicates."""

    def __init__(self, limit: int = 1024) -> None:
        self._limit = limit
        self._ids: dict[str, None] = {}

    def fresh(self, identity: str) -> bool:
        """Whether an id is new, and remember it. An empty id is always new."""
        if not identity:
            return True
        if identity in self._ids:
            return False
        self._ids[identity] = None
        if len(self._ids) > self._limit:
            del self._ids[next(iter(self._ids))]
        return True


class TurnStart:
    """Skips the entries before a turn, for a stream that knows only the turn's number.

    The log does not tell where a turn begins except by its own entries: the `done` of the turn
    before it, and the first step, which carries the turn's number.
    """

    def __init__(self, turn: int | None) -> None:
        self._turn = turn
        self.found = turn is None or turn <= 1

    def passes(self, raw: Mapping[str, Any]) -> bool:
        """Whether this chunk belongs to the turn or comes after its beginning."""
        turn = raw.get("turn")
        if self.found or self._turn is None:
            return True
        if not isinstance(turn, int):
            return False
        if raw.get("type") == "done" and turn == self._turn - 1:
            self.found = True
            return False
        self.found = turn >= self._turn
        return self.found


class EventBacklog:
    """`ready` holds events, and the cursors of heartbeats between them as `{"cursor"}`.

    `cursor`: everything up to it has arrived. `handed`: everything up to it has been taken; a
    reader who comes back with it misses nothing.
    """

    def __init__(self) -> None:
        self.ready: deque[dict[str, Any]] = deque()
        self.cursor: str | None = None
        self.handed: str | None = None
        self._recent = RecentIds()

    def start(self, cursor: str) -> None:
        """Set the first cursor, as the server named it."""
        self.cursor = cursor
        if not self.ready:
            self.handed = cursor

    def add(self, raw: dict[str, Any], cursor: str) -> bool:
        """Add one event; False if it came before."""
        if not self._recent.fresh(str(raw.get("id") or "")):
            return False
        self.cursor = cursor
        self.ready.append(raw)
        return True

    def reach(self, cursor: str) -> None:
        """Move to `cursor`: no event of the subscription stands before it."""
        if cursor == self.cursor:
            return
        self.cursor = cursor
        if not self.ready:
            self.handed = cursor
        elif _is_mark(self.ready[-1]):
            self.ready[-1] = {"cursor": cursor}
        else:
            self.ready.append({"cursor": cursor})

    def gap(self, earliest: object) -> None:
        """Add a `gap`: requested events are lost, and the rest begins behind `earliest`."""
        cursor = earliest if isinstance(earliest, str) else ""
        self.cursor = cursor or self.cursor
        self.ready.append({"type": "gap", "cursor": cursor})

    def pop(self) -> Event:
        """Remove and return the oldest event; there must be one."""
        event = Event(self.ready.popleft())
        self.handed = event.cursor or self.handed
        while self.ready and _is_mark(self.ready[0]):
            self.handed = self.ready.popleft()["cursor"]
        return event


def _is_mark(raw: dict[str, Any]) -> bool:
    return raw.keys() == {"cursor"}
