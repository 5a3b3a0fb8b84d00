"""The event routes that many call at once: the stream, and publishing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson
from starlette.types import Receive, Scope, Send

from ...codec.events import cursor_frame, cursor_of, event_frame
from ...codec.sse import OPENING, frame_without_id
from ...events.service import EventService, EventView
from ...log.base import Entry
from ...model.errors import InvalidRequest
from ...model.limits import Limits
from ...model.principal import Principal
from ...sessions.idempotency import check_key
from ..api.events import MAX_TEXT, PATH, PublishBody, json_response, parse_filters, split_patterns
from ..api.session_models import validated
from ..auth.authenticator import require
from ..body import read_json
from ..middleware import FastRoute, fast_route
from ..params import QueryParams, text_header
from ..watchdog import Watch
from .forms import SseForm
from .stream import Headers, SseStream


@dataclass(frozen=True, slots=True)
class EventForm(SseForm):
    """Platform events, each with its cursor as id."""

    epoch: str
    as_message: bool

    def encode(self, entries: Sequence[Entry]) -> Iterable[bytes]:
        return [event_frame(e, self.epoch, as_message=self.as_message) for e in entries]


class EventFrames:
    """A stream of platform events; `gap_before`: what came before that place is gone."""

    def __init__(self, view: EventView, form: EventForm, gap_before: int | None) -> None:
        self.form = form
        self._view = view
        self._epoch = form.epoch
        self._gap_before = gap_before

    def opening(self) -> bytes:
        """With a cursor: who is cut off before the first event comes back to this place, and not
        to what is now by then."""
        place = cursor_frame(self._epoch, self._view.reached)
        if self._gap_before is None:
            return OPENING + place
        earliest = cursor_of(self._epoch, self._gap_before)
        gap = orjson.dumps({"type": "gap", "earliest": earliest})
        return OPENING + frame_without_id("gap", gap) + place

    def heartbeat(self) -> bytes:
        return cursor_frame(self._epoch, self._view.reached)


class EventRoutes:
    """Plain ASGI, since these are many: a framework's request costs more than the event."""

    def __init__(self, service: EventService, limits: Limits, watch: Watch) -> None:
        self._service = service
        self._limits = limits
        self._watch = watch

    def routes(self) -> list[FastRoute]:
        return [
            fast_route("GET", PATH + "/subscribe", self.subscribe, counted=False),
            fast_route("POST", PATH, self.publish),
        ]

    async def subscribe(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /v1/events/subscribe."""
        principal: Principal = scope["state"]["principal"]
        require(principal, "events:read")
        with self._watch.opening(principal):
            stream, headers = await self._subscribed(principal, scope, receive, send)
        await stream.run(headers, self._watch)

    async def _subscribed(
        self, principal: Principal, scope: Scope, receive: Receive, send: Send
    ) -> tuple[SseStream, Headers]:
        """The stream that the query asks for, and the headers of its answer."""
        query, service = QueryParams(scope), self._service
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
        view = service.view(principal, selection, after)
        form = EventForm(service.epoch, as_message=name == "message")
        frames = EventFrames(view, form, gap_before=after if expired else None)
        stream = SseStream(
            view, frames, principal, self._limits, scope=scope, receive=receive, send=send
        )
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache, no-transform"),
            (b"x-accel-buffering", b"no"),
            (b"x-log-epoch", service.epoch.encode()),
            (b"x-heartbeat-seconds", b"%d" % round(self._limits.heartbeat + 0.5)),
        ]
        return stream, headers

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
        await json_response(made, 201)(scope, receive, send)
