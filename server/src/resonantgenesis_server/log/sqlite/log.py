"""The embedded backend: one SQLite file, one writer thread, readers in a small pool.

Durability: `synchronous=FULL` on a write-ahead log, so a commit is an fsync; entries survive
kill -9 and power loss as far as the disk keeps its word.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from ...model.clock import Clock
from ..base import (
    Append,
    Entry,
    LogUnavailable,
    OnCommit,
    Page,
    StreamInfo,
    check_deletion,
    check_text,
)
from ..queue import Job, QueuedLog
from .schema import POSITION_BITS, SPAN, configure, create_or_check, describe
from .tail import Look, Tail, first_since, last_row, rows_after
from .writer import SqliteWriter

T = TypeVar("T")
_READERS = 4
#: The largest integer that SQLite compares.
_MAX_TIME = (1 << 63) - 1


class SqliteLog(QueuedLog):
    """EventLog and IdempotencyKeys over one file. Made by `open`, ended by `close`."""

    durability = "fsync per group commit"
    #: See `PostgresLog.problem`: a failure of the disk is told by the appends themselves.
    problem: str | None = None

    def __init__(
        self,
        path: Path,
        writer: SqliteWriter,
        clock: Clock,
        *,
        epoch: str,
        on_commit: OnCommit,
        max_queued_bytes: int,
    ) -> None:
        super().__init__(on_commit, max_queued_bytes)
        self.epoch = epoch
        self._path = path
        self._writer = writer
        self._clock = clock
        self._readers = futures.ThreadPoolExecutor(_READERS, thread_name_prefix="log-reader")
        self._reads: set[futures.Future[Any]] = set()
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._connections_lock = threading.Lock()

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        on_commit: OnCommit = lambda _stream, _entries: None,
        max_queued_bytes: int = 64 * 1024 * 1024,
        clock: Clock | None = None,
        on_broken: Callable[[], None] = lambda: None,
    ) -> SqliteLog:
        """Open or create the store at `path`.

        `on_broken` is called on the event loop when the log fails for mistakes of ours, time after
        time: it cannot be expected to recover.

        Raises LogUnavailable if it is locked, damaged or not writable, StoreIsNewer if a later
        version of the program wrote it.
        """
        epoch = await asyncio.to_thread(create_or_check, path, secrets.token_hex(8))
        clock = clock or Clock()
        writer = SqliteWriter(path, clock)
        log = cls(
            path,
            writer,
            clock,
            epoch=epoch,
            on_commit=on_commit,
            max_queued_bytes=max_queued_bytes,
        )
        writer.start(log._deliver_soon, lambda: log._soon(on_broken))
        return log

    async def close(self, timeout: float = 10.0) -> None:
        """Commit what was accepted, refuse what comes after, stop the threads.

        Waits at most `timeout` seconds; raises LogUnavailable if the disk did not answer by then.
        """
        self._shut()
        stopped = await asyncio.to_thread(self._stop, timeout)
        await asyncio.sleep(0)  # lets the last commits' callbacks run
        if not stopped:
            raise LogUnavailable(f"the log did not finish its work within {timeout:g} s")

    def _stop(self, timeout: float) -> bool:
        """End writer and readers; False if one of them still works after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        stopped = self._writer.stop(timeout)
        # Not cancelled: to its reader that would look like a cancellation of the reader's own.
        self._readers.shutdown(wait=False)
        left = max(0.0, deadline - time.monotonic())
        if futures.wait(list(self._reads), timeout=left).not_done:
            return False
        with self._connections_lock:
            for connection in self._connections:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()
            self._connections.clear()
        return stopped

    # -- writing ---------------------------------------------------------------------------

    def _put(self, job: Job) -> None:
        self._writer.submit(job)

    def _deliver_soon(self, done: list[Job]) -> None:
        """From the writer thread, after a commit (or its failure)."""
        self._soon(lambda: self._deliver(done))

    def _soon(self, call: Callable[[], None]) -> None:
        # The loop is closed when the program is torn down without close(): nobody waits then.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)

    async def _write(
        self, work: Callable[[sqlite3.Connection], T], appends: Sequence[Append] = ()
    ) -> T:
        """Run `work` inside the writer's next transaction, with `appends`."""
        result: T = await self._work(work, appends)
        return result

    async def next_fence(self) -> int:
        return await self._write(_next_fence)

    async def trim(self, stream: str, before: int) -> None:
        check_text(stream)
        await self._write(lambda db: self._writer.trim(db, stream, max(before, 0)))

    async def delete(self, *streams: str, appends: Sequence[Append] = ()) -> None:
        check_text(*streams)
        check_deletion(streams, appends)
        await self._write(lambda db: self._writer.delete(db, streams), appends)

    # -- reading ---------------------------------------------------------------------------

    async def read(
        self, stream: str, after: int, *, limit: int = 1000, max_bytes: int = 1 << 20
    ) -> Page:
        if limit < 1:
            raise ValueError(f"limit is {limit}; a page holds at least one entry")
        check_text(stream)
        tail = self._writer.tail
        return await self._read(lambda db: read_page(db, tail, stream, after, limit, max_bytes))

    async def read_many(
        self, after: Mapping[str, int], *, limit: int, max_bytes: int
    ) -> Mapping[str, Page]:
        check_text(*after)
        tail = self._writer.tail
        return await self._read(lambda db: read_pages(db, tail, after, limit, max_bytes))

    async def locate(
        self, stream: str, *, key: str | None = None, at: int | None = None
    ) -> int | None:
        check_text(stream)
        if (key is None) == (at is None):
            raise ValueError("locate takes either a key or a time")
        if key is not None:
            check_text(key)
            wanted = key
            return await self._read(lambda db: position_of(db, stream, wanted))
        moment, tail = min(max(at or 0, 0), _MAX_TIME), self._writer.tail
        return await self._read(lambda db: position_at(db, tail, stream, moment))

    async def pending(self) -> list[str]:
        return await self._read(
            lambda db: [name for (name,) in db.execute("SELECT name FROM streams WHERE pending")]
        )

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._closing:
            raise LogUnavailable("the log is shut down")
        reading = self._readers.submit(self._run_read, work)
        self._reads.add(reading)
        reading.add_done_callback(self._reads.discard)
        return await asyncio.wrap_future(reading)

    def _run_read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._closing:
            raise LogUnavailable("the log is shut down")
        try:
            connection = self._reader()
            connection.execute("BEGIN")
            try:
                return work(connection)
            finally:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise LogUnavailable(describe(error)) from error

    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, cached_statements=32
            )
            configure(connection)
            connection.execute("PRAGMA query_only=1")
            self._local.connection = connection
            with self._connections_lock:
                self._connections.append(connection)
        return connection

    # -- idempotency keys ------------------------------------------------------------------

    async def claim(self, scope: str, key: str, value: bytes, *, ttl: float) -> bytes | None:
        check_text(scope, key)
        return await self._write(
            lambda db: _claim(db, scope, key, value, self._clock.passed(), ttl)
        )

    async def lookup(self, scope: str, key: str) -> bytes | None:
        check_text(scope, key)
        return await self._read(lambda db: _lookup(db, scope, key, self._clock.passed()))

    async def release(self, scope: str, key: str) -> None:
        check_text(scope, key)

        def forget(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM idempotency WHERE scope=? AND key=?", (scope, key))

        await self._write(forget)


def _next_fence(db: sqlite3.Connection) -> int:
    db.execute("UPDATE meta SET value = value + 1 WHERE name='fence'")
    (fence,) = db.execute("SELECT value FROM meta WHERE name='fence'").fetchone()
    return int(fence)


def _claim(
    db: sqlite3.Connection, scope: str, key: str, value: bytes, now: float, ttl: float
) -> bytes | None:
    """`now` by a clock that does not step, as those of `expires`."""
    db.execute("DELETE FROM idempotency WHERE expires <= ?", (now,))
    standing = _lookup(db, scope, key, now)
    if standing is None:
        db.execute("INSERT INTO idempotency VALUES (?, ?, ?, ?)", (scope, key, value, now + ttl))
    return standing


def _lookup(db: sqlite3.Connection, scope: str, key: str, now: float) -> bytes | None:
    row: Sequence[bytes] | None = db.execute(
        "SELECT value FROM idempotency WHERE scope=? AND key=? AND expires > ?",
        (scope, key, now),
    ).fetchone()
    return None if row is None else row[0]


# The last column names the writer whose rows the tail holds in the same snapshot.
_STREAM = """
SELECT id, head, earliest, fence, closed, (SELECT value FROM meta WHERE name='tail')
FROM streams WHERE name=?
"""


def read_page(
    db: sqlite3.Connection, tail: Tail, stream: str, after: int, limit: int, max_bytes: int
) -> Page:
    """Entries after a position, with the stream's info from the same view."""
    return read_pages(db, tail, {stream: after}, limit, max_bytes)[stream]


def read_pages(
    db: sqlite3.Connection, tail: Tail, after: Mapping[str, int], limit: int, max_bytes: int
) -> dict[str, Page]:
    """A page of each stream, all from one view."""
    look = tail.look()
    return {
        stream: _page(db, look, stream, min(max(place, 0), SPAN - 1), limit, max_bytes)
        for stream, place in after.items()
    }


def _page(
    db: sqlite3.Connection, look: Look, stream: str, after: int, limit: int, max_bytes: int
) -> Page:
    row = db.execute(_STREAM, (stream,)).fetchone()
    if row is None:
        return Page([], None)
    number, head, earliest, fence, closed, owner = row
    where = look.where(number, owner)
    last = last_row(db, number, where)
    if last is not None:
        head = last[0]
    entries: list[Entry] = []
    size = 0
    if after < head:
        with contextlib.closing(rows_after(db, number, after, limit, where)) as rows:
            for position, kind, body, at in islice(rows, limit):
                entries.append(Entry(position, kind, body, at))
                size += len(body)
                if size >= max_bytes:
                    break
    return Page(entries, StreamInfo(head, earliest, fence, bool(closed)))


def position_of(db: sqlite3.Connection, stream: str, key: str) -> int | None:
    """The position of the entry with this key."""
    row = db.execute(
        "SELECT position FROM entry_keys JOIN streams ON stream = id WHERE name=? AND key=?",
        (stream, key),
    ).fetchone()
    return None if row is None else int(row[0])


def position_at(db: sqlite3.Connection, tail: Tail, stream: str, at: int) -> int | None:
    """The position of the first entry that is not older than `at`; None if there is none."""
    look = tail.look()
    row = db.execute(_STREAM, (stream,)).fetchone()
    if row is None:
        return None
    number, *_, owner = row
    where = look.where(number, owner)
    found = _bisect(db, number, at)
    # Times never go back within a stream: what is in the tail alone is not older than the rest.
    if found is None and where is not None:
        found = first_since(db, number, at, where)
    return found


def _bisect(db: sqlite3.Connection, number: int, at: int) -> int | None:
    """The first position in `entries` whose time is not less than `at`."""
    first = number << POSITION_BITS
    ends = "SELECT min(id), max(id) FROM entries WHERE id>=? AND id<?"
    low, high = db.execute(ends, (first, first + SPAN)).fetchone()
    if low is None:
        return None
    # Positions are dense between the earliest and the last, so every id in between is there.
    past = high + 1
    high = past
    while low < high:
        middle = (low + high) // 2
        (when,) = db.execute("SELECT at FROM entries WHERE id=?", (middle,)).fetchone()
        if when < at:
            low = middle + 1
        else:
            high = middle
    return None if low == past else int(low - first)
