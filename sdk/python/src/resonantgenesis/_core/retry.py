"""The retry budget: how often in a row, and how long before each."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import StreamError
from .actions import Wait

Random = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Backoff:
    """`base` and `cap` are in seconds; the ceiling doubles from `base` up to `cap`.

    The jitter is full, so that the viewers a restart cut off do not all come back at once.
    """

    base: float = 0.5
    cap: float = 8.0

    def delay(self, failures: int, *, floor: float = 0.0, rng: Random = random.random) -> float:
        """Seconds to wait after `failures` (1, 2 …) in a row; at least `floor`.

        What the server asked for is the floor and the jitter comes on top, or all who were told
        the same number would come back in the same moment.
        """
        doublings = min(failures - 1, 32)
        return floor + rng() * min(self.cap, self.base * 2.0**doublings)


#: A server that asks for a longer wait is left to the caller to obey, in seconds.
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
        """Something came through."""
        self._failures = 0

    def after(self, error: StreamError, *, floor: float = 0.0) -> Wait | None:
        """The wait before the next attempt; None when `error` is to be raised instead."""
        asked = error.retry_after or 0.0
        self._failures += 1
        if self._failures > self._limit or asked > MAX_RETRY_AFTER:
            return None
        floor = min(max(floor, asked), MAX_RETRY_AFTER)
        delay = self._backoff.delay(self._failures, floor=floor, rng=self._rng)
        return Wait(delay, reason=error.message)
