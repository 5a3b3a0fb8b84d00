"""One socket of a worker: its messages go to the pool, the pool's to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

import structlog
from starlette.types import Receive

from ...agents.workers.assignment import AgentName, WorkerMessage
from ...agents.workers.pool import ConnectedWorker, HeldAssignment, WorkerPool
from ...codec.json import NotJson, loads
from ...codec.websocket import control
from ...feed.shares import LARGE, SHARED, SMALL
from ...model.errors import (
    ApiError,
    Internal,
    InvalidJson,
    InvalidRequest,
    PayloadTooLarge,
    RateLimited,
    Unauthenticated,
)
from ...model.limits import KIB, Limits
from ...model.principal import Principal
from ..watchdog import StreamWatchdog
from ..websocket.writer import AsgiTransport, SocketLost, SocketWriter
from .messages import (
    ChunksMessage,
    DrainMessage,
    EndedMessage,
    HeartbeatMessage,
    HelloMessage,
    chunks_message,
    understood,
)

log_ = structlog.get_logger("resonantgenesis.workers")

#: Close codes: a bad message, the credential has ended, no `hello` in time, the worker has another
#: socket; the server restarts, something broke.
BAD_MESSAGE, REFUSED, NO_HELLO, REPLACED = 4400, 4401, 4408, 4409
GOING_AWAY, BROKEN = 1012, 1011
#: The code with which a worker leaves for good.
LEFT = 1000
#: Bytes of messages of one assignment that may wait until they are taken. A message that was begun
#: below it may be over it.
WINDOW = 256 * KIB
#: What a small message takes beside its text.
_OVERHEAD = 64
#: Unsent bytes beyond which nothing is read from the worker.
_UNSENT = 256 * KIB
_HELLO_SECONDS = 10.0
_CLOSE_SECONDS = 5.0
#: Heartbeats in the time of a lease.
_BEATS = 3


class WorkerSocket:
    """A worker's socket. `run` returns when it is over, whoever ended it."""

    kind: ClassVar[str] = "websocket"

    def __init__(
        self,
        pool: WorkerPool,
        watch: StreamWatchdog,
        limits: Limits,
        transport: AsgiTransport,
        principal: Principal,
        agent: AgentName,
        now: Callable[[], float],
        *,
        request_id: str,
        lenient: bool,
    ) -> None:
        self.principal = principal
        self._pool = pool
        self._watch = watch
        self._limits = limits
        self._transport = transport
        self._agent = agent
        self._now = now
        self._request_id = request_id
        self._lenient = lenient
        self._loop = asyncio.get_running_loop()
        self._writer = SocketWriter(transport, _UNSENT)
        self._worker: ConnectedWorker | None = None
        self._has_left = False
        self._moved = self._loop.time()
        self._last_seen = (0, 0)

    async def run(self, receive: Receive) -> None:
        writer = asyncio.create_task(self._write(), name="worker socket")
        reader = asyncio.create_task(self._read(receive), name="worker reader")
        self._watch.add(self)
        try:
            await asyncio.wait({writer, reader}, return_when=asyncio.FIRST_COMPLETED)
            if not reader.done():  # a client that closes has a moment to do so
                await asyncio.wait({reader}, timeout=_CLOSE_SECONDS)
        finally:
            self._watch.discard(self)
            if self._worker is not None:
                self._pool.leave(self._worker, for_good=self._has_left)
            tasks = {writer, reader}
            if self._writer.closing and not writer.done():
                await asyncio.wait({writer}, timeout=_CLOSE_SECONDS)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_CLOSE_SECONDS)

    async def _write(self) -> None:
        try:
            await self._writer.run()
        except SocketLost:
            self._writer.lost()

    # -- what the worker says --------------------------------------------------------------

    async def _read(self, receive: Receive) -> None:
        silence = _HELLO_SECONDS
        while True:
            try:
                async with asyncio.timeout(silence):
                    message = await receive()
            except TimeoutError:
                self._is_silent()
                return
            if message["type"] == "websocket.disconnect":
                self._has_left = message.get("code") == LEFT and not self._writer.closing
                self._writer.lost()
                return
            if self._writer.closing:
                continue  # what comes now comes too late
            try:
                await self._take(message.get("text"))
            except ApiError as error:
                self._refuse(error)
            except Exception as error:
                log_.error("a worker's message failed", request_id=self._request_id, exc_info=error)
                self._refuse(Internal("the server failed"), BROKEN)
            silence = self._limits.worker_lease
            await self._writer.drain()

    def _is_silent(self) -> None:
        if self._worker is None:
            self._writer.close(NO_HELLO, "no hello came in time")
            return
        log_.warning(
            "a worker is silent",
            agent=self._agent[1],
            worker=self._worker.id,
            name=self._worker.name,
        )
        self._writer.lost()
        self._transport.abort()

    async def _take(self, text: str | None) -> None:
        if text is None:
            raise InvalidRequest("messages are JSON texts, not binary")
        organization_id = self.principal.organization_id
        while True:
            try:
                await SHARED.turn(organization_id)
                break
            except RateLimited:
                continue  # the worker waits; none of its chunks may be lost
        if len(text) < LARGE:
            SHARED.took(organization_id, SMALL)
            value = self._parsed(text)
        else:
            await asyncio.sleep(0)
            with SHARED.measured(organization_id):
                value = self._parsed(text)
        if isinstance(value, dict) and value.get("type") == "chunks":
            plain = chunks_message(value)
            if plain is not None:
                self._chunks(*plain, len(text))
                return
        await self._do(value, len(text))

    def _parsed(self, text: str) -> Any:
        """A result of a tool may nest and count as those of agents in this process do: the bound is
        that of the message, and of the organization's share of the loop."""
        try:
            return loads(text)
        except NotJson as error:
            raise InvalidJson(f"the message is not JSON: {error}") from None

    async def _do(self, value: object, size: int) -> None:
        message = understood(value, lenient=self._lenient)
        if isinstance(message, HelloMessage):
            await self._hello(message)
            return
        worker = self._known()
        match message:
            case ChunksMessage():
                error = None if message.error is None else message.error.model_dump()
                said = WorkerMessage(message.seq, message.chunks, message.is_last, error)
                self._chunks(message.assignment, said, size)
            case EndedMessage():
                self._pool.ended(worker, message.assignment)
            case DrainMessage():
                worker.is_draining = True
            case HeartbeatMessage():
                self._writer.put(control("heartbeat"))

    async def _hello(self, hello: HelloMessage) -> None:
        if self._worker is not None:
            raise InvalidRequest("the socket has said hello before")
        worker = ConnectedWorker(
            self._agent,
            hello.worker_id,
            hello.name,
            hello.capacity,
            self._now(),
            self._put,
            self._replaced,
        )
        held = [HeldAssignment(each.assignment, each.is_over) for each in hello.assignments]
        kept = await self._pool.join(worker, held)
        self._worker = worker
        lease = self._limits.worker_lease
        self._writer.put(
            control(
                "welcome",
                worker_id=worker.id,
                assignments=[{"assignment": id, "seq": seq} for id, seq in kept],
                heartbeat_seconds=lease / _BEATS,
                grace_seconds=self._pool.grace,
                window_bytes=WINDOW,
                message_bytes=self._limits.socket_message,
            )
        )
        log_.info(
            "a worker is there",
            agent=self._agent[1],
            worker=worker.id,
            name=worker.name,
            capacity=worker.capacity,
            resumed=len(kept),
        )
        self._pool.is_ready(worker)

    def _chunks(self, assignment: str, message: WorkerMessage, size: int) -> None:
        worker = self._known()
        size += _OVERHEAD
        if worker.sent(assignment, message.seq, size) > WINDOW + self._limits.socket_message:
            raise PayloadTooLarge("more chunks than may wait until they are taken")
        if not self._pool.take(worker, assignment, message):
            worker.cancel(assignment)

    def _known(self) -> ConnectedWorker:
        if self._worker is None:
            raise InvalidRequest('the first message must be {"type":"hello",…}')
        return self._worker

    # -- what it is told -------------------------------------------------------------------

    def _put(self, message: bytes) -> None:
        self._writer.put(message)

    def _refuse(self, error: ApiError, code: int = BAD_MESSAGE) -> None:
        details = error.details or None
        said = control("error", code=error.code, message=error.message, details=details)
        self._writer.close(code, error.message, said)

    def _replaced(self) -> None:
        """The worker is there on another socket."""
        self._writer.close(REPLACED, "the worker has another socket")

    def announce(self) -> None:
        """The server is going to stop."""
        self._writer.put(control("draining"))

    # -- called by the watch ---------------------------------------------------------------

    def end(self, error: ApiError) -> None:
        if isinstance(error, Unauthenticated):
            self._refuse(error, REFUSED)
        else:
            self._writer.close(GOING_AWAY, "the server restarts")

    def check_progress(self, now: float) -> None:
        seen = (self._transport.unsent, self._writer.writes)
        waits = self._transport.unsent > 0 or self._writer.waiting > 0
        if not waits or seen != self._last_seen:
            self._last_seen, self._moved = seen, now
        elif now - self._moved >= self._limits.stall:
            self._writer.lost()
            self._transport.abort()
