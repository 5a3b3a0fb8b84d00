"""`/v1/sessions/{id}/messages` and what else changes a conversation: forks and the queue."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from ...codec.json import dumps
from ...sessions.service import SessionService
from ..errors import documented_errors
from ..routing import api_router
from ..schemas import PageLimit
from .sessions import PATH, Reader, SessionId

_MESSAGES = PATH + "/{session_id}/messages"


class MessagePart(BaseModel):
    """A part of a message; the fields of each type stand in PROTOCOL.md."""

    model_config = {"extra": "allow"}

    type: str


class MessageBody(BaseModel):
    """A user's goal, or the agent's answer to it."""

    id: str
    role: str
    session_id: str
    turn: int
    status: str
    parts: list[MessagePart]
    metadata: dict[str, Any] | None = None
    usage: dict[str, int] | None = None
    truncated: bool | None = None
    replaced_by: int | None = Field(default=None, description="The turn that regenerated it.")
    created_at: str
    position: int | None = None


class MessagesBody(BaseModel):
    data: list[MessageBody] = Field(description="The oldest first.")
    next_cursor: str | None = Field(description="Ask with it for older messages; null: none.")
    has_more: bool
    position: int | None = Field(
        description="A stream from here goes on where the messages end; null on older pages."
    )


def conversations_router(service: SessionService) -> APIRouter:
    router = api_router(tag="sessions")

    @router.get(
        _MESSAGES,
        response_model=MessagesBody,
        responses=documented_errors(404),
        operation_id="list_messages",
    )
    async def messages(
        session_id: SessionId,
        principal: Reader,
        limit: PageLimit = 50,
        cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,4}\.[0-9]{1,10}$")] = None,
    ) -> Response:
        """The newest messages, or those before the cursor. Messages of one turn stay together."""
        page = await service.messages(principal, session_id, limit=limit, cursor=cursor)
        body = {
            "data": page.messages,
            "next_cursor": page.next_cursor,
            "has_more": page.next_cursor is not None,
            "position": page.position,
        }
        headers = {"X-Log-Epoch": service.epoch, "Cache-Control": "no-store"}
        return Response(dumps(body), media_type="application/json", headers=headers)

    return router
