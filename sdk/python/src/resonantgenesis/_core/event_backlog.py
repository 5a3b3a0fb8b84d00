"""Events between their arrival and their reader: in order, each once, with the place of both."""

from __future__ import annotations

from collections import deque
from typing import Any

from ..models import Event
from .progress import Recent


class EventQueue:
    """`ready` holds events, and the cursors of heartbeats between them as `{"cursor"}`.

    `cursor`: everything up to there has arrived. `handed`: everything up to there has been taken,
    so that a reader who keeps it and comes back misses nothing that it has not seen.
    """

    def __init__(self) -> None:
        self.ready: deque[dict[str, Any]] = deque()
        self.cursor: str | None = None
        self.handed: str | None = None
        self._recent = Recent()

    def start(self, cursor: str) -> None:
        """Where it begins, once the server has said so."""
        self.cursor = cursor
        if not self.ready:
            self.handed = cursor

    def add(self, raw: dict[str, Any], cursor: str) -> bool:
        """Takes in one event; False if it has come before."""
        if not self._recent.fresh(str(raw.get("id") or "")):
            return False
        self.cursor = cursor
        self.ready.append(raw)
        return True

    def reach(self, cursor: str) -> None:
        """Nothing that is wanted stands before `cursor`."""
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
        """Events are lost that were asked for; what is left begins behind `earliest`."""
        cursor = earliest if isinstance(earliest, str) else ""
        self.cursor = cursor or self.cursor
        self.ready.append({"type": "gap", "cursor": cursor})

    def pop(self) -> Event:
        """The oldest event; there must be one."""
        event = Event(self.ready.popleft())
        self.handed = event.cursor or self.handed
        while self.ready and _is_mark(self.ready[0]):
            self.handed = self.ready.popleft()["cursor"]
        return event


def _is_mark(raw: dict[str, Any]) -> bool:
    return raw.keys() == {"cursor"}
