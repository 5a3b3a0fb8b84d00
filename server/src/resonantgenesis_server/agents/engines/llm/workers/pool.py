"""Engine workers: processes that ask models, so that the server's process does not pay for it.

Only the calls of models are there; tools, steps and the log stay in the server. A worker that ends
takes only its own calls with it, and is started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import sys
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

import structlog

from .....background import Backoff
from .....model.errors import AgentError
from ..calls import Delta, Finish, ModelCall, ModelClient, ModelFailure
from ..models import NO_MODEL, named
from ..settings import LlmSettings, ModelName
from .ipc import WINDOW, WorkerLink, call_json, delta_of

log_ = structlog.get_logger("resonantgenesis.llm")
_START_SECONDS = 30.0
#: A worker finds a model at once, but for the libraries that it imports then.
_FIND_SECONDS = 60.0
_STOP_SECONDS = 10.0
_RESTART_FIRST, _RESTART_MAX = 0.1, 30.0
_MODULE = f"{__package__}.main"


class WorkerEnd:
    """The server's end of one worker."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.link = WorkerLink(self._on_message, self._on_lost)
        self._numbers = itertools.count(1)
        self._inboxes: dict[int, _Inbox] = {}

    @property
    def calls(self) -> int:
        """How many it has now."""
        return len(self._inboxes)

    async def find(self, model: str) -> None:
        """Raises AgentError, and ModelFailure when the worker ends meanwhile."""
        number, inbox = self._open()
        try:
            self.link.send({"find": number, "model": model})
            await inbox.next()
        finally:
            self._inboxes.pop(number, None)

    async def stream(self, provider: str, call: ModelCall) -> AsyncGenerator[Delta, None]:
        number, inbox = self._open()
        finished = False
        try:
            self.link.send({"call": number, "provider": provider, **call_json(call)})
            await self.link.drained()
            while not finished:
                kind, *fields = await inbox.next()
                delta = delta_of(kind, fields)
                finished = isinstance(delta, Finish)
                yield delta
                if inbox.taken >= WINDOW // 4:
                    self.link.send({"more": number, "bytes": inbox.taken})
                    inbox.taken = 0
        except ModelFailure:
            finished = True  # the worker's own word, or its end
            raise
        finally:
            self._inboxes.pop(number, None)
            if not finished:
                self.link.send({"cancel": number})

    def close(self) -> None:
        self.link.close()
        self._on_lost()

    def _open(self) -> tuple[int, _Inbox]:
        number = next(self._numbers)
        inbox = self._inboxes[number] = _Inbox()
        if self.gone.is_set():
            inbox.lose()
        return number, inbox

    def _on_message(self, message: list[Any], size: int) -> None:
        inbox = self._inboxes.get(message[0])
        if inbox is not None:  # else it was cancelled, and this was under way
            inbox.put(message[1:], size)

    def _on_lost(self) -> None:
        self.gone.set()
        for inbox in self._inboxes.values():
            inbox.lose()


class _Inbox:
    """The messages of a worker for one call, never more than its window."""

    def __init__(self) -> None:
        #: Bytes taken out that the worker does not know of yet.
        self.taken = 0
        self._messages: deque[tuple[list[Any], int]] = deque()
        self._lost = False
        self._waits: asyncio.Future[None] | None = None

    def put(self, message: list[Any], size: int) -> None:
        self._messages.append((message, size))
        self._wake()

    def lose(self) -> None:
        self._lost = True
        self._wake()

    async def next(self) -> list[Any]:
        """The next message. Raises AgentError for a refusal, ModelFailure once the worker is gone.

        The time limit of the turn bounds the wait.
        """
        while not self._messages:
            if self._lost:
                raise ModelFailure("crashed", "the engine worker ended")
            self._waits = asyncio.get_running_loop().create_future()
            await self._waits
        message, size = self._messages.popleft()
        self.taken += size
        if message[0] == "refusal":
            raise AgentError(message[1])
        return message

    def _wake(self) -> None:
        if self._waits is not None and not self._waits.done():
            self._waits.set_result(None)


