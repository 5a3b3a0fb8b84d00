"""The stops of one turn that runs: where it asks, and goes on behind the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from ..agents.base import Answer
from ..log.base import LogError, LogOverloaded, StaleWriter
from .answers import NewAnswer
from .asks import Stop
from .history import TurnHistory
from .session_log import SessionLog
from .state import TurnState


class TurnStops:
    """Records the stops of a turn whose agent runs in this process. `now` gives the time, in
    seconds since 1970."""

    def __init__(
        self,
        log: SessionLog,
        turn: TurnState,
        history: TurnHistory,
        now: Callable[[], float],
        is_draining: Callable[[], bool],
    ) -> None:
        self.turn = turn
        self.now = now
        self._log = log
        self._history = history
        self._draining = is_draining

    @property
    def is_draining(self) -> bool:
        return self._draining()

    async def record(self, stop: Stop, *, unless: Callable[[], bool]) -> bool:
        """Record that the turn waits. Returns False where it must not. Raises LogError."""
        async with self._log.lock:
            await self._log.look_again()
            if unless():
                return False
            await self._log.stop(self.turn, stop)
            return True

    async def park(self) -> bool:
        """Record that no process holds the turn. Returns False if it is held on: an answer has
        come, or the log fails now. Raises StaleWriter."""
        try:
            async with self._log.lock:
                await self._log.look_again()
                if self.turn.status != "waiting" or self.turn.stopped:
                    return False
                await self._log.park(self.turn)
                return True
        except StaleWriter:
            raise
        except LogError:
            return False

    async def withdraw(self, call_ids: Iterable[str]) -> None:
        """Record that the agent waits for these calls no more. Raises StaleWriter."""
        with suppress(LogOverloaded):  # it is looked at again
            async with self._log.lock:
                await self._log.look_again()
                open_ids = [ask.call_id for ask in self.turn.asks if ask.call_id in set(call_ids)]
                if open_ids:
                    given = [NewAnswer(call_id, "cancelled") for call_id in open_ids]
                    await self._log.answer(self.turn, given)

    async def look_again(self) -> None:
        """Find out what an append has done whose answer was lost. Raises StaleWriter."""
        if not self._log.unsure:
            return
        try:
            async with self._log.lock:
                await self._log.look_again()
        except StaleWriter:
            raise
        except LogError:
            return  # it is looked at again

    async def answers(self) -> Mapping[str, Answer]:
        """All answers of the turn up to now. Raises LogUnavailable."""
        return await self._history.answers(self._log.session_id, self.turn)
