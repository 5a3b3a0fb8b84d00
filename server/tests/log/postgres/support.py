"""Load for the log, and what must be true of it afterwards."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import asyncpg
from resonantgenesis_server.log.base import Append, Entry, LogUnavailable, NewEntry
from resonantgenesis_server.log.postgres.log import PostgresLog
from resonantgenesis_server.log.postgres.schema import SCHEMA


def new(*bodies: str) -> list[NewEntry]:
    return [NewEntry("m", body.encode()) for body in bodies]


async def put(log: PostgresLog, stream: str, *bodies: str) -> int:
    return (await log.append(Append(stream, new(*bodies))))[0]


async def entries(log: PostgresLog, stream: str) -> list[Entry]:
    found: list[Entry] = []
    while True:
        page = await log.read(stream, found[-1].position if found else 0)
        found += page.entries
        if page.at_end:
            return found


async def texts(log: PostgresLog, stream: str) -> list[str]:
    return [entry.body.decode() for entry in await entries(log, stream)]


async def counted(db: asyncpg.Connection) -> None:
    """Have what this connection did counted in the statistics."""
    if db.get_server_version().major >= 15:
        await db.execute("SELECT pg_stat_force_next_flush()")
        return
    # PostgreSQL 14 hands them over with a transaction, twice a second.
    for _ in range(2):
        await asyncio.sleep(0.6)
        await db.execute("SELECT 1")


@contextlib.asynccontextmanager
async def connection(url: str) -> AsyncIterator[asyncpg.Connection]:
    """One of the test's own, with the log's tables."""
    db = await asyncpg.connect(url, server_settings={"search_path": SCHEMA})
    try:
        yield db
    finally:
        await db.close()


@dataclass
class Load:
    """Streams that are written to all the time, one append after the other in each."""

    log: PostgresLog
    streams: int = 20
    acknowledged: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    errors: list[Exception] = field(default_factory=list)
    stopping: bool = False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        tasks = [asyncio.create_task(self._produce(f"s{n}")) for n in range(self.streams)]
        try:
            yield self
        finally:
            self.stopping = True
            await asyncio.gather(*tasks)

    @property
    def count(self) -> int:
        return sum(map(len, self.acknowledged.values()))

    async def more(self, count: int, seconds: float = 60) -> None:
        """Wait until so many more are acknowledged."""
        goal = self.count + count
        async with asyncio.timeout(seconds):
            while self.count < goal:
                await asyncio.sleep(0.005)

    async def _produce(self, stream: str) -> None:
        place = self.acknowledged.setdefault(stream, [])
        n = 0
        while not self.stopping:
            n += 1
            body = f"{stream}.{n}"
            try:
                position = await put(self.log, stream, body)
            except LogUnavailable as error:
                self.errors.append(error)
            else:
                place.append((position, body))

    async def check(self, log: PostgresLog, announced: dict[str, list[Entry]]) -> None:
        """Nothing that was acknowledged or announced is missing, moved, changed or doubled."""
        for stream, places in self.acknowledged.items():
            there = await entries(log, stream)
            assert [e.position for e in there] == list(range(1, len(there) + 1))
            dates = [e.at for e in there]
            assert dates == sorted(dates)
            bodies = [e.body.decode() for e in there]
            assert len(bodies) == len(set(bodies))
            assert [(p, bodies[p - 1]) for p, _ in places] == places
            assert all(there[e.position - 1] == e for e in announced.get(stream, []))


class Announced:
    """An `on_commit` that keeps what it is told."""

    def __init__(self) -> None:
        self.seen: dict[str, list[Entry]] = {}

    def __call__(self, stream: str, entries: Sequence[Entry]) -> None:
        self.seen.setdefault(stream, []).extend(entries)
