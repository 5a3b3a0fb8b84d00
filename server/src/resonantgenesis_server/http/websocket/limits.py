"""What one socket may ask and hold; PROTOCOL.md, sections 6 and 9."""

from __future__ import annotations

from dataclasses import dataclass

from ...model.limits import KIB, Limits

#: Sockets whose first message is awaited, at most.
_UNAUTHENTICATED = 200


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """Sizes in bytes, times in seconds."""

    message: int = 256 * KIB
    json_depth: int = 32
    json_values: int = 20_000
    unsent: int = 64 * KIB
    stall: float = 60.0
    subscriptions: int = 100
    #: Sustained; twice as many may come at once. Fragments, pings and pongs count as messages.
    messages_per_second: float = 100.0
    #: That many bad messages within the window end the connection.
    errors: int = 20
    errors_window: float = 10.0
    auth_wait: float = 10.0
    #: Sockets of this process whose first message is still awaited.
    unauthenticated: int = _UNAUTHENTICATED
    #: Executes under way on one socket, and how long its next messages wait for one to end.
    executes: int = 16
    execute_wait: float = 5.0
    #: What those under way have to end once the client has gone.
    finish_wait: float = 30.0
    #: Silence after which a subscription is told its cursor.
    quiet: float = 25.0
    #: How long a client may take to answer a close.
    close_wait: float = 10.0

    @classmethod
    def of(cls, limits: Limits) -> SocketLimits:
        """Those that are settings taken from the server's.

        Sockets that have not said who they are get a quarter of a cap on connections, at most.
        """
        strangers = _UNAUTHENTICATED
        if limits.connections:
            strangers = min(strangers, max(limits.connections // 4, 1))
        return cls(
            unauthenticated=strangers,
            message=limits.socket_message,
            json_depth=limits.json_depth,
            json_values=limits.json_values,
            unsent=limits.unsent,
            stall=limits.stall,
            subscriptions=limits.socket_subscriptions,
            messages_per_second=limits.socket_messages_per_second,
        )


class Allowance:
    """How many frames a socket may send now: grows by the rate, up to a burst of two seconds'.

    Times are of a clock that never goes back, in seconds.
    """

    __slots__ = ("_burst", "_left", "_rate", "_seen")

    def __init__(self, per_second: float, now: float) -> None:
        self._rate = per_second
        self._burst = self._left = 2 * per_second
        self._seen = now

    def take(self, now: float) -> bool:
        """Count a message, if it is allowed."""
        self._grow(now)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def charge(self, now: float, frames: int) -> float:
        """Count frames that have been read. Seconds for which no more may be read: 0 while some
        are left, else until half of the burst is back, since a message may follow them at once."""
        self._grow(now)
        self._left -= frames
        return 0.0 if self._left >= 1 else (self._burst / 2 - self._left) / self._rate

    def _grow(self, now: float) -> None:
        grown = max(0.0, now - self._seen) * self._rate
        self._seen = max(self._seen, now)
        self._left = min(self._burst, self._left + grown)
