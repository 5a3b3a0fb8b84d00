"""A PostgreSQL log as rows; see `log/transfer.py`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import asyncpg

from ...postgres_errors import ERRORS
from ..base import LogUnavailable
from ..transfer import COPY, PAGE_BYTES, PAGE_ROWS, EntryRow, KeyRow, StreamRow, Totals
from .connection import unavailable
from .outbox import FORGET, sequence_all
from .schema import SCHEMA, create_or_check, look_at
from .upkeep import BEAT_SECONDS, BEATS

_CONNECT = 5.0
#: Seconds that one statement may take.
_STATEMENT = 120.0
_SETTINGS = {
    "search_path": SCHEMA,
    "application_name": "resonantgenesis/copy",
    "synchronous_commit": "on",
}
_STREAM_COLUMNS = ("id", "name", "head", "last_at", "earliest", "fence", "closed", "pending")
_ENTRY_COLUMNS = ("stream", "position", "at", "kind", "body", "key")
_STREAMS = f"""
SELECT {", ".join(_STREAM_COLUMNS)} FROM streams WHERE id>$1 ORDER BY id LIMIT $2
"""  # noqa: S608  # our own names
# The window sums the bodies up to a row; the first row that begins past the bound ends the page.
# Entries of deleted streams may still be there: they are of no stream.
_ENTRIES = """
SELECT stream, position, at, kind, body, key FROM (
  SELECT x.*, sum(octet_length(body)) OVER (
      ORDER BY stream, position ROWS UNBOUNDED PRECEDING) - octet_length(body) AS before
  FROM (
    SELECT e.* FROM entries e WHERE (stream, position) > ($1, $2)
    AND EXISTS (SELECT 1 FROM streams s WHERE s.id=e.stream)
    ORDER BY stream, position LIMIT $3
  ) x
) y WHERE before < $4 ORDER BY stream, position
"""
_FENCE = """
SELECT greatest((SELECT value::bigint FROM meta WHERE name='fence'), (SELECT max(id) FROM nodes))
"""
_COUNT = """
SELECT (SELECT count(*) FROM streams),
  (SELECT count(*) FROM entries e WHERE EXISTS (SELECT 1 FROM streams s WHERE s.id=e.stream))
