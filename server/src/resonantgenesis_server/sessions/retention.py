"""What is no longer kept: the oldest turns of very long sessions, sessions long unused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from ..feed.trimming import trim_in_steps
from ..log.base import EventLog, LogError
from ..model.clock import Clock
from ..model.limits import Limits
from ..records.base import Sessions
from .state import SessionState

log_ = structlog.get_logger("resonantgenesis.retention")

_SESSIONS_PER_CALL = 100


class Keeper(Protocol):
    """What trimming needs of the process."""

    log: EventLog
    limits: Limits


async def trim_oldest(node: Keeper, state: SessionState, session_id: str, head: int) -> None:
    """Trim whole ended turns, oldest first, while the session holds more than the limit.

    What cannot be trimmed now is trimmed after the next turn.
    """
    surplus = head - node.limits.chunks_per_session
    if surplus < 1:
        return
    before = 0
    for turn in state.turns[:-1]:
        if not turn.last or turn.first > surplus:
            break
        before = turn.last + 1
    if not before:
        return
    try:
        page = await node.log.read(session_id, before - 2, limit=1)
        earliest = 1 if page.info is None else page.info.earliest
        await trim_in_steps(node.log, session_id, earliest, before)
    except LogError as error:
        log_.error("session could not be trimmed", session=session_id, error=str(error))


class Retention:
    """Removes sessions whose last turn is longer ago than the limit; a job of housekeeping."""

    def __init__(
        self,
        sessions: Sessions,
        remove: Callable[[list[str], float], Awaitable[int]],
        settle: Callable[[], Awaitable[None]],
        seconds: float,
        clock: Clock | None = None,
    ) -> None:
        self._sessions = sessions
        self._remove = remove
        self._settle = settle
        self._seconds = seconds
        self._clock = clock or Clock()

    async def sweep(self) -> int:
        """Remove what is due now; how many sessions. Raises LogError and StoreError."""
        removed = 0
        while True:
            await self._settle()
            before = self._clock.before(self._seconds)
            due = await self._sessions.last_used_before(before, limit=_SESSIONS_PER_CALL)
            # The records are only a mirror: `remove` asks the log whether it is true.
            gone = await self._remove([row.id for row in due], before)
            if not gone:
                return removed
            removed += gone
