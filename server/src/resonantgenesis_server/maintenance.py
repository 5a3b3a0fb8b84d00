"""Housekeeping: removes what is older than its retention, every hour, at one node of the store."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

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
from .records.usage import UsageRepository
from .records.webhooks import DeliveryRepository

log_ = structlog.get_logger("resonantgenesis.housekeeping")

_INTERVAL = 3600.0
#: Seconds after which a node that does no housekeeping looks whether the one that did is gone.
_TAKEOVER = 30.0
_PURGED_PER_CALL = 1_000
_SESSIONS_PER_CALL = 100


@dataclass(frozen=True, slots=True)
class RetentionJob:
    """`run` removes what is due now and returns how many. It raises LogError, StoreError,
    BlobError."""

    name: str
    run: Callable[[], Awaitable[int]]


class Housekeeper:
    """Runs the jobs one after the other, at the start and then every hour.

    A timer starts them, not traffic. A job that fails is tried again the next time, and stops no
    other job. Every job can run at two nodes at once, since nodes may disagree for a moment on
    which one leads.
    """

    def __init__(
        self, jobs: Sequence[RetentionJob], leads: Callable[[], bool] = lambda: True
    ) -> None:
        """`leads`: whether it is for this process to run them; asked before each job."""
        self._jobs = tuple(jobs)
        self._leads = leads
        self._loop = Background("housekeeping", self._run)

    def start(self) -> None:
        self._loop.start()

    async def close(self) -> None:
        await self._loop.close()

    async def sweep(self) -> dict[str, int]:
        """Run all jobs now. Returns how many each job has removed, without the jobs that failed
        and those that are another node's."""
        removed: dict[str, int] = {}
        for job in self._jobs:
            if not self._leads():
                break
            try:
                removed[job.name] = await job.run()
            except (LogError, StoreError, BlobError) as error:
                log_.error("could not be removed", what=job.name, error=str(error))
        return removed

    async def _run(self) -> None:
        while True:
            if not self._leads():
                await self._loop.woken(_TAKEOVER)
                continue
            removed = {name: count for name, count in (await self.sweep()).items() if count}
            if removed:
                log_.info("removed what was too old", **removed)
            await self._loop.woken(_INTERVAL)


def old_events(
    organizations: OrganizationRepository,
    events: EventService,
    seconds: float,
    *,
    name: str = "events",
    settle: Callable[[str], Awaitable[None]] | None = None,
) -> RetentionJob:
    """Removes events older than this many seconds, of every organization.

    `settle` returns when the projections of an organization's current events are stored. If it
    fails, nothing of that one is removed. Events after it stay until the next run.
    """

    async def run() -> int:
        removed = 0
        async for page in each_organization(organizations):
            for due in await events.outdated([each.id for each in page], seconds):
                since = 0.0
                if settle is not None:
                    began = time.monotonic()
                    await settle(due)
                    since = time.monotonic() - began
                removed += await events.trim_before(due, seconds + since)
        return removed

    return RetentionJob(name, run)


def old_requests(
    idempotency: IdempotencyRepository, window: float, clock: Clock | None = None
) -> RetentionJob:
    """Removes the answers of Idempotency-Keys whose window is over."""
    passed = (clock or Clock()).passed
    return _old("requests", idempotency, lambda: passed() - window)


def old_records(
    name: str, records: UsageRepository | DeliveryRepository, seconds: float, clock: Clock
) -> RetentionJob:
    """Removes records older than this many seconds."""
    return _old(name, records, lambda: clock.before(seconds))


def _old(
    name: str,
    records: IdempotencyRepository | UsageRepository | DeliveryRepository,
    before: Callable[[], float],
) -> RetentionJob:
    """Removes a bounded number of records at a time."""

    async def run() -> int:
        removed = 0
        while True:
            count = await records.purge(before(), _PURGED_PER_CALL)
            removed += count
            if count < _PURGED_PER_CALL:
                return removed

    return RetentionJob(name, run)


class Retention:
    """The job that removes sessions whose last turn is longer ago than the limit."""

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
        """Remove the due sessions. Returns how many. Raises LogError and StoreError."""
        removed = 0
        while True:
            await self._settle()
            before = self._clock.before(self._seconds)
            due = await self._sessions.last_used_before(before, limit=_SESSIONS_PER_CALL)
            # The rows may be behind the log, so `remove` looks at the log.
            gone = await self._remove([row.id for row in due], before)
            if not gone:
                return removed
            removed += gone
