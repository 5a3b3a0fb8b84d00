"""Client messages of a socket, and the actions of its machine (PROTOCOL.md, section 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from ...model.ids import is_id
from ...tracing.spans import TRACEPARENT
from ..api.session_models import CalledExecuteBody, InputBody, Position, PostBody, TurnNumber
from ..schemas import Body, FilterObject, PatternList

PATH = "/v1/ws"
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


class ExecuteMessage(ClientMessage, CalledExecuteBody):
    type: Literal["execute"]
    idempotency_key: Annotated[
        str | None, Field(min_length=1, max_length=255, pattern=r"^[\x20-\x7e]+$")
    ] = None
    traceparent: Annotated[str | None, Field(pattern=TRACEPARENT)] = Field(
        default=None, description="The place in a trace that the turn belongs to."
    )


class CancelMessage(ClientMessage):
    type: Literal["cancel"]
    session_id: Annotated[str, Field(min_length=1, max_length=128)]
    turn: TurnNumber | None = None


class PostMessage(ClientMessage, PostBody):
    """Something to say to the turn that is open."""

    type: Literal["message"]
    session_id: Annotated[str, Field(min_length=1, max_length=128)]


class InputMessage(ClientMessage, InputBody):
    """An answer to what a turn asks."""

    type: Literal["input"]
    session_id: Annotated[str, Field(min_length=1, max_length=128)]


class PingMessage(ClientMessage):
    type: Literal["ping"]


CLIENT_MESSAGES: dict[str, type[ClientMessage]] = {
    "auth": AuthMessage,
    "subscribe": SubscribeMessage,
    "unsubscribe": UnsubscribeMessage,
    "execute": ExecuteMessage,
    "cancel": CancelMessage,
    "message": PostMessage,
    "input": InputMessage,
    "ping": PingMessage,
}


@dataclass(frozen=True, slots=True)
class Reply:
    """Send this message."""

    message: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Send the waiting messages, then close. The machine takes no more messages."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Check this credential; then `authenticated` or `refused`."""

    token: str
    id: MessageId | None


class _Request:
    """A request of an authenticated client."""

    __slots__ = ()
    message: ClientMessage

    @property
    def id(self) -> MessageId | None:
        """The id that the answer repeats."""
        return self.message.id


@dataclass(frozen=True, slots=True)
class SubscribeEvents(_Request):
    """Follow these channels of events, in the order asked for, each once."""

    channels: tuple[str, ...]
    message: SubscribeMessage


@dataclass(frozen=True, slots=True)
class SubscribeSession(_Request):
    """Follow this session."""

    session_id: str
    message: SubscribeMessage


@dataclass(frozen=True, slots=True)
class Unsubscribe(_Request):
    """Leave these channels, followed or not."""

    channels: tuple[str, ...]
    message: UnsubscribeMessage


@dataclass(frozen=True, slots=True)
class Execute(_Request):
    """Start or join a turn."""

    message: ExecuteMessage


@dataclass(frozen=True, slots=True)
class Cancel(_Request):
    """Cancel turns."""

    message: CancelMessage


@dataclass(frozen=True, slots=True)
class Post(_Request):
    """Say something to an open turn."""

    message: PostMessage


@dataclass(frozen=True, slots=True)
class GiveInput(_Request):
    """Answer what a turn asks."""

    message: InputMessage


Request = (
    Authenticate
    | SubscribeEvents
    | SubscribeSession
    | Unsubscribe
    | Execute
    | Cancel
    | Post
    | GiveInput
)
Action = Reply | Close | Request


def message_id(value: object) -> str | int | None:
    """The id of a message that may be invalid otherwise; None if the id cannot be repeated."""
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
