"""`/asyncapi.json`: the messages of both sockets, described in AsyncAPI 3.0.

The models of the server's messages are for the document; `codec.websocket` makes the messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any, Literal

import orjson
from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from ..errors import only_errors
from ..routing import api_router
from ..workers.messages import PATH as WORKERS_PATH
from ..workers.messages import SERVER_TO_WORKER, WORKER_MESSAGES
from .messages import CLIENT_MESSAGES, PATH, MessageId

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


class Accepted(Control):
    """A message to an open turn is recorded."""

    type: Literal["accepted"]
    session_id: str
    turn: int = Field(description="The turn that it is for.")
    message_id: str
    id: _Id = None


class Answered(Control):
    """An answer to what a turn asks is recorded."""

    type: Literal["answered"]
    session_id: str
    turn: int
    call_id: str
    status: str = Field(description="That of the session: `waiting` while other asks are open.")
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

    type: Literal[
        "text",
        "input_required",
        "waiting",
        "input",
        "reasoning",
        "tool_call",
        "tool_result",
        "step",
        "source",
        "user_message",
        "file",
        "data",
        "error",
        "done",
    ]
    position: int = Field(ge=1)
    session_id: str


SERVER_MESSAGES: dict[str, type[BaseModel]] = {
    "authenticated": Authenticated,
    "subscribedEvents": SubscribedEvents,
    "subscribedSession": SubscribedSession,
    "unsubscribed": Unsubscribed,
    "started": Started,
    "cancelled": Cancelled,
    "accepted": Accepted,
    "answered": Answered,
    "pong": Pong,
    "cursor": Quiet,
    "draining": Draining,
    "socketError": SocketError,
    "event": Event,
    "eventEnvelope": EventEnvelope,
    "chunk": Chunk,
}


_REF = "#/components/schemas/{model}"


def asyncapi_router() -> APIRouter:
    router = api_router(tag="operations")

    @cache
    def encoded() -> bytes:
        return orjson.dumps(document())

    @router.get(
        "/asyncapi.json",
        response_model=dict[str, Any],
        responses=only_errors(500),
        operation_id="asyncapi",
    )
    async def asyncapi() -> Response:
        """The description of the WebSocket."""
        return Response(encoded(), media_type="application/json")

    return router


def document() -> dict[str, Any]:
    """The whole document. `receive` is what clients send, since the server speaks here."""
    named = [
        *CLIENT_MESSAGES.values(),
        *SERVER_MESSAGES.values(),
        *WORKER_MESSAGES.values(),
        *SERVER_TO_WORKER.values(),
    ]
    _, schemas = models_json_schema([(model, "validation") for model in named], ref_template=_REF)
    messages = _messages(CLIENT_MESSAGES) | _messages(SERVER_MESSAGES)
    of_workers = _messages(WORKER_MESSAGES) | _messages(SERVER_TO_WORKER)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "ResonantGenesis Streaming: the WebSocket",
            "version": version("resonantgenesis-server"),
            "description": "JSON texts in both directions. An event has `channel`; a chunk has"
            " `position` and `session_id`; all else is control. Close codes: 4400 too many bad"
            " messages, 4401 credential refused or ended, 4408 no auth in time or gave way to"
            " others, 4429 too many messages, 1012 the server restarts.",
        },
        "defaultContentType": "application/json",
        "channels": {
            "socket": {
                "address": PATH,
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"ws": {"method": "GET"}},
            },
            "workers": {
                "address": WORKERS_PATH,
                "parameters": {"agent_id": {"description": "The agent that the worker serves."}},
                "messages": {
                    name: {"$ref": f"#/components/messages/{name}"} for name in of_workers
                },
                "bindings": {"ws": {"method": "GET"}},
            },
        },
        "operations": {
            "fromClient": _operation("receive", CLIENT_MESSAGES),
            "toClient": _operation("send", SERVER_MESSAGES),
            "fromWorker": _operation("receive", WORKER_MESSAGES, "workers"),
            "toWorker": _operation("send", SERVER_TO_WORKER, "workers"),
        },
        "components": {
            "messages": messages | of_workers,
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key or a client token, in the handshake or in the"
                    " first message.",
                }
            },
        },
    }


def _messages(models: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    return {
        name: {
            "name": name,
            "summary": (model.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " "),
            "payload": {"$ref": _REF.format(model=model.__name__)},
        }
        for name, model in models.items()
    }


def _operation(
    action: str, models: Mapping[str, type[BaseModel]], channel: str = "socket"
) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in models],
        "security": [{"$ref": "#/components/securitySchemes/bearer"}],
    }
