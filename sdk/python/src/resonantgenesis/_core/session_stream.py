"""A session stream's life as a machine without I/O.

A chunk is passed on once, in order. After a gap the machine reads again from the last good
position. The rules of connections are in `reconnect`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ConnectionLost, InvalidRequest, PositionExpired, StreamError
from ..models import Chunk
from .actions import Action, Emit, Finish, Wait
from .buffer import StreamBuffer, json_object
from .messages import POLL_PACE, Answer, Request, error_from_answer, error_from_chunk
from .progress import ChunkSequence, ResumePoint, TurnStart, Verdict, first_position, position_of
from .reconnect import Reconnector
from .settings import Settings
from .sse import Frame
from .stream_plan import StreamPlan

_EVENTS = frozenset({"message", "tool_call", "tool_result", "step", "error", "done"})
#: Chunks behind which the server ends a stream while the turn waits for answers.
_STOPS = frozenset({"waiting", "input"})


class ChunkBuffer(StreamBuffer):
    """Chunks of a session. `at_done`: the last one was a `done`; `complete`: it was the `done`
    that the plan waits for. `at_stop`: the turn may wait for answers behind the last one."""

    def __init__(self, plan: StreamPlan, max_event: int) -> None:
        super().__init__(max_event)
        self._plan = plan
        self._sequence = ChunkSequence(plan.start)
        self.at_done = self.at_stop = False

    @property
    def last(self) -> int | None:
        """The position up to which everything is received; None if the start is not known yet."""
        return self._sequence.last

    def feed(self, data: bytes) -> None:
        """Take the chunks that `data` completes."""
        try:
            super().feed(data)
        except InvalidRequest as error:
            error.session_id = self._plan.resume_point.session_id
            raise

    def begin(self, position: int) -> None:
        """Expect the chunk right behind `position` first."""
        self._sequence.last = position

    def take(self, raw: dict[str, Any], position: int) -> None:
        """Take one chunk, unless it came before. Raises ConnectionLost for a gap."""
        verdict = self._sequence.take(raw, position)
        if verdict is Verdict.GAP:
            raise self._lost(f"chunks before position {position} are missing")
        if verdict is Verdict.NEW:
            self.fresh += 1
            self.at_done = raw.get("type") == "done"
            self.at_stop = raw.get("type") in _STOPS
            self.complete = self._plan.ends_with(raw)
            self.ready.append(raw)

    def _frame(self, frame: Frame) -> None:
        raw = json_object(frame.data)
        if raw is None:
            if frame.event in _EVENTS:
                raise self._lost("garbled event")
            return
        position = position_of(raw, frame.id if frame.own_id else "")
        if position is None:
            self._aside(frame, raw)
            return
        raw["position"] = position
        raw.setdefault("type", "text" if frame.event == "message" else frame.event)
        self.take(raw, position)

    def _aside(self, frame: Frame, raw: dict[str, Any]) -> None:
        # Not an entry of the log: a value for live viewers, a message about this connection, or
        # newer than this version.
        if frame.event == "data" and raw.get("transient") is True:
            self.ready.append(raw | {"position": self.last or 0})
        if frame.event == "error":
            raise error_from_chunk(
                raw, session_id=self._plan.resume_point.session_id, position=self.last
            )

    def _lost(self, reason: str) -> ConnectionLost:
        return ConnectionLost(
            reason, session_id=self._plan.resume_point.session_id, position=self.last
        )


class Poller:
    """Polls in place of a stream; first asks for session and position if they are not known."""

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
        return self._plan.poll(self._after, wait=not (self._over or self._waits()))

    def answer(self, answer: Answer) -> Wait | Finish | None:
        """The action after an answer; None if it is not the answer to the request."""
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
        if body.get("status") == "waiting" and not events and self._waits():
            self._plan.resume_point.settled = True
            return Finish()
        over = body.get("done") is True and not self._plan.follow
        if over and not events:
            self._plan.resume_point.settled = True
            return Finish()
        # What is over needs one more look, for there may be more pages, but no waiting.
        self._over = over
        return Wait(max(0.0, POLL_PACE - (self._clock() - self._asked_at)))

    def _waits(self) -> bool:
        """Whether nothing follows until somebody answers what the turn asks."""
        return self._buffer.at_stop and not self._plan.follow

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


def _newest_turn(session: Mapping[str, Any]) -> int | None:
    """The number of a session's newest turn, as its snapshot tells it."""
    for key in ("turn", "turns"):
        value = session.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


