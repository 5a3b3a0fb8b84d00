"""Who is told of what the log has committed, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

from . import metrics
from .feed.hub import Hub
from .log.base import Entry
from .sessions.session_list import SessionList
from .sessions.supervisor import Supervisor
from .usage import UsageMeter


class Committed:
    """The log's `on_commit`. Whoever keeps something up to date from the log is told before those
    who read it, so that a reader who asks on what he has read finds it so.

    The log is opened first, so the others are set once they are there.
    """

    def __init__(self, hub: Hub) -> None:
        self.supervisor: Supervisor | None = None
        self.meter: UsageMeter | None = None
        self.mirror: SessionList | None = None
        self._hub = hub

    def __call__(self, stream: str, entries: Sequence[Entry]) -> None:
        # Nearly all are chunks, which none of them asks for.
        kind = metrics.kind_of(stream)
        metrics.appended(kind, len(entries))
        if kind != metrics.CHUNKS:
            if kind == metrics.EVENTS and self.meter is not None:
                self.meter.committed(stream, entries)
            if self.supervisor is not None:
                self.supervisor.committed(stream, entries)
            if self.mirror is not None:
                self.mirror.committed(stream, entries)
        self._hub.publish(stream, entries)
