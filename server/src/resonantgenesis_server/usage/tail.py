"""An organization's usage from its event log into the records: each turn once, whatever dies.

A turn's `done` and its billing.usage.recorded are one append, so the log tells of every turn that
ended. How far it was read is kept in the transaction that keeps the rows, so nothing is skipped
and nothing comes twice; a row of a turn that is there already takes its place all the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson
import structlog

from ..log.base import Entry, EventLog
from ..model.events import event_stream
from ..records.usage import Usage, UsagePlace, UsageRow

log_ = structlog.get_logger("resonantgenesis.usage")

USAGE, LIMIT = "billing.usage.recorded", "billing.limit.reached"
#: Rows that wait to be written; past this they are read again from the log.
_MOST_ROWS = 10_000
#: Events that tell of no usage, after which the place is written all the same: they need not be
#: read again at the next start.
_FAR = 10_000
_PAGE = 2_000


def row_of(organization_id: str, entry: Entry) -> UsageRow | None:
    """What a billing.usage.recorded says; None, and a word in the log, for one that says nothing:
    it must not keep the others from being counted and read."""
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


class UsageTail:
    """One organization's. What the log announces is kept in memory until `write`; what is not
    there, at the start or after a failure, is read from the log.

    `announced` is to be called with every commit of its event stream, in order; `write` by one
    task at a time.
    """

    def __init__(self, log: EventLog, records: Usage, organization_id: str) -> None:
        self.organization_id = organization_id
        #: The newest month whose limit is known to have been told.
        self.limit_month: str | None = None
        self._log = log
        self._records = records
        self._stream = event_stream(organization_id)
        self._rows: list[UsageRow] = []
        #: Positions: what the records have; what is in `_rows` too; what the log has announced.
        self._kept = self._seen = self._newest = 0
        self._opened = False
        self._behind = True

    @property
    def due(self) -> bool:
        """Whether there is something to write."""
        return bool(self._rows) or self._behind or self._seen - self._kept >= _FAR

    def announced(self, entries: Sequence[Entry], rows: Sequence[UsageRow]) -> None:
        """`rows` are those of the entries that tell of usage."""
        self._newest = entries[-1].position
        if self._behind:
            return
        if entries[0].position != self._seen + 1 or len(self._rows) >= _MOST_ROWS:
            self._fall_behind()
            return
        self._rows += rows
        self._seen = self._newest

    def told(self, month: str) -> None:
        """The log has the billing.limit.reached of this month."""
        self.limit_month = max(month, self.limit_month or "") or None

    async def write(self) -> None:
        """Return when the records show what the log showed at the time of the call.

        Raises LogError and StoreError; what was not written then is written by the next call.
        """
        if self._behind:
            await self._catch_up()
        if self._seen == self._kept:
            return
        rows, self._rows = self._rows, []
        await self._take_in(rows, self._seen)

    # -- inside ----------------------------------------------------------------------------

    def _fall_behind(self) -> None:
        self._behind = True
        self._rows = []

    async def _take_in(self, rows: Sequence[UsageRow], position: int) -> None:
        place = UsagePlace(self._log.epoch, position, self.limit_month)
        try:
            await self._records.take_in(self.organization_id, rows, place)
        except BaseException:
            self._fall_behind()  # nobody knows whether it was taken
            raise
        self._kept = position

    async def _catch_up(self) -> None:
        if not self._opened:
            await self._open()
        after = self._kept
        while True:
            page = await self._log.read(self._stream, after, limit=_PAGE)
            head = 0 if page.info is None else page.info.head
            if after > head:  # the log was put back from a copy: its positions mean other events
                log_.warning("usage is read anew", organization=self.organization_id)
                after = 0
                continue
            if page.info is not None and 0 < after < page.info.earliest - 1:
                log_.error("events are gone that tell of usage", organization=self.organization_id)
            rows = [self._row(entry) for entry in page.entries]
            after = page.entries[-1].position if page.entries else head
            if after != self._kept:
                await self._take_in([row for row in rows if row is not None], after)
            # What was announced meanwhile was not kept in memory.
            if page.at_end and after >= self._newest:
                break
        self._seen = after
        self._behind = False

    def _row(self, entry: Entry) -> UsageRow | None:
        if entry.kind == LIMIT:
            self.told(limit_month_of(entry))
        return row_of(self.organization_id, entry) if entry.kind == USAGE else None

    async def _open(self) -> None:
        place = await self._records.place(self.organization_id)
        if place is not None:
            self.limit_month = place.limit_month
            self._kept = place.position if place.epoch == self._log.epoch else 0
        self._opened = True
