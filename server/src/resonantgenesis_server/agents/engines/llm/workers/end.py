"""The server's end of an engine worker: its calls, and what has come for each."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

from .....model.errors import AgentError
from ..calls import Delta, Finish, ModelCall, ModelFailure
from .ipc import WINDOW, Link, call_json, delta_of


class WorkerEnd:
    """The server's end of one worker."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.link = Link(self._heard, self._lost)
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
            await self.link.room()
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
        self._lost()

    def _open(self) -> tuple[int, _Inbox]:
        number = next(self._numbers)
        inbox = self._inboxes[number] = _Inbox()
        if self.gone.is_set():
            inbox.lose()
        return number, inbox

    def _heard(self, message: list[Any], size: int) -> None:
        inbox = self._inboxes.get(message[0])
        if inbox is not None:  # else it was cancelled, and this was under way
            inbox.put(message[1:], size)

    def _lost(self) -> None:
        self.gone.set()
        for inbox in self._inboxes.values():
            inbox.lose()


class _Inbox:
    """What a worker has sent for one call; never more than its window."""

    def __init__(self) -> None:
        #: Bytes taken out that the worker has not been told of.
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

        Bounded by who asks: a turn has its time limit.
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
