"""The limits of keys, set up for one server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .config import Settings
from .http.limits import RequestLimit, StreamLimit
from .log.base import EventLog
from .runs.limit_events import LimitEvents
from .runs.state import SessionState
from .runs.turn_limit import TurnLimit


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """Those of PROTOCOL.md, section 9, that are counted per key; `events` and `requests` are to be
    started and closed."""

    events: LimitEvents
    turns: TurnLimit
    requests: RequestLimit
    streams: StreamLimit

    @classmethod
    def of(cls, settings: Settings, log: EventLog) -> KeyLimits:
        """Raises BadStorage."""
        limits, events = settings.limits, LimitEvents(log)
        reached = events.reached
        return cls(
            events,
            TurnLimit(limits.running_turns, reached),
            RequestLimit(
                limits.requests_per_minute, storage=settings.limits_storage, reached=reached
            ),
            StreamLimit(limits.open_streams, reached),
        )

    def counting(self, changed: Callable[[SessionState], None]) -> Callable[[SessionState], None]:
        """`changed` of a supervisor whose turns are counted."""

        def counted(state: SessionState) -> None:
            self.turns.changed(state)
            changed(state)

        return counted
