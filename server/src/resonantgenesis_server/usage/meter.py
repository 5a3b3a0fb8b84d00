"""What turns take: taken from the log into the records, and held against the monthly budget."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from ..codec.events import events_append
from ..events.node_events import each_organization
from ..log.base import Entry, EventLog, LogError
from ..model.events import NewEvent, event_id, event_stream
from ..records.base import Organizations, StoreError
from ..records.usage import Usage, UsageRow
from ..sessions.service import rfc3339
from .budget import Budget, BudgetState
from .tail import LIMIT, USAGE, UsageTail, limit_month_of, row_of

log_ = structlog.get_logger("resonantgenesis.usage")

_EVENTS = event_stream("")
#: Seconds between two writes: turns that end meanwhile share a transaction. Who asks for usage
#: writes at once.
_GATHER = 0.5
#: Back-off after a failed write, in seconds, doubled up to the second.
_FIRST_DELAY, _MAX_DELAY = 0.5, 30.0


class UsageMeter:
    """Owns the way from the log's billing events to the records and the budget.

    The budget counts a turn before any reader hears of its end; the records have it a moment
    later, and a crash in between loses nothing, since the next start reads on from there.
    """

    def __init__(
        self, log: EventLog, records: Usage, organizations: Organizations, budget: Budget
    ) -> None:
        self.budget = budget
        self._log = log
        self._records = records
        self._organizations = organizations
        self._tails: dict[str, UsageTail] = {}
        self._writing = asyncio.Lock()
        self._wake = asyncio.Event()
        #: Set when a limit is to be told, which does not wait for _GATHER.
        self._urgent = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        log: EventLog,
        records: Usage,
        organizations: Organizations,
        monthly_tokens: int,
        now: Callable[[], float] = time.time,
    ) -> UsageMeter:
        """A meter that is loaded; see `load`."""
        meter = cls(log, records, organizations, Budget(monthly_tokens, clock=now))
        await meter.load()
        return meter

    async def load(self) -> None:
        """Take in what the last run left in the log. To be called before anything is appended in
        this one. Raises LogError and StoreError."""
        async for page in each_organization(self._organizations):
            for organization in page:
                name = organization.id
                tail = self._tail(name)
                async with self._writing:
                    await tail.write()
                used = await self._records.tokens(name, self.budget.month.begins)
                self.budget.load(name, used, tail.limit_month)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="usage")
        self._task.add_done_callback(_report)
        self._wake.set()

    async def close(self) -> None:
        """Write what is left and stop; what cannot be written now is found by the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=5)
        try:
            await self.settle()
        except (LogError, StoreError) as error:
            log_.warning("usage waits in the log", error=str(error))

    def committed(self, stream: str, entries: Sequence[Entry]) -> None:
        """From the log, in commit order, before readers are told."""
        if not stream.startswith(_EVENTS):
            return
        name = stream.removeprefix(_EVENTS)
        tail = self._tail(name)
        rows: list[UsageRow] = []
        for entry in entries:
            if entry.kind == USAGE:
                row = row_of(name, entry)
                if row is not None:
                    rows.append(row)
                    self._count(row)
            elif entry.kind == LIMIT:
                month = limit_month_of(entry)
                tail.told(month)
                self.budget.told(name, month)
        tail.announced(entries, rows)
        if tail.due:
            self._wake.set()

    async def settle(self, organization_id: str | None = None) -> None:
        """Return when the records show all that the log showed at the time of the call, of this
        organization or of all. Raises LogError and StoreError."""
        chosen = [self._tail(organization_id)] if organization_id else list(self._tails.values())
        async with self._writing:
            for tail in chosen:
                await tail.write()

    # -- inside ----------------------------------------------------------------------------

    def _count(self, row: UsageRow) -> None:
        tokens = row.input_tokens + row.output_tokens
        if self.budget.add(row.organization_id, row.ended_at, tokens):
            self._urgent.set()

    def _tail(self, organization_id: str) -> UsageTail:
        tail = self._tails.get(organization_id)
        if tail is None:
            tail = UsageTail(self._log, self._records, organization_id)
            self._tails[organization_id] = tail
        return tail

    async def _run(self) -> None:
        delay = _FIRST_DELAY
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._urgent.clear()
            try:
                await self._tell()
                await self.settle()
            except (LogError, StoreError) as error:
                log_.error("usage is behind", error=str(error))
                self._wake.set()
                await asyncio.sleep(delay)
                delay = min(2 * delay, _MAX_DELAY)
            else:
                delay = _FIRST_DELAY
                await self._gather()

    async def _gather(self) -> None:
        try:
            async with asyncio.timeout(_GATHER):
                await self._urgent.wait()
        except TimeoutError:
            return

    async def _tell(self) -> None:
        """Write billing.limit.reached for whom it is due. A repeat after a crash is dropped by the
        log while it has the event, and not tried once the records know of it."""
        for state in self.budget.due():
            await self._log.room()
            await self._log.append(*events_append(state.organization_id, [_reached(state)]))
            self.budget.told(state.organization_id, state.month.name)


def _reached(state: BudgetState) -> NewEvent:
    return NewEvent(
        event_id(state.organization_id, LIMIT, state.month.name),
        LIMIT,
        {
            "month": state.month.name,
            "monthly_tokens": state.limit,
            "used_tokens": state.used,
            "resets_at": rfc3339(state.month.ends),
        },
        # Nobody asked for it: there is no key and no request.
        {"organization_id": state.organization_id, "key_id": None, "request_id": None},
    )


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log_.error("the task of usage failed", exc_info=error)
