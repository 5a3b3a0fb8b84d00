"""The asks that a handler awaits.

The turn stops for them, and no worker holds it meanwhile. Once the answers are there, a worker runs
the handler again from its start: it gets the answers at once, and what it yields up to the last of
them is left out, since it was sent before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ..serving import Answer, Ask, TurnAsks

#: What the server keeps for a turn whose handler is to run again; the handler's own value is in it.
_MARK = "resonantgenesis.run_again"
#: Seconds in which further asks of the same moment gather.
_GATHER = 0.01


@dataclass(frozen=True, slots=True)
class Took:
    """A handler in a thread has its answer; this stands behind all that it had yielded."""

    call_id: str


class Stopped(BaseException):
    """Ends a handler in a thread at its ask; no `except Exception` catches it."""

    def __init__(self, ask: Ask) -> None:
        super().__init__("the turn waits for an answer")
        self.ask = ask


class HandlerAsks(TurnAsks):
    """The asks of one run of a handler. `stop` ends it; its turn waits then."""

    def __init__(self, raw: dict[str, Any], stop: Callable[[], None]) -> None:
        kept = raw.get("kept")
        self._is_again = isinstance(kept, dict) and _MARK in kept
        #: What the handler has kept.
        self.kept: Any = kept[_MARK] if isinstance(kept, dict) and self._is_again else kept
        self.answers: dict[str, Answer] = {}
        #: The asks that the turn stops for.
        self.asked: list[Ask] = []
        #: The handler is being ended for them.
        self.is_stopping = False
        #: Puts a value behind what a handler in a thread has yielded.
        self.put: Callable[[object], object] = lambda _item: None
        self._stop = stop
        self._taken: set[str] = set()
        self._turn = raw["turn"]
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_repeating(self) -> bool:
        """Whether the handler yields what it has yielded before."""
        return self._is_again and not self._taken.issuperset(self.answers)

    @property
    def keep(self) -> dict[str, Any]:
        """What the server is to keep."""
        return {_MARK: self.kept}

    def took(self, call_id: str) -> None:
        self._taken.add(call_id)

    async def ask(self, ask: Ask) -> Answer:
        ask = self._named(ask)
        answer = self.answers.get(ask.call_id)
        if answer is not None:
            self.took(ask.call_id)
            return answer
        self._is_again = False
        self.asked.append(ask)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(_GATHER, self._gathered)
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        try:
            return await waiting  # cancelled with the handler
        finally:
            if not self.is_stopping:  # the handler has withdrawn it
                self.asked.remove(ask)

    def ask_from_thread(self, ask: Ask) -> Answer:
        ask = self._named(ask)
        answer = self.answers.get(ask.call_id)
        if answer is None:
            raise Stopped(ask)
        self.put(Took(ask.call_id))
        return answer

    def stopped(self, ask: Ask) -> None:
        """A handler in a thread has ended at this ask."""
        self._is_again = False
        self.asked.append(ask)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _named(self, ask: Ask) -> Ask:
        if ask.call_id:
            return ask
        if ask.kind != "input":
            raise ValueError("name the call: ToolCall(…, call_id=…); its answer is known by it")
        self._count += 1
        return replace(ask, call_id=f"ask_{self._turn}_{self._count}")

    def _gathered(self) -> None:
        if self.asked:
            self.is_stopping = True
            self._stop()
