"""The limits of a key and of its organization, shared with other nodes where there can be some."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from ..calls import Calls
from ..config.settings import Settings
from ..events.system_events import LimitEvents
from ..log.base import EventLog
from ..sessions.state import SessionState
from ..sessions.turn_limit import TurnLimit
from .limits import RequestLimit, StreamLimit
from .shared_counts import SharedCounts
from .watchdog import StreamWatchdog


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """The limits of PROTOCOL.md, section 9, that are counted per API key and organization.

    `events` and `requests` must be started and closed.
    """

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

    def share(
        self, stack: contextlib.AsyncExitStack, calls: Calls | None, watch: StreamWatchdog
    ) -> None:
        """Share the counts with other nodes, if there can be some, until `stack` is closed."""
        if calls is None:
            return
        counts = SharedCounts(calls)
        self.turns.elsewhere = counts.share("turns", self.turns.above)
        self.streams.elsewhere = counts.share("streams", watch.above)
        if self.requests.is_of_process:
            self.requests.elsewhere = counts.share("requests", self.requests.above)
        counts.start()
        stack.push_async_callback(counts.close)

    def counting(self, changed: Callable[[SessionState], None]) -> Callable[[SessionState], None]:
        """`changed` for a supervisor, which also counts the open turns."""

        def counted(state: SessionState) -> None:
            self.turns.changed(state)
            changed(state)

        return counted
