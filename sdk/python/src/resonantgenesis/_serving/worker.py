"""The worker: it keeps a socket, takes turns, and gives their chunks to the server."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket as sockets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote, urlsplit

from .._core.messages import new_key
from .._core.retry import Backoff, RetryBudget
from .._core.settings import Settings
from .._realtime.websocket import WebSocket, open_socket
from ..errors import CODES, ConnectionLost, NotFound, StreamError
from .assignments import Assignment
from .handlers import Handler

log = logging.getLogger("resonantgenesis.serving")

DEFAULT_CAPACITY = 8
DEFAULT_DRAIN = 30.0
#: Bytes of a message of the server: a turn with a long history.
_MAX_SIZE = 32 * 1024 * 1024
#: Seconds that a send may take.
_SEND_SECONDS = 30.0
#: Waits before the attempts after a loss.
_BACKOFF = Backoff(0.25, 5.0)
#: Heartbeats that may be missing before the link counts as dead.
_BEATS = 3


class Worker:
    """Serves one agent with `handler`, from `run` until it is drained or cancelled.

    It keeps its socket for as long as that takes. Only an error that a retry cannot help ends it,
    and a first connection that cannot be made within the client's `max_retries`.
    """

    def __init__(
        self,
        settings: Settings,
        agent_id: str,
        handler: Handler,
        *,
        capacity: int = DEFAULT_CAPACITY,
        name: str | None = None,
        drain_seconds: float = DEFAULT_DRAIN,
    ) -> None:
        """`capacity`: turns at once. `name`: for people. `drain_seconds`: what turns get to end."""
        if capacity < 1:
            raise ValueError("capacity must be 1 or more")
        self.id = f"wrk_{new_key()}"
        self.agent_id = agent_id
        self._settings = settings
        self._handler = handler
        self._capacity = capacity
        self._name = name or f"{sockets.gethostname()}:{os.getpid()}"
        self._drain_seconds = drain_seconds
        self._assignments: dict[str, Assignment] = {}
        #: Assignments with something to send, in order.
        self._ready: dict[Assignment, None] = {}
        self._outbox: list[str] = []
        self._wake = asyncio.Event()
        self._is_draining = False
        self._is_drained = asyncio.Event()
        self._is_welcome = False
        self._has_served = False
        self._heartbeat, self._grace, self._window = 5.0, 10.0, 256 * 1024
        self._heard = 0.0
        self._largest = 256 * 1024
        self._refusal: StreamError | None = None
        self._fence: asyncio.TimerHandle | None = None
        self._retries = RetryBudget(settings.max_retries, settings.backoff)

    def drain(self) -> None:
        """Take no more turns. `run` returns once those that run have ended, or their time has."""
        if self._is_draining:
            return
        self._is_draining = True
        if self._is_welcome:
            self._say({"type": "drain"})
        asyncio.get_running_loop().call_later(self._drain_seconds, self._is_drained.set)
        self._look_drained()

    async def run(self) -> None:
        """Serve until drained. Raises StreamError."""
        serving = asyncio.create_task(self._serve(), name=f"worker {self.agent_id}")
        drained = asyncio.create_task(self._is_drained.wait())
        try:
            await asyncio.wait({serving, drained}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
        finally:
            drained.cancel()
            serving.cancel()
            with suppress(asyncio.CancelledError, StreamError):
                await serving
            await self._end_all()

    async def serve(self) -> None:
        """`run`. In the main thread SIGTERM and SIGINT drain the worker, a second one ends it."""
        with _signals(self, asyncio.current_task()):
            await self.run()

    def serve_here(self) -> None:
        """`serve` for callers without an event loop."""
        asyncio.run(self.serve())

    # -- the connection --------------------------------------------------------------------

    async def _serve(self) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            self._is_welcome = False
            error = await self._one_socket()
            self._fence_soon()
            if not error.retryable:
                raise error
            if not self._has_served:
                wait = self._retries.after(error)
                if wait is None:
                    raise error
                pause = wait.seconds
            else:
                failures = 0 if time.monotonic() - began > _BACKOFF.cap else failures + 1
                pause = _BACKOFF.delay(failures + 1)
            log.warning("worker of %s: %s; next attempt in %.2f s", self.agent_id, error, pause)
            await asyncio.sleep(pause)

    async def _one_socket(self) -> StreamError:
        """Connect, and serve until the socket is lost; returns the reason."""
        settings = self._settings
        try:
            socket = await open_socket(
                _url(settings.base_url, self.agent_id),
                settings.api_key,
                timeout=settings.timeouts.connect,
                max_size=_MAX_SIZE,
                compression=None,
                proxy=settings.proxy,
                place=settings.place,
            )
        except NotFound as error:
            return NotFound(
                f"{error.message} {self.agent_id!r}; an agent that workers serve is made with"
                ' client.agents.create(id=…, name=…, engine="worker")',
                code=error.code,
                request_id=error.request_id,
            )
        except StreamError as error:
            return error
        self._outbox.clear()
        self._ready.clear()
        self._refusal = None
        self._heard = time.monotonic()
        self._say(self._hello())
        tasks = [
            asyncio.create_task(self._listen(socket)),
            asyncio.create_task(self._speak(socket)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            socket.abort()  # a proper close would say that the worker leaves for good
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            await socket.close()
        if self._refusal is not None:
            return self._refusal
        for end in ends:
            if isinstance(end, StreamError):
                return end
            if end is not None and not isinstance(end, asyncio.CancelledError):
                raise end
        return ConnectionLost("the link does not answer")

    def _hello(self) -> dict[str, Any]:
        return {
            "type": "hello",
            "worker_id": self.id,
            "name": self._name[:200],
            "capacity": self._capacity,
            "assignments": [
                {"assignment": each.id, "is_over": each.is_over}
                for each in self._assignments.values()
            ],
        }

    async def _listen(self, socket: WebSocket) -> None:
        while True:
            text = await socket.receive()
            self._heard = time.monotonic()
            self._understand(json.loads(text))

    async def _speak(self, socket: WebSocket) -> None:
        while True:
            self._wake.clear()
            outbox, self._outbox = self._outbox, []
            for message in outbox:
                await socket.send(message, _SEND_SECONDS)
            while self._ready and self._is_welcome:
                assignment = next(iter(self._ready))
                del self._ready[assignment]
                for message in assignment.messages():
                    await socket.send(message, _SEND_SECONDS)
            if self._outbox:
                continue
            try:
                async with asyncio.timeout(self._heartbeat):
                    await self._wake.wait()
            except TimeoutError:
                if time.monotonic() - self._heard > _BEATS * self._heartbeat:
                    socket.abort()
                    return
                self._say({"type": "heartbeat"})

    def _say(self, message: dict[str, Any]) -> None:
        self._outbox.append(json.dumps(message))
        self._wake.set()

    # -- what the server says --------------------------------------------------------------

    def _understand(self, message: dict[str, Any]) -> None:
        match message.get("type"):
            case "welcome":
                self._welcome(message)
            case "assign":
                self._assign(message["assignment"], message["turn"])
            case "ack":
                assignment = self._assignments.get(message["assignment"])
                if assignment is not None:
                    assignment.acked(message["seq"])
                    self._look_done(assignment)
            case "cancel":
                self._cancel(message["assignment"])
            case "error":
                # Sent again, the message would be refused again.
                kind, retryable = CODES.get(message["code"], (StreamError, False))
                self._refusal = kind(message["message"], code=message["code"], retryable=retryable)

    def _welcome(self, message: dict[str, Any]) -> None:
        self._heartbeat = message["heartbeat_seconds"]
        self._grace = message["grace_seconds"]
        self._window = message["window_bytes"]
        self._largest = message["message_bytes"]
        self._has_served = self._is_welcome = True
        if self._fence is not None:
            self._fence.cancel()
            self._fence = None
        kept = {each["assignment"]: each["seq"] for each in message["assignments"]}
        for assignment in list(self._assignments.values()):
            if assignment.id in kept:
                assignment.resumed(kept[assignment.id])
                self._look_done(assignment)
            elif assignment.is_wanted:
                self._cancel(assignment.id)
        if self._is_draining:
            self._say({"type": "drain"})
        log.info("worker of %s: connected as %s", self.agent_id, self.id)
        self._wake.set()

    def _assign(self, id: str, turn: dict[str, Any]) -> None:
        if id in self._assignments:
            return
        assignment = self._assignments[id] = Assignment(
            id,
            turn,
            self._handler,
            self._window,
            self._largest,
            self._to_send,
            self._look_done,
        )
        assignment.start()

    def _cancel(self, id: str) -> None:
        assignment = self._assignments.get(id)
        if assignment is None:
            self._say({"type": "ended", "assignment": id})
            return
        assignment.cancel()
        self._look_done(assignment)

    # -- called by assignments -------------------------------------------------------------

    def _to_send(self, assignment: Assignment) -> None:
        if self._is_welcome:
            self._ready[assignment] = None
            self._wake.set()

    def _look_done(self, assignment: Assignment) -> None:
        if not assignment.is_done or assignment.id not in self._assignments:
            return
        del self._assignments[assignment.id]
        self._ready.pop(assignment, None)
        if not assignment.is_wanted and self._is_welcome:
            self._say({"type": "ended", "assignment": assignment.id})
        self._look_drained()

    def _look_drained(self) -> None:
        if self._is_draining and not self._assignments:
            self._is_drained.set()

    # -- endings ---------------------------------------------------------------------------

    def _fence_soon(self) -> None:
        """Without a socket for the grace, the server has given the turns up: so do we."""
        if self._fence is None and self._assignments:
            self._fence = asyncio.get_running_loop().call_later(self._grace, self._lose_all)

    def _lose_all(self) -> None:
        self._fence = None
        for assignment in list(self._assignments.values()):
            assignment.cancel()
            self._look_done(assignment)

    async def _end_all(self) -> None:
        if self._fence is not None:
            self._fence.cancel()
        left = list(self._assignments.values())
        for assignment in left:
            assignment.cancel()
        await asyncio.gather(*(assignment.ended() for assignment in left))


def _url(base_url: str, agent_id: str) -> str:
    parts = urlsplit(base_url)
    scheme = "wss" if parts.scheme == "https" else "ws"
    return f"{scheme}://{parts.netloc}{parts.path}/v1/agents/{quote(agent_id, safe='')}/serve"


@contextmanager
def _signals(worker: Worker, task: asyncio.Task[None] | None) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    heard = 0

    def stop() -> None:
        nonlocal heard
        heard += 1
        if heard == 1:
            log.warning("worker of %s: draining", worker.agent_id)
            worker.drain()
        elif task is not None:
            task.cancel()

    mine: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        with suppress(NotImplementedError, RuntimeError):
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop)
                mine.append(number)
    try:
        yield
    finally:
        for number in mine:
            loop.remove_signal_handler(number)
