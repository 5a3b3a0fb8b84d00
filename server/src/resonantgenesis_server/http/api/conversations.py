"""`/v1/sessions/{id}/messages` and what else changes a conversation: forks and the queue."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from ...codec.json import dumps
from ...model.limits import Limits
from ...sessions.service import SessionService, described
from ..errors import documented_errors
from ..idempotency import IdempotencyKey, IdempotentPosts, Making
from ..routing import api_router
from ..schemas import MAX_POSITION, PageBody, PageLimit
from .session_models import (
    PATH,
    EditBody,
    ForkBody,
    PostBody,
    Reader,
    SessionBody,
    SessionId,
    Writer,
)

_MESSAGES = PATH + "/{session_id}/messages"
_FORK = PATH + "/{session_id}/fork"
_QUEUE = PATH + "/{session_id}/queue"
_QUEUED = _QUEUE + "/{turn}"
Turn = Annotated[int, Path(ge=1, le=MAX_POSITION)]


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


class PostedBody(BaseModel):
    session_id: str
    turn: int = Field(description="The turn that the message is for.")
    message_id: str


class QueuedBody(BaseModel):
    """A turn that waits for others."""

    turn: int
    goal: str
    model: str | None
    tools: list[str] | None
    metadata: dict[str, Any]
    max_steps: int
    timeout_seconds: float
    queued_at: str


def conversations_router(
    service: SessionService, limits: Limits, once: IdempotentPosts
) -> APIRouter:
    router = api_router(tag="sessions")
    conversations = service.conversations

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
        page = await conversations.messages(principal, session_id, limit=limit, cursor=cursor)
        body = {
            "data": page.messages,
            "next_cursor": page.next_cursor,
            "has_more": page.next_cursor is not None,
            "position": page.position,
        }
        headers = {"X-Log-Epoch": service.epoch, "Cache-Control": "no-store"}
        return Response(dumps(body), media_type="application/json", headers=headers)

    @router.post(
        _MESSAGES,
        responses=documented_errors(404, 409, body=True),
        operation_id="post_message",
    )
    async def post(
        session_id: SessionId, body: PostBody, principal: Writer, key: IdempotencyKey = None
    ) -> PostedBody:
        """Say something to the turn that runs, waits for an answer, or comes next."""
        posted = await conversations.post(
            principal, session_id, body.content, message_id=body.message_id, key=key
        )
        return PostedBody(**posted)

    @router.post(
        _FORK,
        status_code=201,
        response_model=SessionBody,
        response_model_exclude_none=True,
        responses=documented_errors(404, 409, 410, body=True),
        operation_id="fork_session",
    )
    async def fork(
        request: Request,
        session_id: SessionId,
        principal: Writer,
        body: ForkBody | None = None,
        key: IdempotencyKey = None,
    ) -> Response:
        """Make a session that begins with the turns of this one."""
        asked = body or ForkBody()
        metadata = asked.checked_metadata(limits)

        async def make(making: Making) -> SessionBody:
            await service.check(principal, session_id)
            made = await service.forks.fork(
                principal,
                session_id,
                asked.turn,
                metadata,
                request_id=request.state.request_id,
                fork_id=await making.reserve("sess"),
            )
            return SessionBody(**described(made))

        return await once.run(principal, f"{PATH}/{session_id}/fork", key, asked, make)

    @router.get(
        _QUEUE,
        responses=documented_errors(404),
        operation_id="list_queue",
    )
    async def queue(session_id: SessionId, principal: Reader) -> PageBody[QueuedBody]:
        """The turns that wait for others, in their order: all on one page."""
        turns = await conversations.queue(principal, session_id)
        return PageBody(
            data=[QueuedBody(**turn) for turn in turns], next_cursor=None, has_more=False
        )

    @router.patch(
        _QUEUED,
        status_code=204,
        responses=documented_errors(404, 409, body=True),
        operation_id="edit_queued_turn",
    )
    async def edit(session_id: SessionId, turn: Turn, body: EditBody, principal: Writer) -> None:
        """Change a turn that waits; its number and place stay."""
        await conversations.edit_queued(principal, session_id, turn, body.changes(limits))

    @router.delete(
        _QUEUED,
        status_code=204,
        responses=documented_errors(404, 409),
        operation_id="remove_queued_turn",
    )
    async def remove(session_id: SessionId, turn: Turn, principal: Writer) -> None:
        """Take a turn that waits out of the queue. It ends as cancelled."""
        await conversations.remove_queued(principal, session_id, turn)

    return router
