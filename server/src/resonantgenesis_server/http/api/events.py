"""`/v1/events`: publish, list, replay, poll and get an organization's events."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...codec.strict_json import parse_json
from ...events.service import EventPage, EventService
from ...feed.filter import Filters
from ...model.errors import InvalidJson, InvalidRequest, PayloadTooLarge
from ...model.events import AUDIT
from ...model.limits import Limits
from ...model.principal import Principal
from ...sessions.idempotency import check_key
from ..auth.authenticator import require, scoped
from ..body import read_json
from ..errors import documented_errors
from ..idempotency import IdempotencyKey
from ..params import text_header
from ..routing import api_router, streamed
from ..schemas import Body, FilterObject, JsonObject, PatternList
from ..waiting import waiting_for
from ..watchdog import StreamWatchdog
from .session_models import validated

PATH = "/v1/events"
MAX_TEXT = 8_192

Reader = Annotated[Principal, Depends(scoped("events:read"))]
Writer = Annotated[Principal, Depends(scoped("events:write"))]
Patterns = Annotated[str | None, Query(max_length=MAX_TEXT, description="Comma-separated.")]
FiltersText = Annotated[
    str | None, Query(max_length=MAX_TEXT, description="JSON: {field: value or [values]}.")
]
Since = Annotated[str | None, Query(max_length=200, description="A cursor, or an RFC 3339 time.")]
PageSize = Annotated[int, Query(ge=1, le=1_000)]
Audit = Annotated[
    bool, Query(description="The audit log alone, which is kept for `limits.audit_retention`.")
]
#: The events of the audit log.
ACTS = [f"{AUDIT}*"]


class ReplayBody(Body):
    since: Annotated[str, Field(min_length=1, max_length=200)]
    until: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    events: PatternList | None = None
    filters: FilterObject = Field(default_factory=dict)
    limit: Annotated[int, Field(ge=1, le=1_000)] = 100
    cursor: Annotated[str, Field(min_length=1, max_length=200)] | None = None


class PublishBody(Body):
    type: Annotated[str, Field(min_length=1, max_length=200)]
    data: JsonObject = Field(default_factory=dict)


class EventBody(BaseModel):
    id: str
    type: str
    channel: str
    created_at: str
    cursor: str
    data: dict[str, Any]
    metadata: dict[str, Any]


class EventPageBody(BaseModel):
    events: list[EventBody]
    next_cursor: str = Field(description="Continue with it, now or later.")
    has_more: bool


class PublishRoute:
    """POST /v1/events: plain ASGI, since a framework's request costs more than an event."""

    def __init__(self, service: EventService, limits: Limits, watch: StreamWatchdog) -> None:
        self._service = service
        self._limits = limits
        self._watch = watch

    def router(self) -> APIRouter:
        router = api_router(tag="events")

        @streamed(
            router,
            "POST",
            PATH,
            self.publish,
            status_code=201,
            response_model=EventBody,
            responses=documented_errors(409, body=True),
            operation_id="publish_event",
        )
        def publish(body: PublishBody, principal: Writer, key: IdempotencyKey = None) -> None:
            """Publish an event of app.*, or one of team.*, billing.* or system.* that no server
            writes."""

        return router

    async def publish(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/events."""
        principal: Principal = scope["state"]["principal"]
        require(principal, "events:write")
        key = text_header(scope, b"idempotency-key")
        value = await read_json(scope, receive, self._limits, self._watch)
        body = validated(PublishBody, value, lenient=scope["state"]["lenient"])
        made = await self._service.publish(
            principal,
            body.type,
            body.data,
            key=None if key is None else check_key(key),
            request_id=scope["state"]["request_id"],
        )
        await _json_response(made, 201)(scope, receive, send)


def events_router(every: EventService, limits: Limits) -> APIRouter:
    """Routes over the service; others publish and subscribe."""
    router = api_router(tag="events")

    @router.post(
        PATH + "/replay",
        response_model=EventPageBody,
        responses=documented_errors(410, body=True),
        operation_id="replay_events",
    )
    async def replay(body: ReplayBody, principal: Reader) -> Response:
        """Events since a time (inclusive) or a cursor (exclusive), in order, page by page."""
        selection = every.select(principal, events=body.events, filters=body.filters)
        after, _ = await every.place(
            principal, body.cursor or body.since, name="cursor" if body.cursor else "since"
        )
        page = await every.replay(
            principal, selection, after=after, until=body.until, limit=body.limit
        )
        return _page(page)

    @router.get(
        PATH,
        response_model=EventPageBody,
        responses=documented_errors(410),
        operation_id="list_events",
    )
    async def list_events(
        request: Request,
        principal: Reader,
        since: Since = None,
        until: Since = None,
        events: Patterns = None,
        filters: FiltersText = None,
        limit: PageSize = 100,
        cursor: Since = None,
        audit: Audit = False,
        wait: float = Query(0.0, ge=0, le=limits.poll_wait),
    ) -> Response:
        """Events of a query, from the earliest kept without `since`. `wait` polls."""
        service = every.audit if audit else every
        selection = service.select(
            principal,
            events=split_patterns(events) or (ACTS if audit else None),
            filters=parse_filters(filters, limits),
        )
        place = cursor or since
        if place is None:
            after, _ = await service.place(principal, "1970-01-01T00:00:00Z", expired_ok=True)
        else:
            name = "cursor" if cursor else "since"
            after, _ = await service.place(principal, place, name=name)
        page = await service.replay(principal, selection, after=after, until=until, limit=limit)
        if not page.events and not page.has_more and wait > 0 and until is None:
            after, _ = await service.place(principal, page.next_cursor)
            view = service.subscribe(principal, selection, after)
            async with waiting_for(request), aclosing(view.batches(wait)) as batches:
                await anext(batches, None)
            page = await service.replay(principal, selection, after=after, until=None, limit=limit)
        return _page(page)

    @router.get(
        PATH + "/{event_id}",
        response_model=EventBody,
        responses=documented_errors(404),
        operation_id="get_event",
    )
    async def get(event_id: str, principal: Reader) -> Response:
        """One event."""
        return _json_response(await every.get(principal, event_id))

    return router


def split_patterns(text: str | None) -> list[str] | None:
    """`a.*,b` as a list; None for None. Raises InvalidRequest."""
    if text is None:
        return None
    patterns = [part.strip() for part in text.split(",")]
    if not all(patterns):
        problem = "has an empty pattern; name types like session.*,agent.error, or leave it out"
        raise InvalidRequest.field("events", problem)
    return patterns


def parse_filters(text: str | None, limits: Limits) -> Filters | None:
    """Parse the query parameter `filters`. Raises InvalidRequest."""
    if text is None:
        return None
    try:
        value = parse_json(text.encode("utf-8", "replace"), limits.json_depth, limits.json_values)
    except (InvalidJson, PayloadTooLarge):
        # The error of `parse_json` speaks of a body; this is a parameter.
        raise InvalidRequest.field("filters", "is not JSON, or nests too deep") from None
    if not isinstance(value, dict):
        raise InvalidRequest.field("filters", "is not a JSON object")
    return value


def _page(page: EventPage) -> Response:
    return _json_response(
        b'{"events":[%b],"next_cursor":"%b","has_more":%b}'
        % (
            b",".join(page.events),
            page.next_cursor.encode(),
            b"true" if page.has_more else b"false",
        )
    )


def _json_response(body: bytes, status: int = 200) -> Response:
    return Response(
        body, status, media_type="application/json", headers={"Cache-Control": "no-store"}
    )