class ModelWorkers:
    """A `ModelSource` of `count` workers; `start` before use, `close` ends them."""

    def __init__(
        self, settings: LlmSettings, count: int, *, log_level: str, log_format: str
    ) -> None:
        self.settings = settings
        self._arguments = log_level, log_format
        self._workers: list[WorkerEnd] = []
        self._changed = asyncio.Condition()
        self._count = count
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to start the workers, and to start each again when it ends."""
        for number in range(self._count):
            self._keepers.append(asyncio.create_task(self._keep(), name=f"engine worker {number}"))

    async def find(self, text: str | None) -> tuple[ModelName, ModelClient]:
        """Let a worker find the model, as `ModelSource.find` promises."""
        model = named(text, self.settings)
        worker = await self.free()
        try:
            async with asyncio.timeout(_FIND_SECONDS):
                await worker.find(str(model))
        except (ModelFailure, TimeoutError) as error:
            raise AgentError(NO_MODEL, "MODEL_UNAVAILABLE") from error
        return model, _RemoteClient(self, model.provider)

    async def close(self) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        if self._keepers:
            await asyncio.wait(self._keepers, timeout=2 * _STOP_SECONDS)

    async def free(self) -> WorkerEnd:
        """The worker with the fewest calls. Raises AgentError when there is none for long."""
        try:
            async with asyncio.timeout(_START_SECONDS), self._changed:
                await self._changed.wait_for(lambda: self._workers)
        except TimeoutError as error:
            raise AgentError(NO_MODEL, "MODEL_UNAVAILABLE") from error
        return min(self._workers, key=lambda worker: worker.calls)

    async def _keep(self) -> None:
        """Run one worker after the other, with back-off while they end soon."""
        loop = asyncio.get_running_loop()
        backoff = Backoff(_RESTART_FIRST, _RESTART_MAX)
        while True:
            began = loop.time()
            try:
                await self._run()
            except OSError as error:
                log_.error("an engine worker could not be started", error=str(error))
            if loop.time() - began > _RESTART_MAX:
                backoff.succeeded()
            await asyncio.sleep(backoff.failed())

    async def _run(self) -> None:
        """One worker from its start to its end."""
        ours, theirs = socket.socketpair()
        # Not made inheritable: a worker started meanwhile would hold it as well, and nobody would
        # notice the end of this one.
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", _MODULE, str(theirs.fileno()), *self._arguments),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        worker = WorkerEnd()
        try:
            await asyncio.get_running_loop().create_connection(lambda: worker.link, sock=ours)
            worker.link.send({"settings": _plain(self.settings)})
            self._workers.append(worker)
            async with self._changed:
                self._changed.notify_all()
            await worker.gone.wait()
            log_.error("an engine worker ended", pid=process.pid, calls=worker.calls)
        finally:
            if worker in self._workers:
                self._workers.remove(worker)
            worker.close()
            await _end(process)


class _RemoteClient:
    """A `ModelClient` whose calls are made by whichever worker has the fewest."""

    def __init__(self, workers: ModelWorkers, provider: str) -> None:
        self._workers = workers
        self._provider = provider

    async def stream(self, call: ModelCall) -> AsyncGenerator[Delta, None]:
        worker = await self._workers.free()
        async with contextlib.aclosing(worker.stream(self._provider, call)) as deltas:
            async for delta in deltas:
                yield delta

    async def close(self) -> None:
        """Nothing to end: the workers have the connections."""


def _plain(settings: LlmSettings) -> dict[str, Any]:
    """With its secrets: for a worker only."""
    keys = {name: key.get_secret_value() for name, key in settings.api_keys.items()}
    return settings.model_dump() | {"api_keys": keys}


async def _end(process: asyncio.subprocess.Process) -> None:
    """Wait for the end of a worker whose link is closed; kill it if it hangs."""
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        log_.error("an engine worker did not end and is killed", pid=process.pid)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
