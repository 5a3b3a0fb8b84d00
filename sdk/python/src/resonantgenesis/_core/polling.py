"""Polling in place of a stream: which request is next, and what its answer means."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ConnectionLost
from .actions import Finish, Wait
from .buffer import ChunkBuffer
from .messages import Answer, Request, error_from_answer
from .progress import first_position, position_of
from .stream_plan import StreamPlan

#: Seconds between polls that find something: 240 a minute, well below the usual 600 per key.
PACE = 0.25


class Poller:
    """Names the session and the place first, where they are not known, then reads on from there."""

    def __init__(
        self, plan: StreamPlan, buffer: ChunkBuffer, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._plan = plan
        self._buffer = buffer
        self._clock = clock
        self._turn_start: TurnStart | None = None
        self._after = 0
        self._asked_at = 0.0
        self._over = False
        self._read: Callable[[Mapping[str, Any]], Wait | Finish | None] = self._polled

    def request(self) -> Request:
        """The next request."""
        resume_point = self._plan.resume_point
        if resume_point.session_id is None or (
            self._plan.body is not None and not resume_point.turn
        ):
            self._read = self._named
            return self._plan.detached()
        if self._turn_start is None:
            known = self._buffer.last is not None
            turn = self._plan.target or resume_point.turn
            if not known and turn is None:
                self._read = self._shown
                return self._plan.snapshot()
            self._turn_start = TurnStart(None if known else turn)
        if self._buffer.last is not None:
            # Not what was polled last: after a gap the same place is asked for again.
            self._after = self._buffer.last
        self._read = self._polled
        self._asked_at = self._clock()
        return self._plan.poll(self._after, wait=not self._over)

    def answer(self, answer: Answer) -> Wait | Finish | None:
        """What follows from an answer; None if it is not the one asked for."""
        if 200 <= answer.status < 300:
            return self._read(answer.object())
        if self._turn_start is not None and not self._turn_start.found:
            # Before the turn's start is found, what was trimmed is not ours: go on behind it.
            earliest = error_from_answer(answer).details.get("earliest")
            if isinstance(earliest, int) and earliest - 1 > self._after:
                self._after = earliest - 1
                return Wait(0.0)
        return None

    def _named(self, body: Mapping[str, Any]) -> Wait | None:
        session_id, turn = body.get("session_id"), body.get("turn")
        if not isinstance(session_id, str) or not isinstance(turn, int):
            return None
        self._plan.resume_point.session_id, self._plan.resume_point.turn = session_id, turn
        return Wait(0.0)

    def _shown(self, body: Mapping[str, Any]) -> Wait | None:
        if not body:
            return None
        self._turn_start = TurnStart(_newest_turn(body))
        return Wait(0.0)

    def _polled(self, body: Mapping[str, Any]) -> Wait | Finish | None:
        events = body.get("events")
        if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
            return None
        for raw in events:
            self._take(raw)
            if self._buffer.complete:
                return Finish()
        over = body.get("done") is True and not self._plan.follow
        if over and not events:
            self._plan.resume_point.settled = True
            return Finish()
        # What is over needs one more look, for there may be more pages, but no waiting.
        self._over = over
        return Wait(max(0.0, PACE - (self._clock() - self._asked_at)))

    def _take(self, raw: dict[str, Any]) -> None:
        position = position_of(raw)
        if position is None:
            return
        before, self._after = self._after, max(self._after, position)
        if self._turn_start is None or self._turn_start.found:
            self._buffer.take(raw, position)
        elif first_position(raw, position) > before + 1:
            # What is missing may be the very entry that tells where the turn begins.
            self._after = before
            raise ConnectionLost(f"chunks before position {position} are missing")
        elif self._turn_start.passes(raw):
            self._buffer.take(raw, position)
        elif self._turn_start.found:
            # The end of the turn before it: what follows must be its very next.
            self._buffer.begin(position)


class TurnStart:
    """Leaves out what stands in the log before a turn, for a stream that knows only its number.

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


def _newest_turn(session: Mapping[str, Any]) -> int | None:
    """The number of a session's newest turn, as its snapshot tells it."""
    for key in ("turn", "turns"):
        value = session.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None
