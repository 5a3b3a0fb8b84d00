"""What the tests of this folder share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
from resonantgenesis_server.app import Parts
from resonantgenesis_server.log.base import Append, Entry, EventLog, LogUnavailable
from resonantgenesis_server.log.postgres.log import PostgresLog
from resonantgenesis_server.log.sqlite.log import SqliteLog
from resonantgenesis_server.model.events import event_stream
from resonantgenesis_server.records.base import Actor, AgentRecord, StoreUnusable
from resonantgenesis_server.records.outbox import OutboxRepository, OutboxRow
from resonantgenesis_server.records.store import Records

TOLD = Actor("key_1", "req_1")


@dataclass
class Stores:
    """Both stores of one data directory."""

    folder: Path
    records: Records
    log: SqliteLog | PostgresLog
    #: The address of a database; None: both stores are files.
    store: str | None = None

    @classmethod
    async def open(cls, folder: Path, store: str | None = None) -> Stores:
        records = await Records.open(store or f"sqlite:///{folder / 'records.db'}")
        if store is None:
            return cls(folder, records, await SqliteLog.open(folder / "log.db"))
        return cls(folder, records, await PostgresLog.open(store), store)

    async def close(self) -> None:
        await self.log.close()
        await self.records.close()

    async def reopen(self) -> None:
        """What a process finds that starts after this one."""
        await self.close()
        again = await Stores.open(self.folder, self.store)
        self.records, self.log = again.records, again.log

    async def organization(self, name: str = "first") -> str:
        return (await self.records.organizations.create(name)).id

    async def make(self, organization_id: str, *ids: str) -> None:
        """Agents whose events are in the outbox."""
        for id in ids:
            agent = AgentRecord(id, organization_id, id, "guide")
            await self.records.agents.create(agent, actor=TOLD)

    async def events(self, organization_id: str) -> list[dict[str, Any]]:
        return await events_of(self.log, organization_id)

    async def relayed(self, organization_id: str) -> list[str]:
        """The agents whose making the log tells, in order."""
        events = await self.events(organization_id)
        return [event["data"]["agent_id"] for event in events]


async def entries_of(log: EventLog, organization_id: str) -> list[Entry]:
    found: list[Entry] = []
    while True:
        after = found[-1].position if found else 0
        page = await log.read(event_stream(organization_id), after, limit=1_000)
        found += page.entries
        if page.at_end:
            return found


async def events_of(log: EventLog, organization_id: str) -> list[dict[str, Any]]:
    return [orjson.loads(entry.body) for entry in await entries_of(log, organization_id)]


class FaultyLog:
    """A log that can be down, or break the news of an append after it was taken, or hang."""

    def __init__(self, log: SqliteLog) -> None:
        self._log = log
        self.epoch = log.epoch
        self.down = False
        self.hangs = False
        self.answers_lost = 0
        self.attempts = 0
        self.trims: list[tuple[str, int]] = []

    def append(self, *appends: Append) -> asyncio.Future[list[int]]:
        self.attempts += 1
        if self.down or self.hangs:
            future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
            if self.down:
                future.set_exception(LogUnavailable("the disk is full"))
            return future
        if self.answers_lost:
            self.answers_lost -= 1
            return asyncio.ensure_future(self._lose(self._log.append(*appends)))
        return self._log.append(*appends)

    async def _lose(self, taken: asyncio.Future[list[int]]) -> list[int]:
        await taken
        raise LogUnavailable("nobody knows whether it was taken")

    async def room(self) -> None:
        await self._log.room()

    async def read(self, stream: str, after: int, **bounds: int) -> Any:
        return await self._log.read(stream, after, **bounds)

    async def locate(self, stream: str, **wanted: Any) -> int | None:
        return await self._log.locate(stream, **wanted)

    async def trim(self, stream: str, before: int) -> None:
        self.trims.append((stream, before))
        await self._log.trim(stream, before)

    async def delete(self, *streams: str) -> None:
        await self._log.delete(*streams)


class ForgetfulOutbox:
    """An outbox whose process dies before it has taken note of what the log has, `times` times."""

    def __init__(self, outbox: OutboxRepository, times: int) -> None:
        self._outbox = outbox
        self._times = times

    async def pending(self, limit: int = 32) -> Sequence[OutboxRow]:
        return await self._outbox.pending(limit)

    async def done(self, ids: Sequence[int]) -> None:
        if self._times:
            self._times -= 1
            raise StoreUnusable("the process died")
        await self._outbox.done(ids)


def client_of(parts: Parts, key: str = "rg_test_outbox_key") -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(parts.app),
        base_url="http://testserver",
        headers={"Authorization": f"Bearer {key}"},
    )
