"""Keeps the records' list of sessions in step with the log, in batches."""

from __future__ import annotations

import asyncio

import structlog

from ..records.base import SessionRecord, Sessions, StoreError
from .state import SessionState

log_ = structlog.get_logger("resonantgenesis.mirror")
_RETRY = 1.0
#: Seconds in which changes gather: a turn changes its session three times, and a transaction
#: costs more than all else of a small turn. Who reads the list settles first.
_GATHER = 0.1


class Mirror:
    """Writes changed sessions to the records. What waits is bounded by the sessions that changed,
    one row each, however often they did."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._dirty: dict[str, SessionState] = {}
        self._removed: set[str] = set()
        self._wake = asyncio.Event()
        self._flushing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="mirror")

    async def close(self) -> None:
        """Write what is left and stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=5)
        await self.settle()

    def changed(self, state: SessionState) -> None:
        if state.info is not None:
            self._dirty[state.info.session_id] = state
            self._wake.set()

    async def settle(self) -> None:
        """Return when the records show all that the log showed at the time of the call.

        Raises StoreError if they cannot take it.
        """
        async with self._flushing:
            dirty, self._dirty = self._dirty, {}
            removed, self._removed = self._removed, set()
            try:
                if dirty:
                    await self._sessions.upsert_many([_row(state) for state in dirty.values()])
                if removed:
                    await self._sessions.delete(list(removed))
            except BaseException:
                self._removed |= removed
                kept = {name: dirty[name] for name in dirty.keys() - self._removed}
                self._dirty = kept | self._dirty
                raise

    @property
    def waiting(self) -> int:
        """How many rows are still to be written or removed."""
        return len(self._dirty) + len(self._removed)

    def forget(self, session_id: str) -> None:
        """The session was deleted: remove its row, after whatever is being written of it."""
        self._dirty.pop(session_id, None)
        self._removed.add(session_id)
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(_GATHER)
            self._wake.clear()
            try:
                await self.settle()
            except StoreError as error:
                log_.error("session list is behind", error=str(error))
                self._wake.set()
                await asyncio.sleep(_RETRY)


def _row(state: SessionState) -> SessionRecord:
    info = state.info
    if info is None:
        raise ValueError("a session without its first record")
    return SessionRecord(
        id=info.session_id,
        organization_id=info.organization_id,
        subject=info.subject,
        agent_id=info.agent_id,
        status=state.status,
        turns=len(state.turns),
        created_at=info.created_at,
        updated_at=state.updated_at,
        metadata=info.metadata,
    )
