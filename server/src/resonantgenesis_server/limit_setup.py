"""The limits of keys and organizations, set up for one server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .config.settings import Settings
from .events.system_events import LimitEvents
from .http.limits import RequestLimit, StreamLimit
from .log.base import EventLog
from .sessions.state import SessionState
from .sessions.turn_limit import TurnLimit


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """Those of PROTOCOL.md, section 9, that are counted per key and organization; `events` and
    `requests` are to be started and closed."""

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
            TurnLimit(
                limits.running_turns, reached, of_organization=limits.organization_running_turns
            ),
            RequestLimit(
                limits.requests_per_minute,
                storage=settings.limits_storage,
                reached=reached,
                of_organization=limits.organization_requests_per_minute,
            ),
            StreamLimit(
                limits.open_streams, reached, of_organization=limits.organization_open_streams
            ),
        )

    def counting(self, changed: Callable[[SessionState], None]) -> Callable[[SessionState], None]:
        """`changed` of a supervisor whose turns are counted."""

        def counted(state: SessionState) -> None:
            self.turns.changed(state)
            changed(state)

        return counted
