"""What the tests of this folder share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from resonantgenesis_server.budget import Budget
from resonantgenesis_server.codec.events import events_append
from resonantgenesis_server.log.base import Append, Entry, NewEntry
from resonantgenesis_server.log.postgres.log import PostgresLog
from resonantgenesis_server.log.sqlite.log import SqliteLog
from resonantgenesis_server.model.events import NewEvent, event_stream
from resonantgenesis_server.records.base import StoreUnusable
from resonantgenesis_server.records.files import Owner
from resonantgenesis_server.records.store import Records
from resonantgenesis_server.records.usage import (
    UsageFilter,
    UsagePlace,
    UsageRepository,
    UsageRow,
    UsageSums,
)
from resonantgenesis_server.sessions.session_log import TurnEvents
from resonantgenesis_server.sessions.state import SessionInfo
from resonantgenesis_server.usage import UsageMeter

ALL = UsageFilter(0.0)


def ending(org: str, session_id: str, turn: int, tokens: int) -> list[Append]:
    """The append with which a turn ends, as its ledger makes it."""
    info = SessionInfo(session_id, org, "agent", "ann", {}, {}, 0.0)
    told = TurnEvents(info, turn, "key_1", "req_1")
    usage = {"input_tokens": tokens - 1, "output_tokens": 1, "steps": 2, "duration_ms": 30}
    done = Append(session_id, [NewEntry("done", b"{}")])
    return [done, *events_append(org, told.ended("success", usage, None, None))]


class FaultyUsage:
    """Rows that cannot be written while `down`, or are and their answer is lost."""

    def __init__(self, usage: UsageRepository) -> None:
        self._usage = usage
        self.down = False
        self.answers_lost = 0
        self.writes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._usage, name)

    async def take_in(
        self, org: str, rows: Sequence[UsageRow], place: UsagePlace, **options: Any
    ) -> None:
        if self.down:
            raise StoreUnusable("the disk is full")
        self.writes += 1
        await self._usage.take_in(org, rows, place, **options)
        if self.answers_lost:
            self.answers_lost -= 1
            raise StoreUnusable("nobody knows whether it was taken")


class Stores:
    """Both stores of one data directory with the meter between them; opened as often as a test
    likes: each time a new process as far as the files can tell."""

    def __init__(self, folder: Path, monthly_tokens: int = 0, store: str | None = None) -> None:
        self.folder = folder
        #: The address of a database; None: both stores are files.
        self.store = store
        self.monthly_tokens = monthly_tokens
        self.organization = ""
        self._numbers = itertools.count(1)
        self._is_open = False

    async def open(self, *, load: bool = True) -> None:
        self.records = await Records.open(self.store or f"sqlite:///{self.folder / 'records.db'}")
        first = await self.records.organizations.first()
        made = first or await self.records.organizations.create("first")
        self.organization = made.id
        self.usage = FaultyUsage(self.records.usage)
        if self.store is None:
            self.log: SqliteLog | PostgresLog = await SqliteLog.open(
                self.folder / "log.db", on_commit=self._committed
            )
        else:
            self.log = await PostgresLog.open(self.store, on_commit=self._committed)
        self.meter = UsageMeter(
            self.log,
            self.usage,  # type: ignore[arg-type]
            self.records.organizations,
            Budget(self.monthly_tokens),
        )
        self._is_open = True
        if load:
            await self.meter.load()

    def _committed(self, stream: str, entries: Sequence[Entry]) -> None:
        self.meter.committed(stream, entries)

    async def crash(self) -> None:
        """Nothing that waits in memory is written."""
        await self.meter._loop.close()
        await self._close_stores()

    async def close(self) -> None:
        if self._is_open:
            await self.meter.close()
            await self._close_stores()

    async def _close_stores(self) -> None:
        self._is_open = False
        await self.log.close()
        await self.records.close()

    # -- short words -----------------------------------------------------------------------

    async def turns(self, count: int, tokens: int = 10, org: str | None = None) -> None:
        """So many turns end."""
        for _ in range(count):
            name = f"sess_{next(self._numbers)}"
            await self.log.append(*ending(org or self.organization, name, 1, tokens))

    async def noise(self, count: int) -> None:
        """Events that tell of no usage."""
        events = [NewEvent(f"evt_{next(self._numbers)}", "app.noise", {}) for _ in range(count)]
        await self.log.append(*events_append(self.organization, events))

    async def entries(self, org: str | None = None) -> list[Entry]:
        found: list[Entry] = []
        while True:
            after = found[-1].position if found else 0
            page = await self.log.read(event_stream(org or self.organization), after)
            found += page.entries
            if page.at_end:
                return found

    async def limit_events(self, org: str | None = None) -> list[dict[str, Any]]:
        """The limits that the log says were reached."""
        return [
            orjson.loads(entry.body)["data"]
            for entry in await self.entries(org)
            if entry.kind == "billing.limit.reached"
        ]

    async def kept(self, org: str | None = None) -> UsageSums:
        """What the records have now, without asking anybody to write."""
        name = org or self.organization
        return (await self.records.usage.report(Owner(name), ALL, "day")).totals

    async def place(self) -> UsagePlace:
        found = await self.records.usage.place(self.organization)
        assert found is not None
        return found

    async def agree(self, org: str | None = None) -> UsageSums:
        """The rows are those that the log tells of, each once; their sums."""
        told = [
            orjson.loads(entry.body)["data"]
            for entry in await self.entries(org)
            if entry.kind == "billing.usage.recorded"
        ]
        expected = {(data["session_id"], data["turn"]): data["input_tokens"] for data in told}
        assert len(expected) == len(told)
        owner = Owner(org or self.organization)
        report = await self.records.usage.report(owner, ALL, "turn", limit=100_000)
        kept = {
            (group.names["session_id"], group.names["turn"]): group.sums.input_tokens
            for group in report.page.items
        }
        assert kept == expected
        return report.totals