class SessionStreamMachine(Reconnector[Chunk]):
    """Chunks of one session."""

    def __init__(
        self,
        plan: StreamPlan,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._plan = plan
        self._buffer = ChunkBuffer(plan, settings.max_event)
        self._poller = Poller(plan, self._buffer, clock)
        super().__init__(settings, self._buffer, clock=clock, rng=rng, begun=plan.recalled)

    @property
    def resume_point(self) -> ResumePoint:
        """The stream's place, as its caller has seen it."""
        return self._plan.resume_point

    @property
    def opened(self) -> bool:
        """Whether the session is named, and chunks are there or waited for."""
        return super().opened or (self._polling and self.resume_point.session_id is not None)

    @property
    def place(self) -> int | None:
        """The position up to which everything has been received; None before the first chunk."""
        return self._buffer.last

    def abandon(self) -> None:
        """End it: nobody reads any more. The turn goes on; the resume point keeps the place."""
        self.resume_point.broken = self._started and not self.resume_point.settled
        super().abandon()

    def _deliver(self) -> Action[Chunk]:
        raw, resume_point = self._buffer.ready.popleft(), self.resume_point
        resume_point.position = raw["position"]
        if raw.get("type") == "error" and self._plan.raise_on_error:
            # The turn has failed for good: only its `done` would follow.
            self._buffer.ready.clear()
            error = error_from_chunk(
                raw, session_id=resume_point.session_id, position=resume_point.position
            )
            self._action = self._finish(error, settled=True)
            return self._action
        resume_point.settled = resume_point.settled or self._plan.ends_with(raw)
        return Emit(Chunk(raw))

    def _stream_request(self) -> Request:
        return self._plan.open(self._buffer.last)

    def _poll_request(self) -> Request:
        return self._poller.request()

    def _meet(self, headers: Mapping[str, str]) -> None:
        """Read session, turn and epoch; raises PositionExpired if the epoch has changed."""
        resume_point = self.resume_point
        resume_point.session_id = resume_point.session_id or headers.get("x-session-id")
        turn = headers.get("x-turn", "")
        if (
            turn.isascii()
            and turn.isdigit()
            and (self._plan.body is None or resume_point.turn is None)
        ):
            resume_point.turn = int(turn)
        epoch = headers.get("x-log-epoch")
        if epoch and resume_point.epoch and epoch != resume_point.epoch:
            resume_point.settled = True
            raise PositionExpired(
                "the server's store was replaced: earlier positions mean nothing",
                details={"epoch": epoch},
                session_id=resume_point.session_id,
                position=resume_point.position,
            )
        resume_point.epoch = epoch or resume_point.epoch

    def _ended(self) -> Action[Chunk]:
        if self._buffer.at_done and self._plan.target is None and not self._plan.follow:
            # The server ends a join when nothing is running or queued; one that drains ends it
            # earlier. Asking once more tells which (204), and costs one request.
            return self._connect() if self._buffer.fresh else self._finish(None, settled=True)
        if self._buffer.at_stop and not self._plan.follow:
            # The turn waits, or has just been answered: once more, asking tells which.
            return self._connect() if self._buffer.fresh else self._finish(None, settled=True)
        raise self._lost("the stream ended before its turn did")

    def _polled(self, answer: Answer) -> Action[Chunk] | None:
        self._meet(answer.headers)
        return self._poller.answer(answer)

    def _refused(self, answer: Answer) -> Action[Chunk]:
        if answer.status == 204:
            return self._finish(None, settled=True)
        return super()._refused(answer)

    def _locate(self, error: StreamError) -> None:
        received = isinstance(error, ConnectionLost)
        error.session_id = self.resume_point.session_id
        error.position = self._buffer.last if received else self.resume_point.position

    def _finish(self, error: StreamError | None, *, settled: bool = False) -> Action[Chunk]:
        self.resume_point.settled = self.resume_point.settled or settled
        self.resume_point.broken = not self.resume_point.settled
        return super()._finish(error)
