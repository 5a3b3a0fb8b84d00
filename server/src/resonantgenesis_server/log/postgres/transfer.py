"""A PostgreSQL log, in one database or spread over several, as rows; see `log/transfer.py`."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import asyncpg

from ...postgres_errors import ERRORS
from ..base import LogUnavailable
from ..transfer import COPY, PAGE_BYTES, PAGE_ROWS, EntryRow, KeyRow, StreamRow, Totals
from .connection import unavailable
from .databases import Placing, agree, joined_epoch, label_of, numbers_from, place_each, placing
from .log import is_events
from .outbox import FORGET, Place, Rows, carry, place_here
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

    def __init__(self, db: asyncpg.Connection, epoch: str, fence: int, among: tuple[int, int]):
        """`among`: which database this is of how many."""
        self._db = db
        self.epoch = epoch
        self.fence = fence
        self._among = among

    @classmethod
    async def open(cls, url: str) -> PostgresRows:
        """Makes the tables if they are missing. Raises LogUnavailable and StoreIsNewer."""
        rows = await cls.open_part(url, (0, 1))
        try:
            await rows.end_outboxes(rows.place)
        except BaseException:
            rows.terminate()
            raise
        return rows

    @classmethod
    async def open_part(cls, url: str, among: tuple[int, int]) -> PostgresRows:
        """One of several databases, in whose outboxes something may wait. Raises LogUnavailable and
        StoreIsNewer."""
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
                epoch = await create_or_check(
                    db, SCHEMA, server.history, for_copy=True, is_one_of_several=among[1] > 1
                )
                await _refuse_nodes(db)
                # Nodes that were killed, or stand still, write nothing any more.
                await db.execute(
                    "UPDATE writers SET alive=false, generation=generation+1 WHERE alive"
                )
                return cls(db, epoch, int(await db.fetchval(_FENCE) or 0), among)
            except BaseException:
                db.terminate()
                raise

    def terminate(self) -> None:
        self._db.terminate()

    async def place(self, rows: Rows) -> None:
        """Give entries that wait in an outbox their positions here."""
        with _translated():
            await place_here(self._db, 0, rows)

    async def end_outboxes(self, place: Place) -> None:
        """Have what nodes left in their outboxes placed in the streams that it is for."""
        with _translated():
            while (await carry(self._db, place))[0]:
                pass
            await self._db.execute(FORGET)

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

    async def held(self, numbers: Sequence[int]) -> set[int]:
        """Which of these numbers are of streams here."""
        with _translated():
            rows = await self._db.fetch("SELECT id FROM streams WHERE id = ANY($1)", numbers)
            return {row["id"] for row in rows}

    async def forget_streams(self, after: int) -> None:
        """Remove the rows of streams with higher numbers."""
        async with self._writing() as db:
            await db.execute("DELETE FROM streams WHERE id > $1", after)

    async def forget_entries(self, after: tuple[int, int]) -> None:
        """Remove the entries behind this stream and position."""
        async with self._writing() as db:
            await db.execute("DELETE FROM entries WHERE (stream, position) > ($1, $2)", *after)

    async def last_entry(self) -> tuple[int, int]:
        with _translated():
            row = await self._db.fetchrow(
                "SELECT stream, position FROM entries ORDER BY stream DESC, position DESC LIMIT 1"
            )
            return (0, 0) if row is None else (row[0], row[1])

    async def end(self) -> None:
        async with self._writing() as db:
            last = await db.fetchval("SELECT coalesce(max(id), 0) FROM streams")
            first = numbers_from(last, *self._among)
            await db.execute("SELECT setval('stream_numbers', $1, false)", first)
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


T = TypeVar("T", StreamRow, EntryRow)


class SpreadRows:
    """A LogRows over several databases, whose stream numbers are all different.

    A page is written to each database by a transaction of its own, to the first one last.
    """

    def __init__(self, parts: Sequence[PostgresRows], place_of: Placing) -> None:
        self._parts = parts
        self._place_of = place_of

    @classmethod
    async def open(cls, urls: Sequence[str], *, make: bool) -> SpreadRows:
        """Open the store in these databases, or make it if `make`. Raises LogUnavailable and
        StoreIsNewer."""
        await agree(urls, make=make, for_copy=True)
        parts: list[PostgresRows] = []
        rows = cls(parts, placing(len(urls), is_events))
        try:
            for place, url in enumerate(urls):
                try:
                    parts.append(await PostgresRows.open_part(url, (place, len(urls))))
                except LogUnavailable as error:
                    raise LogUnavailable(f"{label_of(place, len(urls))}: {error}") from error
            for part in parts:
                await part.end_outboxes(rows._place)
        except BaseException:
            for part in parts:
                part.terminate()
            raise
        return rows

    async def _place(self, rows: Rows) -> None:
        await place_each(rows, [part.place for part in self._parts], self._place_of)

    @property
    def epoch(self) -> str:
        return joined_epoch(part.epoch for part in self._parts)

    @property
    def fence(self) -> int:
        return max(part.fence for part in self._parts)

    async def mark(self) -> str | None:
        return await self._parts[0].mark()

    async def totals(self) -> Totals:
        each = [await part.totals() for part in self._parts]
        return Totals(sum(of.streams for of in each), sum(of.entries for of in each))

    async def streams(self, after: int) -> Sequence[StreamRow]:
        pages = [await part.streams(after) for part in self._parts]
        return _merged(pages, lambda row: row.number)

    async def entries(self, after: tuple[int, int]) -> Sequence[EntryRow]:
        pages = [await part.entries(after) for part in self._parts]
        return _merged(pages, lambda row: (row.stream, row.position))

    async def keys(self) -> Sequence[KeyRow]:
        return await self._parts[0].keys()

    async def begin(self, mark: str, epoch: str, fence: int) -> None:
        rest = [secrets.token_hex(8) for _ in self._parts[1:]]
        epochs = [joined_epoch([epoch, *rest]), *rest]
        for part, each in reversed(list(zip(self._parts, epochs, strict=True))):
            await part.begin(mark, each, fence)

    async def add_streams(self, rows: Sequence[StreamRow]) -> None:
        for place, part in reversed(list(enumerate(self._parts))):
            here = [row for row in rows if self._place_of(row.name.decode()) == place]
            await part.add_streams(here)

    async def add_entries(self, rows: Sequence[EntryRow]) -> None:
        numbers = list({row.stream for row in rows})
        for part in reversed(self._parts):
            held = await part.held(numbers)
            await part.add_entries([row for row in rows if row.stream in held])

    async def add_keys(self, rows: Sequence[KeyRow]) -> None:
        await self._parts[0].add_keys(rows)

    async def last_stream(self) -> int:
        last = min([await part.last_stream() for part in self._parts])
        for part in self._parts:  # of a page that not all of them have
            await part.forget_streams(last)
        return last

    async def last_entry(self) -> tuple[int, int]:
        last = min([await part.last_entry() for part in self._parts])
        for part in self._parts:
            await part.forget_entries(last)
        return last

    async def end(self) -> None:
        for part in reversed(self._parts):
            await part.end()

    async def close(self) -> None:
        for part in self._parts:
            await part.close()


def _merged(pages: Sequence[Sequence[T]], key: Callable[[T], Any]) -> list[T]:
    """What is whole of these pages, in one order: each ends where others may go on."""
    ends = [key(page[-1]) for page in pages if page]
    return sorted((row for page in pages for row in page if key(row) <= min(ends)), key=key)


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


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except ERRORS as error:
        raise unavailable(error) from error
