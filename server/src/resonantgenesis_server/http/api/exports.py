"""Exports: a session's log, an organization's events, as lines of JSON."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...events.service import EventService
from ...model.limits import Limits
from ...model.principal import Principal
from ...sessions.export import Batch, event_batches, open_session_export
from ...sessions.service import SessionService
from ..auth.authenticator import require, scoped
from ..errors import documented_errors
from ..params import QueryParams
from ..routing import api_router, streamed
from ..transfer import StreamedBody, disposition, send_answer
from ..watchdog import StreamWatchdog
from .events import ACTS, Audit, FiltersText, Patterns, Since, parse_filters, split_patterns
from .session_models import SessionId

SESSION = "/v1/sessions/{session_id}/export"
EVENTS = "/v1/events/export"
NDJSON = "application/x-ndjson"
#: Bytes given to the connection at once.
BLOCK = 64 * 1024
_MAX_TEXT = 8_192
_FIRST = "1970-01-01T00:00:00Z"


_LINES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Objects, each on a line of its own.",
        "content": {NDJSON: {"schema": {"type": "string"}}},
    }
}


class ExportRoutes:
    """Plain ASGI, since an export may take as long as its reader likes."""

    def __init__(
        self, sessions: SessionService, events: EventService, limits: Limits, watch: StreamWatchdog
    ) -> None:
        self._sessions = sessions
        self._events = events
        self._limits = limits
        self._watch = watch

    def router(self) -> APIRouter:
        router = api_router(tag="exports")

        @streamed(
            router,
            "GET",
            SESSION,
            self.session,
            response_class=Response,
            responses={**_LINES, **documented_errors(404)},
            operation_id="export_session",
        )
        def session(
            session_id: SessionId,
            principal: Annotated[Principal, Depends(scoped("sessions:read"))],
        ) -> None:
            """The session as it is now: itself, then each turn's request before its chunks."""

        @streamed(
            router,
            "GET",
            EVENTS,
            self.events,
            response_class=Response,
            responses={**_LINES, **documented_errors(410)},
            operation_id="export_events",
        )
        def events(
            principal: Annotated[Principal, Depends(scoped("events:read"))],
            events: Patterns = None,
            filters: FiltersText = None,
            since: Since = None,
            until: Annotated[
                str | None, Query(max_length=200, description="As `since`; now by default.")
            ] = None,
            audit: Audit = False,
        ) -> None:
            """All events of a period, in order; without `since` from the earliest kept."""

        return router

    async def session(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /v1/sessions/{id}/export."""
        principal: Principal = scope["state"]["principal"]
        require(principal, "sessions:read")
        session_id = scope["path_params"]["session_id"]
        export = await open_session_export(self._sessions, principal, session_id)
        await self._send(export.batches(), f"{session_id}.ndjson", scope, receive, send)

    async def events(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /v1/events/export."""
        principal: Principal = scope["state"]["principal"]
        require(principal, "events:read")
        query: QueryParams = scope["state"]["query"]
        audit = query.flag("audit")
        events = self._events.audit if audit else self._events
        patterns = split_patterns(query.text("events", _MAX_TEXT))
        selection = events.select(
            principal,
            events=patterns or (ACTS if audit else None),
            filters=parse_filters(query.text("filters", _MAX_TEXT), self._limits),
        )
        since = query.text("since", 200)
        after, _ = await events.place(principal, since or _FIRST, expired_ok=since is None)
        end, _ = await events.place(principal, query.text("until", 200), name="until")
        batches = event_batches(events, principal, selection, after, end)
        await self._send(batches, "events.ndjson", scope, receive, send)

    async def _send(
        self,
        batches: AsyncGenerator[Batch, None],
        name: str,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        epoch = self._events.epoch.encode()
        headers = [
            (b"content-type", NDJSON.encode()),
            (b"content-disposition", disposition(name)),
            (b"cache-control", b"no-store, no-transform"),
            (b"x-accel-buffering", b"no"),
            (b"x-log-epoch", epoch),
        ]
        answer = StreamedBody(200, headers, _lines(batches))
        await send_answer(answer, scope, receive, send, watch=self._watch, limits=self._limits)


async def _lines(batches: AsyncGenerator[Batch, None]) -> AsyncGenerator[bytes, None]:
    """Blocks of whole lines, each about as large as a connection takes at once."""
    async with aclosing(batches):
        async for batch in batches:
            waiting: list[bytes] = []
            size = 0
            for line in batch:
                waiting += (line, b"\n")
                size += len(line)
                if size >= BLOCK:
                    yield b"".join(waiting)
                    waiting, size = [], 0
            if waiting:
                yield b"".join(waiting)
