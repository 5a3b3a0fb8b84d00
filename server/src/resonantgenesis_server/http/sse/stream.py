"""Server-sent events over plain ASGI: a log, written as fast as its client takes it."""

from __future__ import annotations

import asyncio
import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple, cast

import orjson
import structlog
from starlette.types import Message, Receive, Scope, Send

from ...codec.sse import HEARTBEAT, chunk_frame, frame_without_id
from ...feed.compact import compact
from ...feed.encoder import Encoder
from ...feed.hub import Write
from ...feed.subscription import Subscription
from ...log.base import Entry, LogError
from ...model.errors import ApiError, Unavailable
from ...model.limits import Limits
from ...model.principal import Principal
from ..serving.http_connection import connection_of
from ..serving.stream_connection import StreamConnection, chunked, header_lines
from ..watchdog import INTERVAL, ReservedPlace, StreamWatchdog


class SseEncoder(Encoder):
    """The encoder of a stream: its frames, live in chunked encoding."""

    __slots__ = ()

    #: A client may take the clean end of the body for the end of the turn.
    cuts: ClassVar[bool] = False

    async def prepare(self, entries: Sequence[Entry]) -> None:
        """Fetch what the frames of these entries need and the entries do not have."""

    @abstractmethod
    def heartbeat(self, position: int) -> bytes:
        """The bytes after a silence, for a client that has everything up to `position`."""

    def live(self, entries: Sequence[Entry]) -> bytes | None:
        return chunked(b"".join(self.encode(entries)))


@dataclass(frozen=True, slots=True)
class SseChunkEncoder(SseEncoder):
    """A session's chunks."""

    compacted: bool

    def encode(self, entries: Sequence[Entry]) -> Iterable[bytes]:
        return map(chunk_frame, compact(entries) if self.compacted else entries)

    def live(self, entries: Sequence[Entry]) -> bytes | None:
        # Whether a subscription ends with such a chunk is for its range to say.
        for entry in entries:
            if entry.kind in ENDING:
                return None
        if len(entries) == 1:  # nearly always
            return chunked(chunk_frame(entries[0]))
        return SseEncoder.live(self, entries)

    def heartbeat(self, position: int) -> bytes:
        return HEARTBEAT


#: Kinds of chunks with which a stream may end.
ENDING = frozenset({"done", "waiting"})

#: All streams of chunks share these.
CHUNKS = SseChunkEncoder(compacted=False)
COMPACT_CHUNKS = SseChunkEncoder(compacted=True)

log_ = structlog.get_logger("resonantgenesis.streams")
Headers = Sequence[tuple[bytes, bytes]]

#: Seconds that a client whose stream was ended has to take bytes, before it is cut off.
_LAST_WORDS = 1.0


class StreamHeaders(NamedTuple):
    """The headers of a stream's answer, for ASGI and as the lines of its head."""

    pairs: Headers
    lines: bytes

    @classmethod
    def of(cls, own: Headers, heartbeat: float) -> StreamHeaders:
        """Those of every stream, and the `own` ones of this stream."""
        pairs = (
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache, no-transform"),
            (b"x-accel-buffering", b"no"),
            *own,
            (b"x-heartbeat-seconds", b"%d" % math.ceil(heartbeat)),
        )
        return cls(pairs, header_lines(pairs))


@lru_cache(256)
def stream_headers(
    session_id: str, turn: int | None, epoch: str, heartbeat: float
) -> StreamHeaders:
    """The headers of a session's stream, PROTOCOL.md, section 4. Its viewers share them."""
    return StreamHeaders.of(session_headers(session_id, turn, epoch), heartbeat)


def session_headers(session_id: str, turn: int | None, epoch: str) -> Headers:
    """Which session, turn and history an answer is about."""
    headers = [(b"x-session-id", session_id.encode()), (b"x-log-epoch", epoch.encode())]
    return headers if turn is None else [*headers, (b"x-turn", b"%d" % turn)]


