"""`/v1/sessions/{id}/durable`: a session, or one turn of it, as a stream of Durable Streams.

The stream is for reading alone: its writer is the agent.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...codec.sse import OPENING
from ...http.api.session_models import PATH, Reader, SessionId, TurnNumber
from ...http.auth.authenticator import require
from ...http.errors import documented_errors
from ...http.params import text_header
from ...http.routing import api_router, streamed
from ...http.schemas import EVENT_STREAM
from ...http.sse.stream import SseStream, StreamHeaders, session_headers
from ...http.transfer import has_already
from ...http.waiting import Held, waiting
from ...log.base import Entry, stream_info
from ...model.errors import InvalidRequest
from ...model.principal import Principal
from ...sessions.range import ReadFrom, checked_position, turn_at
from ...sessions.state import SessionState, TurnState
from ..streams import ClientStreams
from .encode import DurableEncoder, array, cursor_after, offset_of, parse_offset

#: Chunks of one answer, and seconds of a long poll.
_PAGE, _WAIT = 1_000, 25.0
_LIVE = {None, "long-poll", "sse"}


@dataclass(slots=True)
class _View:
    """A reader's place in a stream. `after`: it has everything up to this position; `tail`: the
    last position that there was."""

    session_id: str
    state: SessionState
    turn: TurnState | None
    after: int
    tail: int

    @property
    def closed(self) -> bool:
        """Whether the reader has the whole turn, and nothing more will come."""
        return self.turn is not None and 0 < self.turn.last <= self.after

    @property
    def queued(self) -> bool:
        """Whether the turn has not begun. It has no position yet."""
        return self.turn is not None and not self.turn.first

    @property
    def is_up_to_date(self) -> bool:
        return self.closed or self.queued or self.after >= self.tail

    @property
    def start(self) -> ReadFrom:
        """Where a subscription begins."""
        return ReadFrom(
            after=None if self.queued else self.after,
            turn=None if self.turn is None else self.turn.turn,
            follow=self.turn is None,
            waits=True,
        )

    def cut(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Those of the turn."""
        turn = self.turn
        if turn is None:
            return entries
        last = turn.last or self.tail
        return [entry for entry in entries if turn.first and turn.first <= entry.position <= last]


