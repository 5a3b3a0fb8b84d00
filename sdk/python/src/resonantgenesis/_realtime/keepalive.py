"""When to ping, when a link is dead, and how fast to send. No I/O; times in seconds."""

from __future__ import annotations

from typing import Literal

#: Below the server's limit for one socket: 100 messages a second, 200 at once (PROTOCOL.md).
SENDS_PER_SECOND, SENDS_AT_ONCE = 80.0, 100


class Keepalive:
    """A ping every `interval`; dead when `patience` after one nothing at all has come."""

    def __init__(self, now: float, *, interval: float, patience: float) -> None:
        self._interval = interval
        self._patience = patience
        self._opened = now
        self._ping_at = now + interval
        self._dead_at: float | None = None

    @property
    def next_at(self) -> float:
        """When `due` must be asked again."""
        return self._ping_at if self._dead_at is None else min(self._ping_at, self._dead_at)

    def heard(self) -> None:
        """Note that a message came."""
        self._dead_at = None

    def due(self, now: float) -> Literal["ping", "dead", None]:
        """The action that is due at `now`."""
        if self._dead_at is not None and now >= self._dead_at:
            return "dead"
        if now < self._ping_at:
            return None
        self._ping_at = now + self._interval
        if self._dead_at is None:
            self._dead_at = now + self._patience
        return "ping"

    def outlived(self, now: float) -> bool:
        """Whether the link has stood long enough to be called good."""
        return now - self._opened >= self._interval


class TokenBucket:
    """A bucket of `burst` items that refills at `rate` a second."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = self._left = burst
        self._at: float | None = None

    def wait(self, now: float) -> float:
        """Take one item; returns the seconds to wait before its use."""
        if self._at is not None:
            self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._rate)
        self._at = now if self._at is None else max(self._at, now)
        self._left -= 1
        return 0.0 if self._left >= 0 else -self._left / self._rate
