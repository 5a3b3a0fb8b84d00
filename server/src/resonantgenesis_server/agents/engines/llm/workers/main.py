"""An engine worker: asks models for the server, in a process of its own.

`python -m resonantgenesis_server.agents.engines.llm.workers.main FD LEVEL FORMAT`: FD is its end of
a socket to the server; the others are for its log. The worker ends when the server's end is closed
in any way.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any

import structlog
import uvloop

from .....logging.setup import hide, open_logs
from .....model.errors import AgentError
from ..calls import ModelFailure
from ..models import Models
from ..settings import LlmSettings
from .ipc import WINDOW, Json, WorkerLink, call_of, delta_json, failure_json

log_ = structlog.get_logger("resonantgenesis.worker")
_CLOSE_SECONDS = 3.0


class _Credit:
    """The bytes of one call that may still be sent; the last message may overdraw them."""

    def __init__(self) -> None:
        self._left = WINDOW
        self._is_some = asyncio.Event()
        self._is_some.set()

    def take(self, size: int) -> None:
        self._left -= size
        if self._left <= 0:
            self._is_some.clear()

    def give(self, size: int) -> None:
        self._left += size
        if self._left > 0:
            self._is_some.set()

    async def some(self) -> None:
        """Return once there is credit. The end of the turn cancels the wait with the call."""
        await self._is_some.wait()


class Worker:
    """Answers the messages of its link."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.link = WorkerLink(self._on_message, self.ended.set)
        self._models: Models | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._credits: dict[int, _Credit] = {}

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_SECONDS)
        if self._models is not None:
            await self._models.close()

    def _on_message(self, message: Json, _size: int) -> None:
        match message:
            case {"settings": given}:
                settings = LlmSettings(**given)
                hide(*(key.get_secret_value() for key in settings.api_keys.values()))
                self._models = Models(settings)
            case {"find": number, "model": model}:
                self._begin(number, self._find(number, model))
            case {"call": number}:
                self._credits[number] = _Credit()
                self._begin(number, self._call(number, message))
            case {"more": number, "bytes": size} if number in self._credits:
                self._credits[number].give(size)
            case {"cancel": number} if number in self._tasks:
                self._tasks[number].cancel()

    def _begin(self, number: int, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks[number] = task
        task.add_done_callback(lambda _: self._end(number))

    def _end(self, number: int) -> None:
        self._tasks.pop(number, None)
        self._credits.pop(number, None)

    async def _find(self, number: int, model: str | None) -> None:
        async def find(models: Models) -> None:
            await models.find(model)
            self.link.send([number, "found"])

        await self._guarded(number, find)

    async def _call(self, number: int, message: Json) -> None:
        credit = self._credits[number]

        async def ask(models: Models) -> None:
            _, client = await models.find(f"{message['provider']}:{message['model']}")
            async with aclosing(client.stream(call_of(message))) as deltas:
                async for delta in deltas:
                    credit.take(self.link.send(delta_json(number, delta)))
                    await credit.some()
                    await self.link.drained()

        await self._guarded(number, ask)

    async def _guarded(self, number: int, work: Callable[[Models], Awaitable[None]]) -> None:
        """Do the work; the server gets its failure."""
        if self._models is None:
            raise RuntimeError("a worker was asked before it had its settings")
        try:
            await work(self._models)
        except ModelFailure as failure:
            self.link.send(failure_json(number, failure))
        except AgentError as error:
            self.link.send([number, "refusal", error.message])
        except Exception as error:  # a defect of ours ends this call and no other
            log_.error("a model call failed internally", exc_info=error)
            self.link.send(failure_json(number, ModelFailure("crashed", repr(error))))


async def _serve(descriptor: int) -> None:
    worker = Worker()
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: worker.link, sock=socket.socket(fileno=descriptor))
    await worker.ended.wait()
    await worker.close()


def main() -> None:
    # A signal to stop is for the server alone: its turns may still need this process.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    descriptor, level, form = sys.argv[1:]
    with open_logs(level, form):
        uvloop.run(_serve(int(descriptor)))


if __name__ == "__main__":
    main()
