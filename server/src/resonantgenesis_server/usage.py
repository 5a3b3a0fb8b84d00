"""The tokens of turns: from the log into the records, and counted against a monthly budget."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TypeVar

import orjson
import structlog

from . import metrics
from .background import Background, Backoff
from .budget import Budget, BudgetState
from .codec.events import events_append
from .codec.times import rfc3339
from .feed.remote import PAGE_STREAMS
from .log.base import Entry, EventLog, LogError, Page
from .log.shared import SharedLog
from .model.events import NewEvent, event_stream
from .model.ids import event_id
from .model.principal import Principal
from .records.access import OrganizationRepository, each_organization
from .records.base import StoreError, StoreUnusable
from .records.files import Owner
from .records.usage import (
    EndedTurns,
    GroupBy,
    PlaceMove,
    PlaceMoved,
    UsageFilter,
    UsagePlace,
    UsageReport,
    UsageRepository,
    UsageRow,
)

log_ = structlog.get_logger("resonantgenesis.usage")
T = TypeVar("T")

_EVENTS = event_stream("")
#: Seconds between two writes: turns that end meanwhile share a transaction. A request for usage
#: writes at once.
_GATHER = 0.5
#: Seconds between two looks at what other nodes have used of the budgets that were asked about.
_LOOK = 1.0
#: Seconds that a stop takes for the places of thousands of organizations.
_CLOSE = 2.0
#: Of each organization in one look: events, and bytes.
_LOOK_EVENTS, _LOOK_BYTES = 500, 256 * 1024
#: Bytes of each organization's first page, at the start.
_LOAD_BYTES = 32 * 1024
#: Organizations that are loaded or written at once.
_AT_ONCE = 16
#: Back-off after a failed write, in seconds, doubled up to the second.
_FIRST_DELAY, _MAX_DELAY = 0.5, 30.0


class UsageMeter:
    """Takes the log's billing events into the records and the budget.

    The budget counts a turn before any reader gets its end. The records have it a moment later; a
    crash in between loses nothing, since the next start reads on from the stored position.

    Of many nodes each takes in what it has committed. `settle` reads what others have. The budget
    counts the events of an organization in their order, each once: those of this node when they
    are announced, all others within a second.
    """

    def __init__(
        self,
        log: EventLog,
        records: UsageRepository,
        organizations: OrganizationRepository,
        budget: Budget,
        shared: SharedLog | None = None,
    ) -> None:
        """`shared` is the log once more, if other nodes may write it."""
        self.budget = budget
        self._log = log
        self._records = records
        self._organizations = organizations
        self._shared = shared
        #: Among nodes: the last event of each organization that the budget has counted.
        self._counted: dict[str, int] = {}
        self._looking = asyncio.Lock()
        self._looks = Background("budgets", self._look_for_ever)
        self._tails: dict[str, UsageTail] = {}
        #: Tails that have something to write. Of thousands of organizations few do.
        self._due: dict[str, UsageTail] = {}
        #: Set when a billing.limit.reached is due, which does not wait for _GATHER.
        self._urgent = asyncio.Event()
        self._loop = Background("usage", self._run)

    @classmethod
    async def open(
        cls,
        log: EventLog,
        records: UsageRepository,
        organizations: OrganizationRepository,
        monthly_tokens: int,
        now: Callable[[], float] = time.time,
        shared: SharedLog | None = None,
    ) -> UsageMeter:
        """A meter that is loaded; see `load`."""
        meter = cls(log, records, organizations, Budget(monthly_tokens, clock=now), shared)
        await meter.load()
        return meter

    async def load(self) -> None:
        """Take in the events of the last run. Must be called before this run appends anything.

        Raises LogError and StoreError.
        """
        async for page in each_organization(self._organizations):
            await self._load([organization.id for organization in page])

    async def _load(self, names: Sequence[str]) -> None:
        since = self.budget.month.begins
        found = await self._records.standings(names, since)
        places = {name: found[name][1] if name in found else None for name in names}
        tails = {name: self._tail(name) for name in names}
        begins = {tail.stream: tail.place_in_log(places[name]) for name, tail in tails.items()}
        pages = await self._log.read_many(begins, limit=_LOOK_EVENTS, max_bytes=_LOAD_BYTES)

        async def look(name: str) -> None:
            await tails[name].look(places[name], pages[tails[name].stream])

        await _at_once(look, names)
        moved = [name for name in names if self._tail(name).place != places[name]]
        found |= await self._records.standings(moved, since)
        for name in names:
            used, place = found.get(name, (0, None))
            self._counted[name] = 0 if place is None else place.position
            self.budget.load(name, used, self._tail(name).limit_month)

    def start(self) -> None:
        self._loop.start()
        self._loop.wake()
        if self._shared is not None and self.budget.monthly_tokens:
            self._looks.start()

    async def close(self) -> None:
        """Write the waiting rows and stop. The next start finds what could not be written."""
        await self._loop.close()
        await self._looks.close()
        try:
            await self._write()
            moves = [move for tail in self._tails.values() if (move := tail.move) is not None]
            # Those that are left out are read again by the next start.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE):
                    await self._records.reach(moves)
        except (LogError, StoreError) as error:
            log_.warning("usage waits in the log", error=str(error))

    def committed(self, stream: str, entries: Sequence[Entry]) -> None:
        """Called by the log, in commit order, before readers get the entries."""
        if not stream.startswith(_EVENTS):
            return
        name = stream.removeprefix(_EVENTS)
        tail = self._tail(name)
        rows = self._rows_of(name, entries)
        if self._shared is None or entries[0].position == self._counted.get(name, 0) + 1:
            self._count_all(name, entries[-1].position, rows)
        else:  # another node's events are before them
            self.budget.asked.add(name)
        tail.announced(entries, rows)
        if tail.due:
            self._due[name] = tail
            self._loop.wake()

    async def settle(self, organization_id: str | None = None) -> None:
        """Return when the records show all that the log showed at the time of the call, of this
        organization or of all. Raises LogError and StoreError."""
        if self._shared is None:
            await self._write_places(organization_id)
        elif organization_id is not None:
            await self._settle(organization_id)
            await self._look([organization_id])
        else:
            async for page in each_organization(self._organizations):
                await _at_once(self._settle, [organization.id for organization in page])

    # -- inside ----------------------------------------------------------------------------

    async def _settle(self, organization_id: str) -> None:
        await self._tail(organization_id).write(look=True, fully=True)

    async def _write(self) -> None:
        """Write what was announced in this process."""
        due, self._due = self._due, {}
        try:
            await _at_once(lambda tail: tail.write(), list(due.values()))
        except BaseException:
            self._due = due | self._due
            raise

    async def _write_places(self, organization_id: str | None = None) -> None:
        """Like `_write`; the places are written too where no event told of usage."""
        chosen = [self._tail(organization_id)] if organization_id else list(self._tails.values())
        await _at_once(lambda tail: tail.write(fully=True), chosen)

    def _rows_of(self, name: str, entries: Sequence[Entry]) -> list[UsageRow]:
        """The usage that the events tell of; also notes a billing.limit.reached among them."""
        rows: list[UsageRow] = []
        for entry in entries:
            if entry.kind == USAGE:
                row = row_of(name, entry)
                if row is not None:
                    rows.append(row)
            elif entry.kind == LIMIT:
                month = limit_month_of(entry)
                self._tail(name).limit_reached(month)
                self.budget.written(name, month)
        return rows

    def _count_all(self, name: str, position: int, rows: Sequence[UsageRow]) -> None:
        """Count the events up to this position; `rows` are those after the counted ones."""
        self._counted[name] = position
        for row in rows:
            self._count(row)

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            asked, self.budget.asked = self.budget.asked, set()
            try:
                await self._look(asked)
            except (LogError, StoreError) as error:
                self.budget.asked |= asked
                log_.warning("budgets are behind", error=str(error))
            except Exception as error:  # one bad look must not be the last
                metrics.defect("other")
                log_.error("budgets could not be counted", exc_info=error)

    async def _look(self, organization_ids: Collection[str]) -> None:
        """Count what other nodes have written of these organizations. Raises LogError and
        StoreError."""
        if self._shared is None or not self.budget.monthly_tokens:
            return
        async with self._looking:
            await self._load([name for name in organization_ids if name not in self._counted])
            left = list(organization_ids)
            while left:
                names, left = left[:PAGE_STREAMS], left[PAGE_STREAMS:]
                after = {event_stream(name): self._counted[name] for name in names}
                pages = await self._shared.read_placed(
                    after, limit=_LOOK_EVENTS, max_bytes=_LOOK_BYTES
                )
                left += [name for name in names if await self._counted_page(name, pages)]

    async def _counted_page(self, name: str, pages: Mapping[str, Page]) -> bool:
        """Count a page of events; whether more are to be read."""
        page, counted = pages[event_stream(name)], self._counted[name]
        if page.info is None:
            return False
        if page.entries and page.entries[0].position > counted + 1:
            await self._load([name])  # events were trimmed that nobody has counted here
            return False
        # Meanwhile this node may have counted some that it has written itself.
        new = [entry for entry in page.entries if entry.position > counted]
        if new:
            self._count_all(name, new[-1].position, self._rows_of(name, new))
        return not page.at_end

    def _count(self, row: UsageRow) -> None:
        tokens = row.input_tokens + row.output_tokens
        if self.budget.add(row.organization_id, row.ended_at, tokens):
            self._urgent.set()
            self._loop.wake()

    def _tail(self, organization_id: str) -> UsageTail:
        tail = self._tails.get(organization_id)
        if tail is None:
            tail = UsageTail(self._log, self._records, organization_id)
            self._tails[organization_id] = tail
        return tail

    async def _run(self) -> None:
        backoff = Backoff(_FIRST_DELAY, _MAX_DELAY)
        while True:
            await self._loop.woken()
            self._urgent.clear()
            try:
                await self._write_limits()
                await self._write()
            except (LogError, StoreError) as error:
                log_.error("usage is behind", error=str(error))
                self._loop.wake()
                await asyncio.sleep(backoff.failed())
            else:
                backoff.succeeded()
                await self._gather()

    async def _gather(self) -> None:
        try:
            async with asyncio.timeout(_GATHER):
                await self._urgent.wait()
        except TimeoutError:
            return

    async def _write_limits(self) -> None:
        """Write the billing.limit.reached that are due.

        After a crash the log drops a repeat while it has the event. Later the records prevent it.
        """
        for state in self.budget.due():
            await self._log.room()
            await self._log.append(*events_append(state.organization_id, [_reached(state)]))
            self.budget.written(state.organization_id, state.month.name)


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
        # No request caused it.
        {"organization_id": state.organization_id, "key_id": None, "request_id": None},
    )


USAGE, LIMIT = "billing.usage.recorded", "billing.limit.reached"
#: Rows that wait to be written; beyond this they are read again from the log.
_MAX_ROWS = 10_000
#: Events without usage, after which the position is written all the same. The next start need not
#: read them again.
_FAR = 1_000
#: Tries against other nodes that write the usage of the same organization.
_RACES = 20
_PAGE = 2_000


def row_of(organization_id: str, entry: Entry) -> UsageRow | None:
    """The row of a billing.usage.recorded. An event without the fields of one is logged, and gives
    None: it must not stop the others."""
    body = orjson.loads(entry.body)
    data, metadata = body["data"], body["metadata"]
    try:
        return UsageRow(
            organization_id=organization_id,
            session_id=data["session_id"],
            turn=data["turn"],
            agent_id=data["agent_id"],
            key_id=metadata["key_id"],
            subject=metadata.get("subject"),
            status=data.get("status"),
            input_tokens=data["input_tokens"],
            output_tokens=data["output_tokens"],
            steps=data["steps"],
            duration_ms=data["duration_ms"],
            ended_at=entry.at / 1e6,
        )
    except KeyError as error:
        log_.warning(
            "an event tells of usage without saying it",
            organization=organization_id,
            position=entry.position,
            lacks=str(error),
        )
        return None


def limit_month_of(entry: Entry) -> str:
    """The month that a billing.limit.reached is about; "" if it does not say."""
    return str(orjson.loads(entry.body)["data"].get("month", ""))


async def _at_once(do: Callable[[T], Awaitable[None]], things: Sequence[T]) -> None:
    """Do this for each, for _AT_ONCE at a time. Raises what the first that failed raised."""
    for start in range(0, len(things), _AT_ONCE):
        doing = map(do, things[start : start + _AT_ONCE])
        for done in await asyncio.gather(*doing, return_exceptions=True):
            if isinstance(done, BaseException):
                raise done


class UsageTail:
    """The usage of one organization, from its events to the records.

    Announced rows wait in memory until `write`. Rows that are not in memory, at the start or after
    a failure, are read from the log. `announced` must be called with every commit of the event
    stream, in order.
    """

    def __init__(self, log: EventLog, records: UsageRepository, organization_id: str) -> None:
        self.organization_id = organization_id
        #: The newest month with a billing.limit.reached.
        self.limit_month: str | None = None
        self._log = log
        self._records = records
        self.stream = event_stream(organization_id)
        self._rows: list[UsageRow] = []
        #: Positions: in the records; in the records or in `_rows`; announced by the log.
        self._kept = self._seen = self._newest = 0
        self._place: UsagePlace | None = None
        self._behind = True
        self._writing = asyncio.Lock()

    @property
    def due(self) -> bool:
        """Whether `write` has something to do."""
        return bool(self._rows) or self._behind or self._is_far(self._seen)

    def _is_far(self, position: int) -> bool:
        """Whether the next start would read many events, though none of them tells of usage."""
        return position - self._kept >= _FAR

    def announced(self, entries: Sequence[Entry], rows: Sequence[UsageRow]) -> None:
        """`rows` are those of the entries with usage."""
        self._newest = entries[-1].position
        if self._behind:
            return
        if entries[0].position != self._seen + 1 or len(self._rows) >= _MAX_ROWS:
            self._fall_behind()
            return
        self._rows += rows
        self._seen = self._newest

    def limit_reached(self, month: str) -> None:
        """Note that the log has the billing.limit.reached of this month."""
        self.limit_month = max(month, self.limit_month or "") or None

    @property
    def place(self) -> UsagePlace | None:
        """The place that the records had when this process last looked, or wrote."""
        return self._place

    @property
    def move(self) -> PlaceMove | None:
        """From the place in the records to the one that their rows reach; None: nowhere."""
        if self._behind or self._rows or self._seen == self._kept:
            return None
        return PlaceMove(self.organization_id, self._place, self._reached(self._seen))

    async def look(self, place: UsagePlace | None, page: Page) -> None:
        """Read the log on from a place that was just read from the records; `page` is what follows
        it. Raises LogError and StoreError."""
        async with self._writing:
            self._fall_behind()
            self._open(place)
            with contextlib.suppress(PlaceMoved):
                await self._follow(page)
                return
        await self.write(look=True)

    async def write(self, *, look: bool = False, fully: bool = False) -> None:
        """Return when the records show all that the log showed at the time of the call.

        `look`: read the log up to its end, since other nodes may have written. `fully`: note the
        place too where no event tells of usage; else a start and a stop would write for every
        organization. Raises LogError and StoreError; the next call writes the rest.
        """
        async with self._writing:
            if look:
                self._fall_behind()
            for _ in range(_RACES):
                with contextlib.suppress(PlaceMoved):  # another node was first: go on from there
                    await self._write(fully)
                    return
        raise StoreUnusable("other nodes write the usage all the time")

    async def _write(self, fully: bool) -> None:
        if self._behind:
            await self._catch_up()
        if self._seen == self._kept or not (fully or self._rows or self._is_far(self._seen)):
            return
        rows, self._rows = self._rows, []
        await self._take_in(rows, self._seen)

    # -- inside ----------------------------------------------------------------------------

    def _fall_behind(self) -> None:
        self._behind = True
        self._rows = []

    async def _take_in(self, rows: Sequence[UsageRow], position: int) -> None:
        place = self._reached(position)
        try:
            await self._records.take_in(self.organization_id, rows, place, behind=self._place)
        except BaseException:
            self._fall_behind()  # nobody knows whether the rows were written
            raise
        self._place, self._kept = place, position

    async def _catch_up(self) -> None:
        self._open(await self._records.place(self.organization_id))
        await self._follow()

    async def _follow(self, page: Page | None = None) -> None:
        after = self._kept
        while True:
            if page is None:
                page = await self._log.read(self.stream, after, limit=_PAGE)
            head = 0 if page.info is None else page.info.head
            if after > head:  # the log was restored from a copy: its positions mean other events
                log_.warning("usage is read anew", organization=self.organization_id)
                after, page = 0, None
                continue
            if page.info is not None and 0 < after < page.info.earliest - 1:
                log_.error("events are gone that tell of usage", organization=self.organization_id)
            rows = [self._row(entry) for entry in page.entries]
            after = page.entries[-1].position if page.entries else head
            known = [row for row in rows if row is not None]
            if known or self._is_far(after):
                await self._take_in(known, after)
            # Rows that were announced meanwhile are not in memory.
            if page.at_end and after >= self._newest:
                break
            page = None
        self._seen = after
        self._behind = False

    def _row(self, entry: Entry) -> UsageRow | None:
        if entry.kind == LIMIT:
            self.limit_reached(limit_month_of(entry))
        return row_of(self.organization_id, entry) if entry.kind == USAGE else None

    def _open(self, place: UsagePlace | None) -> None:
        self._place, self._kept = place, self.place_in_log(place)
        if place is not None:
            self.limit_month = max(place.limit_month or "", self.limit_month or "") or None

    def _reached(self, position: int) -> UsagePlace:
        return UsagePlace(self._log.epoch, position, self.limit_month)

    def place_in_log(self, place: UsagePlace | None) -> int:
        """The position in the log as it is now; 0 for a place in another history of it."""
        return place.position if place is not None and place.epoch == self._log.epoch else 0


class UsageService:
    """Reports of usage, and the budget. All methods raise ApiError, LogError and StoreError."""

    def __init__(self, meter: UsageMeter, records: UsageRepository) -> None:
        self._meter = meter
        self._records = records

    async def report(
        self,
        principal: Principal,
        wanted: UsageFilter,
        group_by: GroupBy,
        *,
        limit: int,
        cursor: str | None,
    ) -> UsageReport:
        """Sums over the ended turns that the caller may see, as of the time of the call."""
        await self._meter.settle(principal.organization_id)
        return await self._records.report(
            Owner.of(principal), wanted, group_by, limit=limit, cursor=cursor
        )

    async def ended(
        self,
        principal: Principal,
        wanted: UsageFilter,
        *,
        statuses: Sequence[str],
        after: tuple[int, str, int] | None,
        limit: int,
    ) -> EndedTurns:
        """The ended turns that the caller may see; see `UsageRepository.ended`."""
        await self._meter.settle(principal.organization_id)
        return await self._records.ended(
            Owner.of(principal), wanted, statuses=statuses, after=after, limit=limit
        )

    def budget(self, principal: Principal) -> BudgetState | None:
        """The organization's budget; None without a budget, or if the caller sees only a part."""
        owner = Owner.of(principal)
        if owner != Owner(owner.organization_id) or not self._meter.budget.monthly_tokens:
            return None
        return self._meter.budget.state(owner.organization_id)