class SseStream:
    """One client that reads a subscription, and the sink of its live entries."""

    kind: ClassVar[str] = "sse"
    # A stream stays open for hours, and there are many.
    __slots__ = (
        "_broadcasts", "_connection", "_error", "_extra", "_gone", "_limits", "_moved", "_parked",
        "_patience", "_quiet_since", "_receive", "_request", "_request_id", "_send",
        "_subscription", "_task", "_unsent", "_watch", "encoder", "principal",
    )  # fmt: skip

    def __init__(
        self,
        subscription: Subscription,
        encoder: SseEncoder,
        principal: Principal,
        limits: Limits,
        *,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self.principal = principal
        self.encoder = encoder
        self._subscription = subscription
        self._limits = limits
        self._receive = receive
        self._send = send
        #: The gateway's headers, which it adds by itself to an answer through `send`.
        self._extra: Headers = scope["state"].get("headers", [])
        self._request_id: str = scope["state"].get("request_id", "")
        #: The connection on which the stream can begin, and the one that it is written to.
        self._request = connection_of(scope)
        self._connection: StreamConnection | None = None
        self._error: ApiError | None = None
        self._gone = False
        self._watch: StreamWatchdog | None = None
        self._task: asyncio.Task[None] | None = None
        self._parked = False
        #: What the group had been written when this was last looked at.
        self._broadcasts = 0
        self._quiet_since = 0.0
        self._moved = 0.0
        self._unsent = 0
        self._patience = limits.stall
        subscription.shows_asides = True
        if self._request is not None:
            subscription.write_to(self)

    async def run(
        self, headers: StreamHeaders, opening: bytes, watch: StreamWatchdog, place: ReservedPlace
    ) -> None:
        """Write `opening`, then the entries, until the subscription, the client or the credential
        ends.

        On our own protocol class it returns as soon as the client has everything; the stream
        stays, without a task, and makes one when there is more to do than to pass on bytes.
        """
        disconnect = None
        try:
            self._enter(watch, place)
            if self._request is None:
                disconnect = asyncio.create_task(self._wait_for_disconnect())
                start = {"type": "http.response.start", "status": 200, "headers": headers.pairs}
                await self._send(start)
                await self._write(opening)
            elif not self._gone:
                self._begin(headers.lines, opening)
            await self._go_on()
        finally:
            if not self._parked:
                self._forget()
                self._drop()
            if disconnect is not None:
                disconnect.cancel()
                await asyncio.wait({disconnect}, timeout=5)

    def _enter(self, watch: StreamWatchdog, place: ReservedPlace) -> None:
        self._watch = watch
        watch.add(self, place)
        if self._request is not None and self._request.lost:  # before anybody listened
            self.left()

    def _begin(self, lines: bytes, first: bytes) -> None:
        """What only the request needed is given back: a stream stays open for hours."""
        if self._request is not None:
            self._connection = self._request.begin(lines + header_lines(self._extra), first)
            self._connection.listener = self
            self._request, self._receive, self._send = None, nothing_more, nowhere
            self._extra = ()

    async def _go_on(self) -> None:
        """Write until the stream is over or parked."""
        subscription, silence = self._subscription, self._limits.heartbeat
        try:
            while (entries := await subscription.advance(silence)) is not None:
                if self._gone or self._error is not None:
                    break
                if entries:
                    await self.encoder.prepare(entries)
                    await self._write_frames(list(self.encoder.encode(entries)))
                else:
                    await self._write(self.encoder.heartbeat(subscription.reached))
        except LogError:
            self._error = Unavailable("the log cannot be read right now", retry_after=1)
        except ApiError as error:
            self._error = error
        if self._gone:
            return
        if self._connection is not None and subscription.parked and self._error is None:
            self._park()
            return
        await self._close()

    def _park(self) -> None:
        self._parked = True
        self._broadcasts = -1  # the next look counts the silence

    # -- a sink ---------------------------------------------------------------------------

    @property
    def write(self) -> Write:
        if self._connection is None:
            raise RuntimeError("this server has no way past its `send`")
        return self._connection.transport.write

    @property
    def ready(self) -> bool:
        return self._connection is not None and self._connection.ready

    def wake(self) -> None:
        """There is something to do for a task."""
        self._take_state()
        if self._task is None:
            self._task = asyncio.create_task(self._resume(), name="stream")

    async def _resume(self) -> None:
        self._parked = False
        try:
            await self._go_on()
        except Exception as error:  # nobody awaits this task, and the client must not wait either
            # No request has woken the stream, so the log's context does not have the id.
            log_.error(
                "stream failed",
                request_id=self._request_id,
                key_id=self.principal.key_id,
                exc_info=error,
            )
        finally:
            self._task = None
            if not self._parked:
                self._forget()
                self._drop()

    def _forget(self) -> None:
        self._subscription.close()
        if self._watch is not None:
            self._watch.discard(self)
        if self._connection is not None:
            self._connection.listener = None

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.drop()

    async def _write_frames(self, frames: list[bytes]) -> None:
        """In slices, since the server waits for a slow client only between two writes."""
        limit = self._limits.unsent
        if sum(map(len, frames)) <= limit:  # nearly always
            await self._write(b"".join(frames))
            return
        waiting: list[bytes] = []
        size = 0
        for frame in frames:
            waiting.append(frame)
            size += len(frame)
            if size >= limit:
                await self._write(b"".join(waiting))
                waiting, size = [], 0
                if self._gone:
                    return
        if waiting:
            await self._write(b"".join(waiting))

    async def _write(self, data: bytes) -> None:
        if not data:  # entries without a frame; an empty part would end the response
            return
        connection = self._connection
        if connection is None:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
            return
        if connection.full:
            await connection.drain()
        connection.write(data)

    def _take_state(self) -> None:
        """Go on with the state of the group's encoder, which has encoded meanwhile."""
        group = self._subscription.group
        if group is not None:
            self._subscription.group = None
            self.encoder = cast(SseEncoder, group.encoder).copy()

    async def _close(self) -> None:
        if self._error is not None and self.encoder.cuts:
            self._cut(self._error)
            return
        last = b"" if self._error is None else _error_frame(self._error)
        if self._connection is None:
            await self._send({"type": "http.response.body", "body": last, "more_body": False})
        else:
            await self._connection.drain()
            self._connection.finish(last)

    def _cut(self, error: ApiError) -> None:
        """End without the last chunk of the body. A foreign server gives us no other way to it than
        an error."""
        if self._connection is None:
            raise error
        self._connection.cut()

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.left()

    # -- called by the connection ------------------------------------------------------------

    def filled(self) -> None:
        """More is unsent than the bound: nothing is written until the client has taken some."""
        self._subscription.unpark()
        if self._parked:
            self._take_state()

    def left(self) -> None:
        """The client has left."""
        self._gone = True
        if self._parked and self._task is None:
            self._forget()
        else:
            self._subscription.stop()

    # -- called by the watch ---------------------------------------------------------------

    def end(self, error: ApiError) -> None:
        self._error = error
        # A client that takes nothing must not hold up a revocation or a stop.
        self._patience = min(self._limits.stall, _LAST_WORDS)
        self._subscription.stop()
        if self._parked:
            self.wake()

    def check_progress(self, now: float) -> None:
        connection = self._connection
        if connection is None:
            return
        unsent = connection.transport.get_write_buffer_size()
        # What grows shows only that we have written, unless nothing waited before.
        if not unsent or not self._unsent or unsent < self._unsent:
            self._moved = now
        self._unsent = unsent
        if now - self._moved >= self._patience:
            connection.transport.abort()
            self.left()
        elif self._parked and not connection.full:
            self._beat(connection, now)

    def _beat(self, connection: StreamConnection, now: float) -> None:
        """The heartbeat of a stream without a task. What was written since the last look may
        have been written right after it, so silence is counted from there."""
        broadcasts = self._broadcast_count()
        if broadcasts != self._broadcasts:
            self._broadcasts = broadcasts
            self._quiet_since = now - INTERVAL
        elif now - self._quiet_since + INTERVAL > self._limits.heartbeat:
            connection.write(self.encoder.heartbeat(self._subscription.reached))
            self._quiet_since = now

    def _broadcast_count(self) -> int:
        group = self._subscription.group
        return 0 if group is None else group.broadcasts


async def nothing_more() -> Message:
    """`receive` of a stream that the server knows no more of."""
    return {"type": "http.disconnect"}


async def nowhere(_message: Message) -> None:
    """`send` of the same."""


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
