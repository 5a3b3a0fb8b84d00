"""A SQLite log as rows; see `log/transfer.py`."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from ...model.clock import Clock
from ..base import LogUnavailable
from ..transfer import COPY, PAGE_BYTES, PAGE_ROWS, EntryRow, KeyRow, StreamRow, Totals
from .schema import POSITION_BITS, SPAN, configure_writer, create_or_check, describe
from .tail import Tail

T = TypeVar("T")
_STREAMS = """
SELECT id, name, head, last_at, earliest, fence, closed, pending FROM streams
WHERE id>? ORDER BY id LIMIT ?
"""
_ENTRIES = """
SELECT e.id, e.at, e.kind, e.body, k.key FROM entries e
LEFT JOIN entry_keys k ON k.stream=(e.id >> 32) AND k.position=(e.id & 4294967295)
WHERE e.id>? ORDER BY e.id
"""


class SqliteRows:
    """A LogRows over one file, made if it is missing."""

    def __init__(self, db: sqlite3.Connection, clock: Clock, epoch: str) -> None:
        self._db = db
        self._clock = clock
        self.epoch = epoch
        self.fence = int(self._meta("fence") or 0)

    @classmethod
    async def open(cls, path: Path, clock: Clock) -> SqliteRows:
        """Raises LogUnavailable and StoreIsNewer."""

        def connect() -> SqliteRows:
            epoch = create_or_check(path, secrets.token_hex(8), for_copy=True)
            with _translated():
                db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
                configure_writer(db)
                db.execute("BEGIN IMMEDIATE")
                Tail().claim(db)  # every entry is in `entries` then
                db.execute("COMMIT")
                return cls(db, clock, epoch)

        return await asyncio.to_thread(connect)

    async def mark(self) -> str | None:
        return await self._run(lambda: self._meta(COPY))

    async def totals(self) -> Totals:
        def count() -> Totals:
            (streams,) = self._db.execute("SELECT count(*) FROM streams").fetchone()
            (entries,) = self._db.execute("SELECT count(*) FROM entries").fetchone()
            return Totals(streams, entries)

        return await self._run(count)

    async def streams(self, after: int) -> Sequence[StreamRow]:
        def read() -> list[StreamRow]:
            rows = self._db.execute(_STREAMS, (after, PAGE_ROWS))
            return [
                StreamRow._make((row[0], row[1].encode(), *row[2:6], bool(row[6]), bool(row[7])))
                for row in rows
            ]

        return await self._run(read)

    async def entries(self, after: tuple[int, int]) -> Sequence[EntryRow]:
        stream, position = after

        def read() -> list[EntryRow]:
            found: list[EntryRow] = []
            size = 0
            rows = self._db.execute(_ENTRIES, ((stream << POSITION_BITS) + position,))
            with contextlib.closing(rows):
                for number, at, kind, body, key in rows:
                    place = number >> POSITION_BITS, number & (SPAN - 1)
                    encoded = None if key is None else key.encode()
                    found.append(EntryRow(*place, at, kind.encode(), body, encoded))
                    size += len(body)
                    if len(found) >= PAGE_ROWS or size >= PAGE_BYTES:
                        break
            return found

        return await self._run(read)

    async def keys(self) -> Sequence[KeyRow]:
        def read() -> list[KeyRow]:
            now = self._clock.passed()
            rows = self._db.execute("SELECT * FROM idempotency WHERE expires>?", (now,))
            return [
                KeyRow(scope.encode(), key.encode(), value, expires - now)
                for scope, key, value, expires in rows
            ]

        return await self._run(read)

    async def begin(self, mark: str, epoch: str, fence: int) -> None:
        def begin() -> None:
            meta = [(COPY, mark), ("epoch", epoch), ("fence", fence)]
            self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta)

        await self._write(begin)
        self.epoch, self.fence = epoch, fence

    async def add_streams(self, rows: Sequence[StreamRow]) -> None:
        if rows and rows[-1].number >= 1 << (63 - POSITION_BITS):
            raise LogUnavailable("the log has numbers of streams that SQLite has no place for")
        sql = (
            "INSERT INTO streams (id, name, head, last_at, earliest, fence, closed, pending)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        )
        decoded = [(row.number, row.name.decode(), *row[2:]) for row in rows]
        await self._write(lambda: self._db.executemany(sql, decoded))

    async def add_entries(self, rows: Sequence[EntryRow]) -> None:
        def add() -> None:
            self._db.executemany(
                "INSERT INTO entries VALUES (?, ?, ?, ?)",
                (
                    ((r.stream << POSITION_BITS) + r.position, r.kind.decode(), r.body, r.at)
                    for r in rows
                ),
            )
            self._db.executemany(
                "INSERT INTO entry_keys VALUES (?, ?, ?)",
                ((r.stream, r.key.decode(), r.position) for r in rows if r.key is not None),
            )

        await self._write(add)

    async def add_keys(self, rows: Sequence[KeyRow]) -> None:
        def add() -> None:
            now = self._clock.passed()
            self._db.executemany(
                "INSERT OR IGNORE INTO idempotency VALUES (?, ?, ?, ?)",
                ((r.scope.decode(), r.key.decode(), r.value, now + r.left) for r in rows),
            )

        await self._write(add)

    async def last_stream(self) -> int:
        def last() -> int:
            (number,) = self._db.execute("SELECT max(id) FROM streams").fetchone()
            return number or 0

        return await self._run(last)

    async def last_entry(self) -> tuple[int, int]:
        def last() -> tuple[int, int]:
            (number,) = self._db.execute("SELECT max(id) FROM entries").fetchone()
            return (0, 0) if number is None else (number >> POSITION_BITS, number & (SPAN - 1))

        return await self._run(last)

    async def end(self) -> None:
        await self._write(lambda: self._db.execute("DELETE FROM meta WHERE name=?", (COPY,)))

    async def close(self) -> None:
        await self._run(self._db.close)

    def _meta(self, name: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE name=?", (name,)).fetchone()
        return None if row is None else str(row[0])

    async def _run(self, work: Callable[[], T]) -> T:
        def run() -> T:
            with _translated():
                return work()

        return await asyncio.to_thread(run)

    async def _write(self, work: Callable[[], object]) -> None:
        def write() -> None:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                work()
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

        await self._run(write)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise LogUnavailable(describe(error)) from error
