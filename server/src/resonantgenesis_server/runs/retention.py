"""What is no longer kept: the oldest turns of very long sessions, sessions long unused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from ..log.base import EventLog, LogError
from ..model.limits import Limits
from ..records.base import Sessions, StoreError
from .state import SessionState

log_ = structlog.get_logger("resonantgenesis.retention")

#: Entries removed per call, so that a large trim does not hold up the writer.
_TRIM_STEP = 10_000
#: Seconds between sweeps for sessions whose time is over, and how many are removed per sweep.
_INTERVAL = 3600.0
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
        for step in range(earliest + _TRIM_STEP, before + _TRIM_STEP, _TRIM_STEP):
            await node.log.trim(session_id, min(step, before))
    except LogError as error:
        log_.error("session could not be trimmed", session=session_id, error=str(error))


class Retention:
    """Removes sessions whose last turn is longer ago than the limit. By a timer, not by traffic."""

    def __init__(
        self,
        sessions: Sessions,
        remove: Callable[[list[str], float], Awaitable[int]],
        settle: Callable[[], Awaitable[None]],
        seconds: float,
    ) -> None:
        self._sessions = sessions
        self._remove = remove
        self._settle = settle
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="retention")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=5)

    async def sweep(self) -> int:
        """Remove what is due now; how many sessions. Raises LogError and StoreError."""
        removed = 0
        while True:
            await self._settle()
            before = time.time() - self._seconds
            due = await self._sessions.last_used_before(before, limit=_SESSIONS_PER_CALL)
            # The records are only a mirror: `remove` asks the log whether it is true.
            gone = await self._remove([row.id for row in due], before)
            if not gone:
                return removed
            removed += gone

    async def _run(self) -> None:
        while True:
            try:
                removed = await self.sweep()
                if removed:
                    log_.info("sessions removed", count=removed)
            except (LogError, StoreError) as error:
                log_.error("old sessions could not be removed", error=str(error))
            await asyncio.sleep(_INTERVAL)
