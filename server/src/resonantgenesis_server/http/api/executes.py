"""`POST /v1/sessions/execute` and `/v1/sessions/{id}/execute`: start a turn, or join one.

Plain ASGI, since the answer may be a stream.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import orjson
from fastapi import APIRouter
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...model.errors import InvalidRequest, Unavailable
from ...model.limits import Limits
from ...model.principal import Principal
from ...sessions.range import ReadFrom
from ...sessions.request import TurnRef, TurnRequest
from ...sessions.service import SessionService
from ...webhooks.service import WebhookService
from ..auth.authenticator import require
from ..body import read_json
from ..errors import Responses, documented_errors
from ..idempotency import IdempotencyKey
from ..limits import RequestLimit
from ..params import header, position_of, text_header
from ..routing import api_router, streamed
from ..sse.routes import FRAMES, LastEventId, StreamRoutes, as_dict
from ..sse.stream import session_headers
from ..waiting import waiting
from ..watchdog import StreamWatchdog
from .session_models import (
    PATH,
    CalledExecuteBody,
    CalledTurnBody,
    SessionId,
    TurnResult,
    Writer,
    validated,
)

_EXECUTED: Responses = {
    200: FRAMES,
    202: {"model": TurnResult, "description": "Under way; Location names the session."},
    204: {"description": "A join where nothing follows."},
    **documented_errors(404, 409, 410, body=True),
}


class ExecuteRoutes:
    """The routes that start turns; `streams` answers those who want to see the chunks."""

    def __init__(
        self,
        service: SessionService,
        streams: StreamRoutes,
        limits: Limits,
        watch: StreamWatchdog,
        requests: RequestLimit,
        webhooks: WebhookService,
    ) -> None:
        self._service = service
        self._webhooks = webhooks
        self._streams = streams
        self._limits = limits
        self._watch = watch
        self._requests = requests

    def router(self) -> APIRouter:
        """Joins are not counted, and only the body says whether an execute is one."""
        router = api_router(tag="sessions")

        @streamed(
            router,
            "POST",
            PATH + "/execute",
            self.execute,
            counted=False,
            response_model=TurnResult,
            responses=_EXECUTED,
            operation_id="execute",
        )
        def execute(
            body: CalledExecuteBody,
            principal: Writer,
            key: IdempotencyKey = None,
            last_event_id: LastEventId = None,
        ) -> None:
            """Start a turn of a new or an existing session, or join one (`resume_from`,
            `Last-Event-ID`)."""

        @streamed(
            router,
            "POST",
            PATH + "/{session_id}/execute",
            self.execute,
            counted=False,
            response_model=TurnResult,
            responses=_EXECUTED,
            operation_id="execute_in_session",
        )
        def execute_in_session(
            session_id: SessionId,
            body: CalledTurnBody,
            principal: Writer,
            key: IdempotencyKey = None,
            last_event_id: LastEventId = None,
        ) -> None:
            """Start a further turn of a session, or join one (`resume_from`, `Last-Event-ID`)."""

        return router

    async def execute(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST …/execute, streaming or not."""
        principal: Principal = scope["state"]["principal"]
        value = await read_json(scope, receive, self._limits, self._watch)
        session_id = scope["path_params"].get("session_id")
        lenient: bool = scope["state"]["lenient"]
        if session_id is None:
            body: CalledExecuteBody | CalledTurnBody = validated(
                CalledExecuteBody, value, lenient=lenient
            )
            turn_request = body.request(self._limits)
        else:
            # Clients that are out there name the session in the body as well.
            if isinstance(value, dict) and "session_id" in value:
                if value["session_id"] != session_id:
                    raise InvalidRequest.field("session_id", "is not the session of the path")
                value = {name: of for name, of in value.items() if name != "session_id"}
            body = validated(CalledTurnBody, value, lenient=lenient)
            turn_request = body.request(self._limits, session_id)
        # Clients that read streams of POSTs send the same again when one breaks off, and only this
        # header says so.
        last = position_of(text_header(scope, b"last-event-id"))
        if last is not None:
            turn_request = replace(turn_request, resume_from=last, again=True)
        self._authorize(principal, turn_request)
        if not turn_request.joins:
            await self._requests.take_for(scope)
        callback = await self._webhooks.callback(principal, body.callback(principal))
        key = text_header(scope, b"idempotency-key")
        if callback is not None and key is None and not turn_request.joins:
            await self._webhooks.check_room(principal)
        wants_stream = body.stream or _accepts_stream(scope)
        with self._watch.opening(principal) if wants_stream else nullcontext() as place:
            ref = await self._service.execute(
                principal,
                turn_request,
                key=key,
                request_id=scope["state"]["request_id"],
            )
            if callback is not None:
                await self._webhooks.keep_of(callback, ref, self._service.authorize)
            if place is not None:
                start = ReadFrom(after=ref.resume_from, turn=ref.turn, compact=body.compact)
                await self._streams.stream(scope, receive, send, ref.session_id, start, place)
                return
        await self._answer(scope, receive, send, ref)

    def _authorize(self, principal: Principal, turn_request: TurnRequest) -> None:
        """Joining needs only to read, starting to write; who may not start may still join."""
        joins = turn_request.joins and turn_request.session_id is not None
        require(principal, "sessions:read" if joins else "sessions:write")

    async def _answer(self, scope: Scope, receive: Receive, send: Send, ref: TurnRef) -> None:
        """The end of the turn, or 202 while it is under way."""
        prefers = (text_header(scope, b"prefer") or "").lower()
        wait = 0.0 if "respond-async" in prefers else self._limits.answer_wait
        try:
            async with waiting(scope, receive, self._watch) as caller:
                result = await self._service.result(ref, wait, caller)
        except Unavailable:  # the server stops, and the turn goes on at the next start
            result = await self._service.result(ref, 0)
        headers = as_dict(session_headers(ref.session_id, ref.turn, self._service.epoch))
        headers["Cache-Control"] = "no-store"
        finished = "output" in result
        if not finished:
            headers["Location"] = f"/v1/sessions/{ref.session_id}"
        response = Response(
            orjson.dumps(result),
            status_code=200 if finished else 202,
            headers=headers,
            media_type="application/json",
        )
        await response(scope, receive, send)


def _accepts_stream(scope: Scope) -> bool:
    return b"text/event-stream" in (header(scope, b"accept") or b"").lower()
