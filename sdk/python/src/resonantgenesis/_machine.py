"""A stream's life as a machine without I/O: connect, read, recover, poll, end.

The rules, of which `protocol/resume.yaml` holds the cases:

- A chunk is passed on once, in order; anything missing means reading again from the last good
  place. The retries start anew with every chunk, and with a connection that has outlived the
  silence limit (heartbeats count: an agent may think for long).
- A broken, ended-too-early or silent connection, and an answer of REPEATED, is tried again after
  the back-off, at most `max_retries` times in a row.
- Two attempts in a row that connected but brought nothing before the limit: something on the way
  collects the stream, so it is polled from then on.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping

from ._actions import (
    Action,
    Answered,
    Emit,
    Ended,
    Fetch,
    Finish,
    Lost,
    Open,
    Opened,
    Outcome,
    Read,
    Received,
    Silent,
    Waited,
)
from ._answers import REPEATED, error_from_answer, error_from_chunk, unexpected
from ._intake import Intake
from ._plan import StreamPlan
from ._polling import Poller
from ._progress import Mark
from ._retries import Retries
from ._settings import Settings
from ._wire import Answer, seconds
from .errors import ConnectionLost, PositionExpired, RateLimited, StreamError
from .models import Chunk

#: Silent attempts in a row after which a stream is polled.
MAX_SILENT = 2
#: No heartbeat may stretch the silence limit beyond this, in seconds.
MAX_SILENCE = 600.0

_REFUSED = frozenset({"UNAUTHENTICATED", "FORBIDDEN"})

log = logging.getLogger("resonantgenesis")


class StreamMachine:
    """Ask `next()` what to do, tell `give()` what became of it; see `_actions`."""

    def __init__(
        self,
        plan: StreamPlan,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._plan = plan
        self._clock = clock
        self._default_limit = self._limit = settings.timeouts.silence
        self._intake = Intake(plan, settings.max_event)
        self._retries = Retries(settings.max_retries, settings.backoff, rng)
        self._poller: Poller | None = None
        self._silent = 0
        self._opened_at = 0.0
        self._outlived = False
        self._begun = plan.recalled
        self._started = self._abandoned = False
        self._handle: Callable[[Outcome], Action] = self._on_open
        self._action: Action = self._connect()

    @property
    def mark(self) -> Mark:
        """Where the stream stands, as its caller has seen it."""
        return self._plan.mark

    @property
    def started(self) -> bool:
        """Whether anything has been asked of the network."""
        return self._started

    @property
    def opened(self) -> bool:
        """Whether the session is named, and chunks are there or waited for."""
        polling = self._poller is not None and self.mark.session_id is not None
        return bool(self._intake.ready) or polling or isinstance(self._action, Read)

    def next(self) -> Action:
        """What to do now; the same until `give` is called, except for chunks that wait."""
        self._started = True
        return self._deliver() if self._intake.ready else self._action

    def give(self, outcome: Outcome) -> None:
        """What became of the action."""
        if self._abandoned:
            return
        try:
            self._action = self._handle(outcome)
        except StreamError as error:
            self._action = self._again(error) if error.retryable else self._finish(error)

    def abandon(self) -> None:
        """Nobody reads any more; the turn goes on, and the mark says where it was left."""
        self.mark.broken = self._started and not self.mark.settled
        self._intake.ready.clear()
        self._abandoned = True
        self._action = Finish()

    def _deliver(self) -> Action:
        raw, mark = self._intake.ready.popleft(), self.mark
        mark.position = raw["position"]
        if raw.get("type") == "error" and self._plan.raise_on_error:
            # The turn has failed for good: only its `done` would follow.
            self._intake.ready.clear()
            error = error_from_chunk(raw, session_id=mark.session_id, position=mark.position)
            self._action = self._finish(error, settled=True)
            return self._action
        mark.settled = mark.settled or self._plan.ends_with(raw)
        return Emit(Chunk(raw))

    # -- connecting -----------------------------------------------------------------------------

    def _connect(self) -> Action:
        if self._poller is not None:
            self._handle = self._on_poll
            return Fetch(self._poller.request())
        self._intake.connected()
        self._outlived = False
        self._handle = self._on_open
        return Open(self._plan.open(self._intake.last))

    def _on_open(self, outcome: Outcome) -> Action:
        if not isinstance(outcome, Opened):
            return self._not_there(outcome)
        self._meet(outcome.headers)
        self._begun = True
        announced = seconds(outcome.headers.get("x-heartbeat-seconds"))
        # Twice the heartbeat: one may be late, two mean that the link is dead.
        self._limit = min(2 * announced, MAX_SILENCE) if announced else self._default_limit
        self._opened_at = self._clock()
        self._handle = self._on_read
        return Read(self._limit)

    def _meet(self, headers: Mapping[str, str]) -> None:
        """Learns session, turn and epoch; another epoch than before raises PositionExpired."""
        mark = self.mark
        mark.session_id = mark.session_id or headers.get("x-session-id")
        turn = headers.get("x-turn", "")
        if turn.isascii() and turn.isdigit() and (self._plan.body is None or mark.turn is None):
            mark.turn = int(turn)
        epoch = headers.get("x-log-epoch")
        if epoch and mark.epoch and epoch != mark.epoch:
            mark.settled = True
            raise PositionExpired(
                "the server's store was replaced, positions from before mean nothing",
                details={"epoch": epoch},
                session_id=mark.session_id,
                position=mark.position,
            )
        mark.epoch = epoch or mark.epoch

    # -- reading --------------------------------------------------------------------------------

    def _on_read(self, outcome: Outcome) -> Action:
        match outcome:
            case Received(data):
                return self._received(data)
            case Ended():
                return self._ended()
            case _:
                return self._not_there(outcome)

    def _received(self, data: bytes) -> Action:
        if self._clock() - self._opened_at >= self._limit:
            self._outlived = True
            self._retries.progress()
        before = self._intake.fresh
        try:
            self._intake.feed(data)
        finally:
            if self._intake.fresh > before:
                self._retries.progress()
        return Finish() if self._intake.complete else Read(self._limit)

    def _ended(self) -> Action:
        if self._intake.at_done and self._plan.target is None and not self._plan.follow:
            # The server ends a join when nothing is running or queued; one that drains ends it
            # earlier. Asking once more tells which (204), and costs one request.
            return self._connect() if self._intake.fresh else self._finish(None, settled=True)
        raise self._lost("the stream ended before its turn did")

    def _on_poll(self, outcome: Outcome) -> Action:
        if self._poller is None or not isinstance(outcome, Answered):
            return self._not_there(outcome)
        before = self._intake.last
        self._meet(outcome.answer.headers)
        try:
            action = self._poller.answer(outcome.answer)
        finally:
            if self._intake.last != before:
                self._retries.progress()
        if action is None:
            return self._not_there(outcome)
        self._begun = True
        self._handle = self._on_wait
        return action

    def _on_wait(self, outcome: Outcome) -> Action:
        if not isinstance(outcome, Waited):
            raise TypeError(f"{type(outcome).__name__} does not follow a wait")
        return self._connect()

    # -- when it goes wrong ---------------------------------------------------------------------

    def _not_there(self, outcome: Outcome) -> Action:
        match outcome:
            case Answered(answer):
                return self._refused(answer)
            case Silent():
                return self._silence()
            case Lost(reason):
                raise self._lost(reason)
            case _:
                raise TypeError(f"{type(outcome).__name__} does not follow here")

    def _refused(self, answer: Answer) -> Action:
        if answer.status == 204:
            return self._finish(None, settled=True)
        success = 200 <= answer.status < 300
        error = unexpected(answer) if success else error_from_answer(answer)
        error.session_id, error.position = self.mark.session_id, self.mark.position
        if success or answer.status in REPEATED or (answer.status == 500 and self._begun):
            return self._again(error)
        return self._finish(error, settled=error.code not in _REFUSED)

    def _silence(self) -> Action:
        if self._poller is None:
            useful = self._intake.fresh > 0 or self._outlived
            self._silent = 0 if useful else self._silent + 1
            if self._silent >= MAX_SILENT:
                log.info("nothing comes through as a stream; polling from here on")
                self._poller = Poller(self._plan, self._intake, self._clock)
                return self._connect()
        raise self._lost(f"nothing came for {self._limit:g} s")

    def _again(self, error: StreamError) -> Action:
        wait = self._retries.after(error, floor=self._intake.retry)
        if wait is None:
            return self._give_up(error)
        self._handle = self._on_wait
        return wait

    def _give_up(self, error: StreamError) -> Action:
        if isinstance(error, ConnectionLost | RateLimited) or not self._begun:
            return self._finish(error)
        lost = self._lost(error.message)
        lost.retry_after, lost.request_id = error.retry_after, error.request_id
        lost.__cause__ = error
        return self._finish(lost)

    def _finish(self, error: StreamError | None, *, settled: bool = False) -> Action:
        self.mark.settled = self.mark.settled or settled
        self.mark.broken = not self.mark.settled
        return Finish(error)

    def _lost(self, reason: str) -> ConnectionLost:
        return ConnectionLost(reason, session_id=self.mark.session_id, position=self._intake.last)
