"""What the server says on a socket, as the AsyncAPI document describes it. The messages
themselves are made in `codec.ws`, without these models in between."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .messages import MessageId

Channel = Literal["sessions", "agents", "teams", "webhooks", "billing", "system", "app"]
_Id = MessageId | None


class Control(BaseModel):
    """A message of the socket's own: nothing that is not described here."""

    model_config = ConfigDict(extra="forbid")


class Authenticated(Control):
    type: Literal["authenticated"]
    expires_at: str | None = Field(default=None, description="When it ends; RFC 3339.")
    id: _Id = None


class SubscribedEvents(Control):
    type: Literal["subscribed"]
    channels: list[Channel]
    cursor: str = Field(description="Events after this one follow.")
    notes: list[str] | None = Field(
        default=None, description="Of channels in which nothing of the server's own comes yet."
    )
    id: _Id = None


class SubscribedSession(Control):
    type: Literal["subscribed"]
    channels: list[str] = Field(min_length=1, max_length=1)
    position: int = Field(description="Chunks after this one follow.")
    epoch: str
    id: _Id = None


class Unsubscribed(Control):
    type: Literal["unsubscribed"]
    channels: list[str]
    id: _Id = None


class Started(Control):
    type: Literal["started"]
    session_id: str
    turn: int
    id: _Id = None


class Cancelled(Control):
    type: Literal["cancelled"]
    session_id: str
    turn: int | None = Field(default=None, description="The first of `turns`, or the one named.")
    turns: list[int] = Field(description="Those that this message concerned.")
    status: str
    id: _Id = None


class Pong(Control):
    type: Literal["pong"]
    id: _Id = None


class Quiet(Control):
    """How far a subscription without events for a while has got."""

    type: Literal["cursor"]
    channels: list[Channel]
    cursor: str


class Draining(Control):
    """The server is going to stop; a close with 1012 follows."""

    type: Literal["draining"]
    retry_after: float


class SocketError(Control):
    """Of the socket, not of a turn. `details.channels`: those subscriptions have ended."""

    type: Literal["error"]
    code: str
    message: str
    details: dict[str, Any] | None = None
    retry_after: float | None = None
    id: _Id = None


class Event(BaseModel):
    """A platform event; scalar fields of `data` stand beside these where the name is free."""

    model_config = ConfigDict(extra="allow")

    id: str
    type: str = Field(pattern=r"^[a-z0-9_-]+(\.[a-z0-9_-]+)+$")
    channel: Channel
    created_at: str
    cursor: str
    data: dict[str, Any]
    metadata: dict[str, Any]


class PlainEvent(Event):
    model_config = ConfigDict(extra="forbid")


class EventEnvelope(Control):
    type: Literal["event"]
    channel: Channel
    event: PlainEvent


class Chunk(BaseModel):
    """A chunk of a session; the fields of each kind are those of its stream."""

    model_config = ConfigDict(extra="allow")

    type: Literal["text", "tool_call", "tool_result", "step", "error", "done"]
    position: int = Field(ge=1)
    session_id: str


SERVER_MESSAGES: dict[str, type[BaseModel]] = {
    "authenticated": Authenticated,
    "subscribedEvents": SubscribedEvents,
    "subscribedSession": SubscribedSession,
    "unsubscribed": Unsubscribed,
    "started": Started,
    "cancelled": Cancelled,
    "pong": Pong,
    "cursor": Quiet,
    "draining": Draining,
    "socketError": SocketError,
    "event": Event,
    "eventEnvelope": EventEnvelope,
    "chunk": Chunk,
}
