"""Retries: how often in a row, how long to wait before each, and the callback about them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

from ..errors import StreamError

Random = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Reconnection:
    """The argument of `on_reconnect`: a connection is lost, or there is one again.

    Before each new attempt `connected` is False: `error` says why the last one failed, and the
    next one begins in `delay` seconds. `attempt` counts the failures in a row (1, 2 …) between
    which no chunk or event came. Once data comes over a new connection, `connected` is True, with
    the number of the last attempt, no `error` and a `delay` of 0.0.

    The stream goes on behind `position` (of a session; for a file the number of bytes that are
    there) or `cursor` (of events). Either is None where it is unknown or has no meaning.
    """

    connected: bool
    attempt: int
    delay: float = 0.0
    error: StreamError | None = None
    position: int | None = None
    cursor: str | None = None


#: Called with every Reconnection. An exception that it raises ends the stream.
OnReconnect = Callable[[Reconnection], Any]


class ReconnectNotifier:
    """Calls `on_reconnect` before each new attempt, and once when there is a connection again."""

    def __init__(self, on_reconnect: OnReconnect | None) -> None:
        self._on_reconnect = on_reconnect
        self._attempt = 0

    def waiting(self, wait: Wait, place: int | str | None = None) -> None:
        """Report a wait before an attempt; one without an error is only the pace of polling."""
        if wait.error is not None:
            self._attempt = wait.attempt
            self._call(Reconnection(False, wait.attempt, wait.seconds, wait.error, **_at(place)))

    def connected(self, place: int | str | None = None) -> None:
        """Report that data came; it matters only after a loss."""
        if self._attempt:
            attempt, self._attempt = self._attempt, 0
            self._call(Reconnection(True, attempt, **_at(place)))

    def _call(self, reconnection: Reconnection) -> None:
        if self._on_reconnect is not None:
            self._on_reconnect(reconnection)


class _Place(TypedDict, total=False):
    position: int | None
    cursor: str | None


def _at(place: int | str | None) -> _Place:
    return {"cursor": place} if isinstance(place, str) else {"position": place}


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for so many seconds, then report Waited.

    Before an attempt that follows a failure, `error` is the failure and `attempt` counts the
    failures in a row (1, 2 …). Between two polls there is neither.
    """

    seconds: float
    attempt: int = 0
    error: StreamError | None = None


@dataclass(frozen=True, slots=True)
class Backoff:
    """`base` and `cap` are in seconds; the ceiling doubles from `base` up to `cap`.

    `jitter` is the share of the ceiling that is left to chance: 1.0 is full jitter, so that the
    viewers that a restart cut off do not all come back at once.
    """

    base: float = 0.5
    cap: float = 8.0
    jitter: float = 1.0

    def delay(self, failures: int, *, floor: float = 0.0, rng: Random = random.random) -> float:
        """Seconds to wait after `failures` (1, 2 …) in a row; at least `floor`.

        The floor is the wait that the server asked for. The jitter comes on top of it; without
        jitter all clients that got one number would come back at one moment.
        """
        doublings = min(failures - 1, 32)
        ceiling = min(self.cap, self.base * 2.0**doublings)
        return floor + ceiling * (1.0 - self.jitter + self.jitter * rng())


#: Seconds; if a server asks for a longer wait, the error is raised and the caller decides.
MAX_RETRY_AFTER = 60.0


class RetryBudget:
    """At most `limit` failures in a row; progress starts the count anew."""

    def __init__(
        self, limit: int, backoff: Backoff, rng: Callable[[], float] = random.random
    ) -> None:
        self._limit = limit
        self._backoff = backoff
        self._rng = rng
        self._failures = 0

    def progress(self) -> None:
        """Begin to count anew: a chunk, event or byte came."""
        self._failures = 0

    def after(self, error: StreamError, *, floor: float = 0.0) -> Wait | None:
        """The wait before the next attempt; None when `error` is to be raised instead."""
        asked = error.retry_after or 0.0
        self._failures += 1
        if self._failures > self._limit or asked > MAX_RETRY_AFTER:
            return None
        floor = min(max(floor, asked), MAX_RETRY_AFTER)
        delay = self._backoff.delay(self._failures, floor=floor, rng=self._rng)
        return Wait(delay, attempt=self._failures, error=error)
