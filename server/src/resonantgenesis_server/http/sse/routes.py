"""Routes whose answer is a stream: of a session, of an organization's events.

Plain ASGI: a framework's request would live as long as the stream, and cost more than an event.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Query
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...codec.events import cursor_of
from ...codec.sse import OPENING, cursor_frame, event_frame, frame_without_id
from ...events.service import EventService
from ...log.base import Entry
from ...model.errors import InvalidRequest
from ...model.limits import Limits
from ...model.principal import Principal
from ...sessions.range import ReadFrom
from ...sessions.service import SessionService
from ...sessions.subscription import SessionSubscription
from ..api.events import (
    MAX_TEXT,
    FiltersText,
    Patterns,
    Since,
    parse_filters,
    split_patterns,
)
from ..api.events import PATH as EVENTS
from ..api.events import Reader as EventReader
from ..api.session_models import PATH as SESSIONS
from ..api.session_models import Epoch, SessionId
from ..api.session_models import Reader as SessionReader
from ..auth.authenticator import require
from ..errors import Responses, documented_errors
from ..params import QueryParams, text_header
from ..routing import api_router, streamed
from ..schemas import EVENT_STREAM, MAX_POSITION
from ..watchdog import ReservedPlace, StreamWatchdog
from .stream import (
    CHUNKS,
    COMPACT_CHUNKS,
    Headers,
    SseEncoder,
    SseStream,
    StreamHeaders,
    session_headers,
    stream_headers,
)

FRAMES: dict[str, Any] = {
    "description": "The turn's chunks, or JSON with how it ended.",
    "content": EVENT_STREAM,
}
_JOINED: Responses = {
    200: {**FRAMES, "description": "Chunks as server-sent events."},
    204: {"description": "Nothing follows this place, and no turn runs or waits."},
    **documented_errors(404, 410),
}
LastEventId = Annotated[str | None, Header(alias="Last-Event-ID", pattern=r"^[0-9]{0,10}$")]


class StreamRoutes:
    """A session's stream, joined here, or begun by an execute."""

    def __init__(self, service: SessionService, limits: Limits, watch: StreamWatchdog) -> None:
        self._service = service
        self._limits = limits
        self._watch = watch

    def router(self) -> APIRouter:
        """Joins are not counted."""
        router = api_router(tag="sessions")

        @streamed(
            router,
            "GET",
            SESSIONS + "/{session_id}/stream",
            self.join,
            counted=False,
            response_class=Response,
            responses=_JOINED,
            operation_id="stream_session",
        )
        def stream(
            session_id: SessionId,
            principal: SessionReader,
            resume_from: Annotated[int | None, Query(ge=0, le=MAX_POSITION)] = None,
            turn: Annotated[int | None, Query(ge=1, le=MAX_POSITION)] = None,
            follow: bool = False,
            compact: bool = False,
            last_event_id: LastEventId = None,
            epoch: Epoch = None,
        ) -> None:
            """Join a session's stream from a position, or from the start of its current turn."""

        return router

    async def join(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET …/stream."""
        principal: Principal = scope["state"]["principal"]
        require(principal, "sessions:read")
        query: QueryParams = scope["state"]["query"]
        start = ReadFrom(
            after=query.position("resume_from", text_header(scope, b"last-event-id")),
            turn=query.number("turn", 1),
            follow=query.flag("follow"),
            compact=query.flag("compact"),
            epoch=text_header(scope, b"x-log-epoch"),
        )
        session_id: str = scope["path_params"]["session_id"]
        with self._watch.opening(principal) as place:
            await self.stream(scope, receive, send, session_id, start, place)

    async def stream(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        session_id: str,
        start: ReadFrom,
        place: ReservedPlace,
    ) -> None:
        """Answer with the chunks from there on; 204 when nothing follows and nothing is to come."""
        principal: Principal = scope["state"]["principal"]
        subscription = await self._service.subscribe(principal, session_id, start)
        if subscription is None:
            headers = session_headers(session_id, start.turn, self._service.epoch)
            await Response(status_code=204, headers=as_dict(headers))(scope, receive, send)
            return
        stream = SseStream(
            subscription,
            COMPACT_CHUNKS if start.compact else CHUNKS,
            principal,
            self._limits,
            scope=scope,
            receive=receive,
            send=send,
        )
        await stream.run(self._headers(subscription), OPENING, self._watch, place)

    def _headers(self, subscription: SessionSubscription) -> StreamHeaders:
        turn = None if subscription.turn is None else subscription.turn.turn
        epoch = self._service.epoch
        return stream_headers(subscription.session_id, turn, epoch, self._limits.heartbeat)


def as_dict(headers: Headers) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in headers}


@dataclass(frozen=True, slots=True)
class SseEventEncoder(SseEncoder):
    """Platform events, each with its cursor as id."""

    epoch: str
    as_message: bool

    def encode(self, entries: Sequence[Entry]) -> Iterable[bytes]:
        return [event_frame(e, self.epoch, as_message=self.as_message) for e in entries]

    def heartbeat(self, position: int) -> bytes:
        """With a cursor, so that a quiet subscription's place stays fresh."""
        return cursor_frame(self.epoch, position)

    def opening(self, position: int, *, gap: bool) -> bytes:
        """With a cursor: a client that is cut off before the first event comes back to this place.
        `gap`: events before it are gone."""
        place = cursor_frame(self.epoch, position)
        if not gap:
            return OPENING + place
        notice = orjson.dumps({"type": "gap", "earliest": cursor_of(self.epoch, position)})
        return OPENING + frame_without_id("gap", notice) + place


class EventStreamRoutes:
    """Plain ASGI, since these are many: a framework's request costs more than the event."""

    def __init__(self, service: EventService, limits: Limits, watch: StreamWatchdog) -> None:
        self._service = service
        self._limits = limits
        self._watch = watch

    def router(self) -> APIRouter:
        router = api_router(tag="events")

        @streamed(
            router,
            "GET",
            EVENTS + "/subscribe",
            self.subscribe,
            counted=False,
            response_class=Response,
            responses={
                200: {
                    "description": "Events as server-sent events; the id is the cursor.",
                    "content": EVENT_STREAM,
                },
                **documented_errors(410),
            },
            operation_id="subscribe_events",
        )
        def subscribe(
            principal: EventReader,
            events: Patterns = None,
            filters: FiltersText = None,
            since: Since = None,
            event_name: Annotated[str | None, Query(pattern="^message$")] = None,
            on_expired: Annotated[str | None, Query(pattern="^earliest$")] = None,
            last_event_id: Annotated[
                str | None, Header(alias="Last-Event-ID", max_length=200)
            ] = None,
        ) -> None:
            """Follow events from now, or from a place without loss."""

        return router

    async def subscribe(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /v1/events/subscribe."""
        principal: Principal = scope["state"]["principal"]
        require(principal, "events:read")
        with self._watch.opening(principal) as place:
            stream, headers, opening = await self._subscribed(principal, scope, receive, send)
            await stream.run(headers, opening, self._watch, place)

    async def _subscribed(
        self, principal: Principal, scope: Scope, receive: Receive, send: Send
    ) -> tuple[SseStream, StreamHeaders, bytes]:
        """The stream that the query asks for, the headers of its answer, and its first bytes."""
        query: QueryParams = scope["state"]["query"]
        service = self._service
        selection = service.select(
            principal,
            events=split_patterns(query.text("events", MAX_TEXT)),
            filters=parse_filters(query.text("filters", MAX_TEXT), self._limits),
        )
        name = query.text("event_name", 20)
        if name not in {None, "message"}:
            raise InvalidRequest.field("event_name", "can only be message")
        on_expired = query.text("on_expired", 20)
        if on_expired not in {None, "earliest"}:
            raise InvalidRequest.field("on_expired", "can only be earliest")
        last = text_header(scope, b"last-event-id") or query.last_event_id()
        after, expired = await service.place(
            principal,
            last or query.text("since", 200),
            expired_ok=on_expired == "earliest",
            name="Last-Event-ID" if last else "since",
        )
        subscription = service.subscribe(principal, selection, after)
        encoder = SseEventEncoder(service.epoch, as_message=name == "message")
        stream = SseStream(
            subscription, encoder, principal, self._limits, scope=scope, receive=receive, send=send
        )
        own = [(b"x-log-epoch", service.epoch.encode())]
        headers = StreamHeaders.of(own, self._limits.heartbeat)
        return stream, headers, encoder.opening(after, gap=expired)
