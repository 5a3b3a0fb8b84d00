"""Client messages of a socket: their shapes, and one socket's limits (PROTOCOL.md, 6 and 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from ...model.ids import is_id
from ...model.limits import KIB, Limits
from ..api.events import FilterObject, PatternList
from ..api.session_models import ExecuteBody, Position, TurnNumber
from ..schemas import Body

SESSION_PREFIX = "session:"
_MAX_CHANNELS = 20

MessageId = Annotated[str, Field(max_length=128)] | Annotated[int, Field(ge=-(2**53), le=2**53)]
Channels = Annotated[
    list[Annotated[str, Field(max_length=200)]], Field(min_length=1, max_length=_MAX_CHANNELS)
]


class ClientMessage(Body):
    """`id`, if given, comes back in the answer."""

    id: MessageId | None = None


class AuthMessage(ClientMessage):
    type: Literal["auth"]
    token: Annotated[str, Field(min_length=1, max_length=8_192)]


class SubscribeMessage(ClientMessage):
    """Either channels of events, or exactly one `session:…`."""

    type: Literal["subscribe"]
    channels: Channels
    events: PatternList | None = None
    filters: FilterObject | None = None
    since: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None,
        description="A cursor (exclusive) or a time (inclusive). Without it: from now on, and for"
        " channels that were subscribed to before, from where their subscription had got.",
    )
    format: Literal["flat", "envelope"] = "flat"
    resume_from: Position | None = Field(
        default=None, description="Of a session: everything up to here is known already."
    )
    compact: bool = False


class UnsubscribeMessage(ClientMessage):
    type: Literal["unsubscribe"]
    channels: Channels


class ExecuteMessage(ClientMessage, ExecuteBody):
    type: Literal["execute"]
    idempotency_key: Annotated[
        str | None, Field(min_length=1, max_length=255, pattern=r"^[\x20-\x7e]+$")
    ] = None


class CancelMessage(ClientMessage):
    type: Literal["cancel"]
    session_id: Annotated[str, Field(min_length=1, max_length=128)]
    turn: TurnNumber | None = None


class PingMessage(ClientMessage):
    type: Literal["ping"]


CLIENT_MESSAGES: dict[str, type[ClientMessage]] = {
    "auth": AuthMessage,
    "subscribe": SubscribeMessage,
    "unsubscribe": UnsubscribeMessage,
    "execute": ExecuteMessage,
    "cancel": CancelMessage,
    "ping": PingMessage,
}


def message_id(value: object) -> str | int | None:
    """The id of a message that may be wrong otherwise; None if none can be told back."""
    given = value.get("id") if isinstance(value, dict) else None
    if isinstance(given, str):
        return given if len(given) <= 128 else None
    if isinstance(given, int) and not isinstance(given, bool):
        return given if abs(given) <= 2**53 else None
    return None


def session_channel(session_id: str) -> str:
    return SESSION_PREFIX + session_id


def session_in(channel: str) -> str | None:
    """The session that a channel names; None for a channel of events."""
    if not channel.startswith(SESSION_PREFIX):
        return None
    session_id = channel.removeprefix(SESSION_PREFIX)
    return session_id if is_id(session_id) else None


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
