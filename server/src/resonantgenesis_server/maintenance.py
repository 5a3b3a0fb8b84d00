"""What is done every hour: forgetting what is no longer to be kept."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from .background import Background
from .events.service import EventService
from .files.base import BlobError
from .log.base import LogError
from .model.clock import Clock
from .records.access import OrganizationRepository, each_organization
from .records.base import StoreError
from .records.idempotency import IdempotencyRepository
from .records.sessions import SessionRepository

log_ = structlog.get_logger("resonantgenesis.housekeeping")

_INTERVAL = 3600.0
_PURGED_PER_CALL = 1_000
_SESSIONS_PER_CALL = 100


@dataclass(frozen=True, slots=True)
class Job:
    """`run` does what is due now and tells how many it removed. Raises LogError, StoreError,
    BlobError."""

    name: str
    run: Callable[[], Awaitable[int]]


class Housekeeper:
    """Runs the jobs one after the other, at the start and then every hour. By a timer, not by
    traffic; a job that fails is tried again the next time and holds up no other."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = tuple(jobs)
        self._loop = Background("housekeeping", self._run)

    def start(self) -> None:
        self._loop.start()

    async def close(self) -> None:
        await self._loop.close()

    async def sweep(self) -> dict[str, int]:
        """Do what is due now; how many each job that succeeded has removed."""
        removed: dict[str, int] = {}
        for job in self._jobs:
            try:
                removed[job.name] = await job.run()
            except (LogError, StoreError, BlobError) as error:
                log_.error("could not be removed", what=job.name, error=str(error))
        return removed

    async def _run(self) -> None:
        while True:
            removed = {name: count for name, count in (await self.sweep()).items() if count}
            if removed:
                log_.info("removed what was too old", **removed)
            await self._loop.woken(_INTERVAL)


def old_events(
    organizations: OrganizationRepository,
    events: EventService,
    seconds: float,
    *,
    settle: Callable[[], Awaitable[None]] | None = None,
) -> Job:
    """Events older than this many seconds, of every organization.

    `settle` returns when all that follows from the events there are is kept elsewhere. Where it
    fails nothing is removed, and what came after it stays until the next time.
    """

    async def run() -> int:
        removed = 0
        began = time.monotonic()
        if settle is not None:
            await settle()
        async for page in each_organization(organizations):
            for organization in page:
                since = 0.0 if settle is None else time.monotonic() - began
                removed += await events.trim_before(organization.id, seconds + since)
        return removed

    return Job("events", run)


class Purged(Protocol):
    """Records that are deleted by age."""

    async def purge(self, before: float, limit: int) -> int:
        """Delete up to `limit` that are older; how many there were."""


def old_requests(
    idempotency: IdempotencyRepository, window: float, clock: Clock | None = None
) -> Job:
    """Answers remembered for Idempotency-Keys whose window is over."""
    passed = (clock or Clock()).passed
    return _old("requests", idempotency, lambda: passed() - window)


def old_records(name: str, records: Purged, seconds: float, clock: Clock) -> Job:
    """Records older than this many seconds."""
    return _old(name, records, lambda: clock.before(seconds))


def _old(name: str, records: Purged, before: Callable[[], float]) -> Job:
    """A bounded number at a time."""

    async def run() -> int:
        removed = 0
        while True:
            count = await records.purge(before(), _PURGED_PER_CALL)
            removed += count
            if count < _PURGED_PER_CALL:
                return removed

    return Job(name, run)


class Retention:
    """Removes sessions whose last turn is longer ago than the limit; a job of housekeeping."""

    def __init__(
        self,
        sessions: SessionRepository,
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
