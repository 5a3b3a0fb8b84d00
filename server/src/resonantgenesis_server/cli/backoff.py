"""When to try again, and when to give up."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from .errors import CliError, NetworkError

#: Told in a person's words what is waited for.
Notice = Callable[[str], None]

#: Seconds of failing after which a broken stream is given up.
PATIENCE = 30.0
_FIRST_DELAY, _LAST_DELAY = 0.2, 3.0
_RETRYABLE = frozenset({"UNAVAILABLE", "RATE_LIMITED"})


def no_notice(_: str) -> None:
    """For those who need not know."""


def is_retryable(error: CliError) -> bool:
    """Whether the same may work a little later."""
    return isinstance(error, NetworkError) or error.code in _RETRYABLE


class BackOff:
    """Waits between attempts, until they have failed for longer than the patience."""

    def __init__(self, patience: float, notice: Notice) -> None:
        """`patience` in seconds; `notice` is told once that it fails, and once that it is over."""
        self._patience = patience
        self._notice = notice
        self._attempts = 0
        self._since = 0.0
        self._told = False

    def worked(self) -> None:
        """The link carries: whatever fails next is a new failure."""
        self._attempts = 0
        if self._told:
            self._told = False
            self._notice("connected again")

    def wait(self, problem: CliError, doing: str) -> None:
        """Raises `problem` when the patience is spent."""
        now = time.monotonic()
        if self._attempts == 0:
            self._since = now
        self._attempts += 1
        delay = _delay(self._attempts, problem.retry_after)
        if now - self._since + delay > self._patience:
            raise problem
        # The first attempt comes at once and is mostly all it takes.
        if self._attempts > 1 and not self._told:
            self._told = True
            self._notice(doing)
        time.sleep(delay)


def _delay(attempt: int, retry_after: float | None) -> float:
    """Exponential with full jitter; never less than the server asked for."""
    longest = min(_LAST_DELAY, _FIRST_DELAY * 2.0 ** min(attempt - 1, 16))
    return max(random.uniform(0, longest), retry_after or 0.0)  # noqa: S311 - spreads load
