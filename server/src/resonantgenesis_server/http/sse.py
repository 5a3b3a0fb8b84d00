"""Server-sent events over plain ASGI: a view of a session, written as its client takes it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable

import orjson
from starlette.types import Receive, Scope, Send

from ..codec.sse import HEARTBEAT, OPENING, chunk_frame, frame_without_id
from ..feed.compact import compact
from ..log.base import Entry, LogError
from ..model.errors import ApiError, Unavailable
from ..model.limits import Limits
from ..model.principal import Principal
from ..runs.view import View
from .protocol import transport_of
from .watch import Watch

Headers = list[tuple[bytes, bytes]]


def stream_headers(session_id: str, turn: int | None, epoch: str, heartbeat: float) -> Headers:
    """The headers of a session's stream, PROTOCOL.md, section 4."""
    return [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache, no-transform"),
        (b"x-accel-buffering", b"no"),
        *session_headers(session_id, turn, epoch),
        (b"x-heartbeat-seconds", b"%d" % math.ceil(heartbeat)),
    ]


def session_headers(session_id: str, turn: int | None, epoch: str) -> Headers:
    """Which session, turn and history an answer is about."""
    headers = [(b"x-session-id", session_id.encode()), (b"x-log-epoch", epoch.encode())]
    return headers if turn is None else [*headers, (b"x-turn", b"%d" % turn)]


class SseStream:
    """One client reading a view; `run` returns when the stream is over, whoever ended it."""

    def __init__(
        self,
        view: View,
        principal: Principal,
        limits: Limits,
        *,
        compacted: bool,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self.principal = principal
        self._view = view
        self._limits = limits
        self._compacted = compacted
        self._receive = receive
        self._send = send
        self._transport = transport_of(scope)
        self._error: ApiError | None = None
        self._gone = False
        self._moved = 0.0
        self._unsent = 0

    async def run(self, headers: Headers, watch: Watch) -> None:
        """Write until the view ends, the client leaves or the credential ends."""
        disconnect = asyncio.create_task(self._wait_for_disconnect())
        watch.add(self)
        try:
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._write(OPENING)
            try:
                await self._write_view()
            except LogError:
                self._error = Unavailable("the log cannot be read right now", retry_after=1)
            except ApiError as error:
                self._error = error
            if not self._gone:
                await self._close()
        finally:
            watch.discard(self)
            disconnect.cancel()
            await asyncio.wait({disconnect}, timeout=5)

    async def _write_view(self) -> None:
        async for entries in self._view.batches(self._limits.heartbeat):
            if self._gone or self._error is not None:
                return
            if not entries:
                await self._write(HEARTBEAT)
            else:
                await self._write_entries(compact(entries) if self._compacted else entries)

    async def _write_entries(self, entries: Iterable[Entry]) -> None:
        """In slices, since the server waits for a slow client only between two writes."""
        frames: list[bytes] = []
        size = 0
        for entry in entries:
            frame = chunk_frame(entry)
            frames.append(frame)
            size += len(frame)
            if size >= self._limits.unsent:
                await self._write(b"".join(frames))
                frames, size = [], 0
                if self._gone:
                    return
        if frames:
            await self._write(b"".join(frames))

    async def _write(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def _close(self) -> None:
        last = b"" if self._error is None else _error_frame(self._error)
        await self._send({"type": "http.response.body", "body": last, "more_body": False})

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        self._gone = True
        self._view.stop()

    # -- called by the watch ---------------------------------------------------------------

    def end(self, error: ApiError) -> None:
        self._error = error
        self._view.stop()

    def check_progress(self, now: float) -> None:
        transport = self._transport
        if transport is None:
            return
        unsent = transport.get_write_buffer_size()
        if unsent == 0 or unsent != self._unsent:
            self._unsent, self._moved = unsent, now
        elif now - self._moved >= self._limits.stall:
            transport.abort()
            self._leave()


def _error_frame(error: ApiError) -> bytes:
    """No part of the log, hence without an id: a client's place stays what it was."""
    body: dict[str, object] = {
        "type": "error",
        "code": error.code,
        "message": error.message,
        "retryable": error.retryable,
    }
    if error.details:
        body["details"] = error.details
    if error.retry_after is not None:
        body["retry_after"] = error.retry_after
    return frame_without_id("error", orjson.dumps(body))
