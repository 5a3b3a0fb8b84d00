"""The life of a stream over its connections: connect, read, reconnect, poll. No I/O.

The rules, of which `protocol/resume.yaml` holds the cases:

- The retries start anew with everything that comes through, and with a connection that has
  outlived the silence limit (heartbeats count: an agent may think for long).
- A broken, ended-too-early or silent connection, and an answer of REPEATED, is tried again after
  the back-off, at most `max_retries` times in a row.
- Two attempts in a row that connected but brought nothing before the limit: something on the way
  collects the stream, so it is polled from then on.
"""

from __future__ import annotations

import logging
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from ..errors import ConnectionLost, RateLimited, StreamError
from .actions import (
    Action,
    Answered,
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
from .buffer import StreamBuffer
from .messages import REPEATED, Answer, Request, error_from_answer, seconds, unexpected
from .retry import RetryBudget
from .settings import Settings

#: Silent attempts in a row after which a stream is polled.
MAX_SILENT = 2
#: No heartbeat may stretch the silence limit beyond this, in seconds.
MAX_SILENCE = 600.0

_REFUSED = frozenset({"UNAUTHENTICATED", "FORBIDDEN"})

T = TypeVar("T")

log = logging.getLogger("resonantgenesis")


class Reconnector(ABC, Generic[T]):
    """Ask `next()` what to do, tell `give()` what became of it; see `actions`.

    A subclass makes the requests and reads the data. `_begun` is set once the stream is known to
    exist; a failure after that is the connection's.
    """

    def __init__(
        self,
        settings: Settings,
        buffer: StreamBuffer,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
        begun: bool = False,
    ) -> None:
        self._clock = clock
        self._default_limit = self._limit = settings.timeouts.silence
        self._arrivals = buffer
        self._retries = RetryBudget(settings.max_retries, settings.backoff, rng)
        self._polling = False
        self._silent = 0
        self._opened_at = 0.0
        self._outlived = False
        self._carries = False
        self._begun = begun
        self._started = self._abandoned = False
        self._handle: Callable[[Outcome], Action[T]] = self._on_open
        self._action: Action[T] = self._connect()

    @property
    def started(self) -> bool:
        """Whether the first action was taken."""
        return self._started

    @property
    def opened(self) -> bool:
        """Whether the stream is open: items are ready, or it is being read."""
        return bool(self._arrivals.ready) or isinstance(self._action, Read)

    @property
    def carries(self) -> bool:
        """Whether data or a heartbeat has come over the present connection, or a poll's answer."""
        return self._carries

    @property
    @abstractmethod
    def place(self) -> int | str | None:
        """The position or cursor behind which the next connection goes on; None: not known."""

    def next(self) -> Action[T]:
        """The next action: hand out a ready item, else the action that `give` has to answer."""
        self._started = True
        return self._deliver() if self._arrivals.ready else self._action

    def give(self, outcome: Outcome) -> None:
        """Report the outcome of the action."""
        if self._abandoned:
            return
        try:
            self._action = self._handle(outcome)
        except StreamError as error:
            self._action = self._again(error) if error.retryable else self._finish(error)

    def abandon(self) -> None:
        """End it: nobody reads any more."""
        self._arrivals.ready.clear()
        self._abandoned = True
        self._action = Finish()

    # -- for subclasses -------------------------------------------------------------------------

    @abstractmethod
    def _deliver(self) -> Action[T]:
        """Hand out the oldest ready item."""

    @abstractmethod
    def _stream_request(self) -> Request:
        """The request that opens or reopens the stream from its place."""

    @abstractmethod
    def _poll_request(self) -> Request:
        """The request that polls for the next items, in place of the stream."""

    @abstractmethod
    def _meet(self, headers: Mapping[str, str]) -> None:
        """Check the headers of an open stream. Raises StreamError."""

    @abstractmethod
    def _ended(self) -> Action[T]:
        """The action after the server ended the stream. Raises StreamError."""

    @abstractmethod
    def _polled(self, answer: Answer) -> Action[T] | None:
        """The action after the answer to a poll; None if it is another answer."""

    @abstractmethod
    def _locate(self, error: StreamError) -> None:
        """Write the stream's place into `error`."""

    def _finish(self, error: StreamError | None, *, settled: bool = False) -> Action[T]:
        """The last action; `settled`: there is nothing left to resume."""
        return Finish(error)

    # -- connecting -----------------------------------------------------------------------------

    def _connect(self) -> Action[T]:
        self._carries = False
        if self._polling:
            self._handle = self._on_poll
            return Fetch(self._poll_request())
        self._arrivals.connected()
        self._outlived = False
        self._handle = self._on_open
        return Open(self._stream_request())

    def _on_open(self, outcome: Outcome) -> Action[T]:
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

    # -- reading --------------------------------------------------------------------------------

    def _on_read(self, outcome: Outcome) -> Action[T]:
        match outcome:
            case Received(data):
                return self._received(data)
            case Ended():
                return self._ended()
            case _:
                return self._not_there(outcome)

    def _received(self, data: bytes) -> Action[T]:
        if self._clock() - self._opened_at >= self._limit:
            self._outlived = True
            self._retries.progress()
        before = self._arrivals.fresh
        try:
            self._arrivals.feed(data)
        finally:
            if self._arrivals.fresh > before:
                self._retries.progress()
        self._carries = self._arrivals.carries
        return Finish() if self._arrivals.complete else Read(self._limit)

    def _on_poll(self, outcome: Outcome) -> Action[T]:
        if not isinstance(outcome, Answered):
            return self._not_there(outcome)
        before = self._arrivals.fresh
        try:
            action = self._polled(outcome.answer)
        finally:
            if self._arrivals.fresh > before:
                self._retries.progress()
        if action is None:
            return self._not_there(outcome)
        self._begun = self._carries = True
        self._handle = self._on_wait
        return action

    def _on_wait(self, outcome: Outcome) -> Action[T]:
        if not isinstance(outcome, Waited):
            raise TypeError(f"{type(outcome).__name__} does not follow a wait")
        return self._connect()

    # -- failures -------------------------------------------------------------------------------

    def _not_there(self, outcome: Outcome) -> Action[T]:
        match outcome:
            case Answered(answer):
                return self._refused(answer)
            case Silent():
                return self._silence()
            case Lost():
                lost = outcome.error()
                self._locate(lost)
                raise lost
            case _:
                raise TypeError(f"{type(outcome).__name__} does not follow here")

    def _refused(self, answer: Answer) -> Action[T]:
        success = 200 <= answer.status < 300
        error = unexpected(answer) if success else error_from_answer(answer)
        self._locate(error)
        if success or answer.status in REPEATED or (answer.status == 500 and self._begun):
            return self._again(error)
        return self._finish(error, settled=error.code not in _REFUSED)

    def _silence(self) -> Action[T]:
        if not self._polling:
            useful = self._arrivals.fresh > 0 or self._outlived
            self._silent = 0 if useful else self._silent + 1
            if self._silent >= MAX_SILENT:
                log.info("nothing comes through as a stream; polling from here on")
                self._polling = True
                return self._connect()
        raise self._lost(f"nothing came for {self._limit:g} s")

    def _again(self, error: StreamError) -> Action[T]:
        wait = self._retries.after(error, floor=self._arrivals.retry)
        if wait is None:
            return self._give_up(error)
        self._handle = self._on_wait
        return wait

    def _give_up(self, error: StreamError) -> Action[T]:
        if isinstance(error, ConnectionLost | RateLimited) or not self._begun:
            return self._finish(error)
        lost = self._lost(error.message)
        lost.retry_after, lost.request_id = error.retry_after, error.request_id
        lost.__cause__ = error
        return self._finish(lost)

    def _lost(self, reason: str) -> ConnectionLost:
        lost = ConnectionLost(reason)
        self._locate(lost)
        return lost