"""


class PostgresRows:
    """A LogRows over one database. While it is open no node can join."""

    def __init__(self, db: asyncpg.Connection, epoch: str, fence: int) -> None:
        self._db = db
        self.epoch = epoch
        self.fence = fence

    @classmethod
    async def open(cls, url: str) -> PostgresRows:
        """Makes the tables if they are missing. Raises LogUnavailable and StoreIsNewer."""
        with _translated():
            try:
                db = await asyncpg.connect(
                    url,
                    timeout=_CONNECT,
                    command_timeout=_STATEMENT,
                    target_session_attrs="read-write",
                    server_settings=_SETTINGS,
                )
            except ValueError as error:
                raise LogUnavailable("the database's URL cannot be understood") from error
            try:
                # The lock that whoever joins takes for a moment.
                lock = "SELECT pg_try_advisory_lock(hashtext($1))"
                if not await db.fetchval(lock, SCHEMA):
                    raise LogUnavailable("the store is being started, upgraded or copied")
                server = await look_at(db)
                epoch = await create_or_check(db, SCHEMA, server.history, for_copy=True)
                await _refuse_nodes(db)
                await _end_outboxes(db)
                return cls(db, epoch, int(await db.fetchval(_FENCE)))
            except BaseException:
                db.terminate()
                raise

    async def mark(self) -> str | None:
        with _translated():
            mark: str | None = await self._db.fetchval("SELECT value FROM meta WHERE name=$1", COPY)
            return mark

    async def totals(self) -> Totals:
        with _translated():
            return Totals(*await self._db.fetchrow(_COUNT))

    async def streams(self, after: int) -> Sequence[StreamRow]:
        with _translated():
            return [StreamRow(*row) for row in await self._db.fetch(_STREAMS, after, PAGE_ROWS)]

    async def entries(self, after: tuple[int, int]) -> Sequence[EntryRow]:
        with _translated():
            rows = await self._db.fetch(_ENTRIES, *after, PAGE_ROWS, PAGE_BYTES)
            return [EntryRow(*row) for row in rows]

    async def keys(self) -> Sequence[KeyRow]:
        with _translated():
            rows = await self._db.fetch(
                "SELECT scope, key, value, extract(epoch FROM expires - clock_timestamp())::float8"
                " FROM idempotency WHERE expires > clock_timestamp()"
            )
            return [KeyRow(*row) for row in rows]

    async def begin(self, mark: str, epoch: str, fence: int) -> None:
        async with self._writing() as db:
            await db.executemany(
                "INSERT INTO meta VALUES ($1, $2)"
                " ON CONFLICT (name) DO UPDATE SET value=excluded.value",
                [(COPY, mark), ("epoch", epoch), ("fence", str(fence))],
            )
            # Numbers of nodes are not given out again: events name them.
            await db.execute(f"ALTER TABLE nodes ALTER id RESTART WITH {fence + 1:d}")
        self.epoch, self.fence = epoch, fence

    async def add_streams(self, rows: Sequence[StreamRow]) -> None:
        async with self._writing() as db:
            await db.copy_records_to_table("streams", records=rows, columns=_STREAM_COLUMNS)

    async def add_entries(self, rows: Sequence[EntryRow]) -> None:
        async with self._writing() as db:
            await db.copy_records_to_table("entries", records=rows, columns=_ENTRY_COLUMNS)

    async def add_keys(self, rows: Sequence[KeyRow]) -> None:
        async with self._writing() as db:
            await db.executemany(
                "INSERT INTO idempotency VALUES"
                " ($1, $2, $3, clock_timestamp() + make_interval(secs => $4))"
                " ON CONFLICT DO NOTHING",
                rows,
            )

    async def last_stream(self) -> int:
        with _translated():
            return int(await self._db.fetchval("SELECT coalesce(max(id), 0) FROM streams"))

    async def last_entry(self) -> tuple[int, int]:
        with _translated():
            row = await self._db.fetchrow(
                "SELECT stream, position FROM entries ORDER BY stream DESC, position DESC LIMIT 1"
            )
            return (0, 0) if row is None else (row[0], row[1])

    async def end(self) -> None:
        async with self._writing() as db:
            # A node takes the numbers from the one that it is given up to the next thousand.
            await db.execute(
                "SELECT setval('stream_numbers', coalesce(max(id), 0) + 1, false) FROM streams"
            )
            await db.execute("DELETE FROM meta WHERE name=$1", COPY)

    async def close(self) -> None:
        try:
            await self._db.execute("ANALYZE streams, entries")
            await self._db.close(timeout=_CONNECT)
        except ERRORS:
            self._db.terminate()

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[asyncpg.Connection]:
        with _translated():
            async with self._db.transaction():
                yield self._db


async def _refuse_nodes(db: asyncpg.Connection) -> None:
    """Raises LogUnavailable if a node beats."""
    before = {row["node"]: row["beat"] for row in await db.fetch(BEATS)}
    if not before:
        return
    await asyncio.sleep(BEAT_SECONDS)
    running = [
        row["name"] for row in await db.fetch(BEATS) if before.get(row["node"], -1) != row["beat"]
    ]
    if running:
        names = ", ".join(name or "?" for name in running)
        raise LogUnavailable(f"servers use the store; stop them first: {names}")


async def _end_outboxes(db: asyncpg.Connection) -> None:
    """Give what nodes left in their outboxes its places in the streams that it is for. Nodes that
    were killed, or stand still, write nothing any more."""
    await db.execute("UPDATE writers SET alive=false, generation=generation+1 WHERE alive")
    await sequence_all(db)
    await db.execute(FORGET)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except ERRORS as error:
        raise unavailable(error) from error