class DurableRoutes:
    """The routes of a stream that the official client reads."""

    def __init__(self, streams: ClientStreams) -> None:
        self._streams = streams
        self._service = streams.service

    def router(self) -> APIRouter:
        router = api_router(tag="clients")
        content: dict[str, Any] = {
            "application/json": {"schema": {"type": "array", "items": {"type": "object"}}},
            **EVENT_STREAM,
        }
        answers: dict[int | str, dict[str, Any]] = {
            200: {"description": "Chunks, and where to go on.", "content": content},
            204: {"description": "A long poll without a chunk."},
            304: {"description": "The client has this page."},
            **documented_errors(404, 410),
        }

        @streamed(
            router, "HEAD", PATH + "/{session_id}/durable", self.head, include_in_schema=False
        )
        @streamed(
            router,
            "GET",
            PATH + "/{session_id}/durable",
            self.read,
            response_class=Response,
            responses=answers,
            operation_id="read_durable_stream",
        )
        def read(
            session_id: SessionId,
            principal: Reader,
            offset: Annotated[str | None, Query(max_length=60)] = None,
            live: Annotated[str | None, Query(description="long-poll or sse")] = None,
            cursor: Annotated[str | None, Query(max_length=20)] = None,
            turn: Annotated[TurnNumber | None, Query()] = None,
            if_none_match: Annotated[str | None, Header()] = None,
        ) -> None:
            """Read a session, or one turn, as the client of Durable Streams does."""

        return router

    async def head(self, scope: Scope, receive: Receive, send: Send) -> None:
        """HEAD: where the stream ends now."""
        view = await self._view(scope, "now")
        await Response(b"", headers=self._headers(view, []))(scope, receive, send)

    async def read(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = scope["state"]["query"]
        live, cursor = query.text("live", 20), query.text("cursor", 20)
        if live not in _LIVE:
            raise InvalidRequest.field("live", "is long-poll or sse")
        view = await self._view(scope, query.text("offset", 60) or "-1")
        if live == "sse":
            await self._stream(scope, receive, send, view, cursor_after(cursor))
            return
        began = view.after
        entries = await self._page(view)
        if live and not entries and not view.closed:
            async with waiting(scope, receive, self._streams.watch) as caller:
                entries = await self._next(view, _WAIT, caller)
        headers = self._headers(view, entries)
        if live:
            headers["Stream-Cursor"] = cursor_after(cursor)
        else:
            headers |= _caching(view, began)
        if live and not entries:
            await Response(status_code=204, headers=headers)(scope, receive, send)
        elif has_already(text_header(scope, b"if-none-match"), headers.get("ETag", "")):
            await Response(status_code=304, headers=headers)(scope, receive, send)
        else:
            answer = Response(array(entries), headers=headers, media_type="application/json")
            await answer(scope, receive, send)

    async def _view(self, scope: Scope, offset: str) -> _View:
        """The reader's place. Raises ApiError."""
        principal: Principal = scope["state"]["principal"]
        require(principal, "sessions:read")
        session_id = scope["path_params"]["session_id"]
        number = scope["state"]["query"].number("turn", 1)
        state = await self._service.authorize(principal, session_id)
        info = await stream_info(self._service.states.log, session_id)
        head, earliest = (0, 1) if info is None else (info.head, info.earliest)
        turn = None if number is None else turn_at(state, ReadFrom(turn=number))
        begins = turn.first - 1 if turn is not None and turn.first else 0
        tail = max(head, state.told)
        if turn is not None and turn.last:
            tail = turn.last
        epoch, after = None, begins
        if offset == "now":
            after = tail
        elif offset != "-1":
            after, epoch = parse_offset(offset)
        after = max(after, begins)
        start = ReadFrom(after=after, epoch=epoch)
        checked_position(
            state, start, after, head=max(head, state.told), earliest=earliest,
            epoch=self._service.epoch,
        )  # fmt: skip
        return _View(session_id, state, turn, after, tail)

    async def _page(self, view: _View) -> Sequence[Entry]:
        """The chunks that there are, a page of them; the view moves on behind them."""
        page = await self._service.states.log.read(view.session_id, view.after, limit=_PAGE)
        if page.info is not None:
            view.tail = page.info.head
        return await self._taken(view, page.entries)

    async def _next(self, view: _View, seconds: float, caller: Held) -> Sequence[Entry]:
        """The next chunks, for which it waits."""
        principal = caller.principal
        subscription = await self._service.subscribe(principal, view.session_id, view.start)
        if subscription is None:
            return []
        subscription.caller = caller
        async with aclosing(subscription.batches(seconds)) as batches:
            entries: Sequence[Entry] = await anext(batches, [])
        await self._service.authorize(principal, view.session_id)  # else it was deleted
        view.tail = max(view.tail, entries[-1].position if entries else 0)
        return await self._taken(view, [entry for entry in entries if entry.position])

    async def _taken(self, view: _View, entries: Sequence[Entry]) -> Sequence[Entry]:
        await self._service.states.keep_up(view.session_id, entries, view.state)
        shown = view.cut(entries)
        if shown:
            view.after = shown[-1].position
        return shown

    async def _stream(
        self, scope: Scope, receive: Receive, send: Send, view: _View, cursor: str
    ) -> None:
        principal: Principal = scope["state"]["principal"]
        number = 0 if view.turn is None else view.turn.turn
        tail = view.after if view.is_up_to_date else view.tail
        encoder = DurableEncoder(self._service.epoch, number, tail, cursor)
        opening = OPENING
        if view.is_up_to_date:
            opening += encoder.control(view.after, closed=view.closed)
        with self._streams.watch.opening(principal) as place:
            subscription = await self._service.subscribe(principal, view.session_id, view.start)
            if subscription is None:  # the turn is over, and the reader has it
                answer = Response(opening, headers=_NO_STORE, media_type="text/event-stream")
                await answer(scope, receive, send)
                return
            stream = SseStream(
                subscription,
                encoder,
                principal,
                self._streams.limits,
                scope=scope,
                receive=receive,
                send=send,
            )
            headers = session_headers(view.session_id, number or None, self._service.epoch)
            answered = StreamHeaders.of(headers, self._streams.limits.heartbeat)
            await stream.run(answered, opening, self._streams.watch, place)

    def _headers(self, view: _View, entries: Sequence[Entry]) -> dict[str, str]:
        headers = {
            "Stream-Next-Offset": offset_of(view.after, self._service.epoch),
            "Content-Type": "application/json",
            **_NO_STORE,
        }
        if view.is_up_to_date:
            headers["Stream-Up-To-Date"] = "true"
        if view.closed:
            headers["Stream-Closed"] = "true"
        return headers


_NO_STORE = {"Cache-Control": "no-store"}


def _caching(view: _View, began: int) -> dict[str, str]:
    """A page stays what it is, but the next one may be asked for in its place."""
    number = 0 if view.turn is None else view.turn.turn
    etag = f'"{view.session_id}.{number}.{began}.{view.after}.{int(view.closed)}"'
    return {"Cache-Control": "private, no-cache", "ETag": etag}
