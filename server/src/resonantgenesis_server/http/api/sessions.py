"""`/v1/sessions`: all of a session but its streams, which `http/sse` serves."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from ...model.limits import Limits
from ...records.base import ListPage
from ...sessions.service import SessionService
from ...sessions.state import SessionStatus
from ...webhooks.service import WebhookService
from ..errors import documented_errors
from ..idempotency import IdempotencyKey, IdempotentPosts, Making
from ..routing import api_router
from ..schemas import MAX_POSITION, NO_NUL, PageBody, PageCursor, PageLimit, page_body
from ..waiting import waiting_for
from .session_models import (
    PATH,
    AgentId,
    CancelBody,
    CancelByKeyBody,
    CancelResult,
    CreateBody,
    Epoch,
    InputBody,
    InputResultBody,
    PollResult,
    Reader,
    SessionBody,
    SessionId,
    SessionItem,
    StepBody,
    Writer,
)

Status = Annotated[SessionStatus | None, Query()]
Searched = Annotated[str | None, Query(max_length=200, pattern=NO_NUL)]
After = Annotated[int, Query(ge=0, le=MAX_POSITION)]


def sessions_router(
    service: SessionService, limits: Limits, once: IdempotentPosts, webhooks: WebhookService
) -> APIRouter:
    """The routes of the service, without the streams of `http/sse`."""
    router = api_router(tag="sessions")

    @router.post(
        PATH,
        status_code=201,
        response_model=SessionBody,
        response_model_exclude_none=True,
        responses=documented_errors(404, 409, body=True),
        operation_id="create_session",
    )
    async def create(
        request: Request, body: CreateBody, principal: Writer, key: IdempotencyKey = None
    ) -> Response:
        """Make a session without a turn."""
        spec = body.spec(limits)
        callback = await webhooks.callback(principal, body.callback(principal))

        async def make(making: Making) -> SessionBody:
            if callback is not None:
                await webhooks.check_room(principal)
            session_id = await making.reserve("sess")
            made = await service.create(
                principal, spec, request_id=request.state.request_id, session_id=session_id
            )
            if callback is not None:
                await webhooks.keep(callback, session_id)
            return SessionBody(**made)

        return await once.run(principal, PATH, key, body, make)

    @router.get(
        PATH,
        response_model_exclude_unset=True,
        responses=documented_errors(),
        operation_id="list_sessions",
    )
    async def list_sessions(
        principal: Reader,
        agent_id: Annotated[AgentId | None, Query()] = None,
        status: Status = None,
        search: Searched = None,
        limit: PageLimit = 50,
        cursor: PageCursor = None,
    ) -> PageBody[SessionItem]:
        """Sessions, newest first.

        `search`: those whose agent, subject, first goal and metadata have each of its words
        somewhere, or whose id begins so.
        """
        page = await service.list_sessions(
            principal,
            agent_id=agent_id,
            status=status,
            search=search,
            limit=limit,
            cursor=cursor,
        )
        return _page(page)

    @router.post(
        PATH + "/cancel",
        responses=documented_errors(404, body=True),
        operation_id="cancel_by_key",
    )
    async def cancel_by_key(body: CancelByKeyBody, principal: Writer) -> CancelResult:
        """Cancel the turn that an Idempotency-Key started, whose answer never came."""
        return CancelResult(**await service.cancel_by_key(principal, body.idempotency_key))

    @router.get(
        PATH + "/{session_id}",
        response_model_exclude_unset=True,
        responses=documented_errors(404),
        operation_id="get_session",
    )
    async def get(session_id: SessionId, principal: Reader) -> SessionBody:
        """The session, with the newest turn's output so far and its position."""
        return SessionBody(**await service.get(principal, session_id))

    @router.delete(
        PATH + "/{session_id}",
        status_code=204,
        responses=documented_errors(404),
        operation_id="delete_session",
    )
    async def delete(request: Request, session_id: SessionId, principal: Writer) -> None:
        """Cancel what runs and remove the session with its log and its files."""
        async with waiting_for(request):
            await service.delete(principal, session_id, request_id=request.state.request_id)

    @router.post(
        PATH + "/{session_id}/cancel",
        responses=documented_errors(404, body=True),
        operation_id="cancel_session",
    )
    async def cancel(
        session_id: SessionId, principal: Writer, body: CancelBody | None = None
    ) -> CancelResult:
        """Cancel a turn, or all that run or wait now; idle: nothing happens."""
        turn = None if body is None else body.turn
        return CancelResult(**await service.cancel(principal, session_id, turn))

    @router.post(
        PATH + "/{session_id}/input",
        responses=documented_errors(404, 409, body=True),
        operation_id="input_session",
    )
    async def give_input(
        request: Request, session_id: SessionId, principal: Writer, body: InputBody
    ) -> InputResultBody:
        """Answer what a turn asks; the turn goes on once all its asks have an answer."""
        given = await service.input(
            principal, session_id, body.request(), request_id=request.state.request_id
        )
        return InputResultBody(**given)

    @router.get(
        PATH + "/{session_id}/steps",
        responses=documented_errors(404),
        operation_id="list_steps",
    )
    async def steps(
        session_id: SessionId,
        principal: Reader,
        turn: Annotated[int | None, Query(ge=1, le=MAX_POSITION)] = None,
        limit: PageLimit = 50,
        cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,10}$")] = None,
    ) -> PageBody[StepBody]:
        """Steps in the order of the log, of one turn or of all."""
        steps, next_position = await service.steps(
            principal, session_id, turn=turn, after=int(cursor or 0), limit=limit
        )
        return PageBody(
            data=[StepBody(**step) for step in steps],
            next_cursor=None if next_position is None else str(next_position),
            has_more=next_position is not None,
        )

    @router.get(
        PATH + "/{session_id}/events",
        response_model=PollResult,
        responses=documented_errors(404, 410),
        operation_id="poll_session",
    )
    async def poll(
        request: Request,
        session_id: SessionId,
        principal: Reader,
        after: After = 0,
        # Not in the annotation: that is evaluated where `limits` is unknown.
        limit: int = Query(min(500, limits.poll_limit), ge=1, le=limits.poll_limit),
        wait: float = Query(0.0, ge=0, le=limits.poll_wait),
        compact: bool = False,
        times: Annotated[bool, Query(description="Each chunk has `at`, its time.")] = False,
        epoch: Epoch = None,
    ) -> Response:
        """Chunks after a position; waits up to `wait` seconds for the first."""
        async with waiting_for(request) as caller:
            poll = await service.poll(
                principal,
                session_id,
                after=after,
                limit=limit,
                wait=wait,
                compacted=compact,
                epoch=epoch,
                timed=times,
                caller=caller,
            )
        body = b'{"events":[%b],"position":%d,"status":"%b","done":%b}' % (
            b",".join(poll.events),
            poll.position,
            poll.status.encode(),
            b"true" if poll.done else b"false",
        )
        headers = {"X-Log-Epoch": service.epoch, "Cache-Control": "no-store"}
        return Response(body, media_type="application/json", headers=headers)

    return router


def _page(page: ListPage[dict[str, Any]]) -> PageBody[SessionItem]:
    return page_body(page, lambda item: SessionItem(**item))
