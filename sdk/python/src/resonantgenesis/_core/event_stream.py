"""A subscription to platform events as a machine without I/O.

It starts from a cursor. If the caller named no place, the machine asks for one first, so that a
connection that breaks before its first byte loses nothing. A heartbeat is a block with an id
only; it moves the cursor. The rules of connections are in `reconnect`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ConnectionLost, StreamError
from ..models import Event
from .actions import Action, Answered, Emit, Fetch, Outcome, Wait
from .buffer import StreamBuffer, json_object
from .event_plan import EventPlan
from .messages import POLL_PACE, Answer, Request, error_from_answer, error_from_chunk
from .progress import EventBacklog
from .reconnect import Reconnector
from .settings import Settings
from .sse import Frame


class EventBuffer(StreamBuffer):
    """Events, and the cursors of heartbeats."""

    def __init__(self, max_event: int) -> None:
        super().__init__(max_event)
        self.queue = EventBacklog()
        self.ready = self.queue.ready

    def feed(self, data: bytes) -> None:
        """Take the events that `data` completes, and the cursor of a heartbeat."""
        super().feed(data)
        if self._decoder.last_event_id:
            self.queue.reach(self._decoder.last_event_id)

    def take(self, raw: dict[str, Any], cursor: str) -> None:
        """Take one event, unless it came before."""
        self.fresh += 1
        self.queue.add(raw, cursor)

    def gap(self, earliest: object) -> None:
        """Note that the server starts later than requested."""
        self.fresh += 1
        self.queue.gap(earliest)

    def _frame(self, frame: Frame) -> None:
        raw = json_object(frame.data)
        if not frame.own_id:
            if frame.id:  # of a heartbeat before this frame, which may end the connection
                self.queue.reach(frame.id)
            self._aside(frame, raw or {})
        elif raw is None or (frame.event == "message" and "type" not in raw):
            raise ConnectionLost("garbled event")
        else:
            raw.setdefault("type", frame.event)
            raw["cursor"] = frame.id
            self.take(raw, frame.id)

    def _aside(self, frame: Frame, raw: Mapping[str, Any]) -> None:
        # Not an entry of the log: a message about this connection, or newer than this version.
        if frame.event == "error":
            raise error_from_chunk(raw, session_id=None, position=None)
        if frame.event == "gap":
            self.gap(raw.get("earliest"))


class EventStreamMachine(Reconnector[Event]):
    """The machine of a subscription; only an error ends it."""

    def __init__(
        self,
        plan: EventPlan,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._plan = plan
        self._buffer = EventBuffer(settings.max_event)
        # A time starts inclusive, and is asked for again until something has come.
        self._placed = plan.since is not None
        self._asked_at = 0.0
        super().__init__(settings, self._buffer, clock=clock, rng=rng)

    @property
    def cursor(self) -> str | None:
        """The place of the last event handed out, or of a heartbeat behind it."""
        return self._buffer.queue.handed or self._plan.since

    @property
    def place(self) -> str | None:
        """The cursor up to which everything has been received."""
        return self._buffer.queue.cursor or self._plan.since

    @property
    def opened(self) -> bool:
        """Whether events are there or waited for; a poll may take its time, but its place is
        known."""
        return super().opened or self._polling

    def _deliver(self) -> Action[Event]:
        return Emit(self._buffer.queue.pop())

    # -- connecting -----------------------------------------------------------------------------

    def _connect(self) -> Action[Event]:
        if self._placed:
            self._asked_at = self._clock()
            return super()._connect()
        self._handle = self._on_place
        return Fetch(self._plan.now())

    def _on_place(self, outcome: Outcome) -> Action[Event]:
        cursor = None
        if isinstance(outcome, Answered) and outcome.answer.status == 200:
            cursor = outcome.answer.object().get("next_cursor")
        if not isinstance(cursor, str):
            return self._not_there(outcome)
        self._buffer.queue.start(cursor)
        self._placed = True
        return self._connect()

    def _stream_request(self) -> Request:
        return self._plan.open(self._buffer.queue.cursor)

    def _poll_request(self) -> Request:
        return self._plan.poll(self._buffer.queue.cursor)

    def _meet(self, headers: Mapping[str, str]) -> None:
        """The cursor carries the epoch; nothing to compare."""

    def _ended(self) -> Action[Event]:
        raise self._lost("the stream ended; a subscription does not")

    def _polled(self, answer: Answer) -> Action[Event] | None:
        if answer.status == 410 and self._plan.on_expired == "earliest":
            earliest = error_from_answer(answer).details.get("earliest")
            if not isinstance(earliest, str) or earliest == self._buffer.queue.cursor:
                return None
            self._buffer.gap(earliest)
            return Wait(0.0)
        body = answer.object()
        events, cursor = body.get("events"), body.get("next_cursor")
        if answer.status != 200 or not isinstance(events, list) or not isinstance(cursor, str):
            return None
        for raw in events:
            self._buffer.take(raw, str(raw.get("cursor") or cursor))
        self._buffer.queue.reach(cursor)
        more = body.get("has_more") is True
        return Wait(0.0 if more else max(0.0, POLL_PACE - (self._clock() - self._asked_at)))

    def _locate(self, error: StreamError) -> None:
        if self.cursor is not None:
            error.details.setdefault("cursor", self.cursor)
