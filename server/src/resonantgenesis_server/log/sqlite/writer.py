"""The writer thread of the SQLite log: group commit.

Whatever was submitted while one transaction was being committed goes into the next one, so a
slow disk makes groups larger and throughput stays. Conditions are checked against the state of
streams kept here, before the first row of a change is written; a refused change leaves nothing.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any

import structlog

from ... import metrics
from ...model.clock import Clock
from ..base import (
    Append,
    Entry,
    LogError,
    LogUnavailable,
    NewEntry,
)
from ..queue import Job, Stream, check
from .schema import POSITION_BITS, configure_writer, describe
from .tail import LARGE, Tail

log_ = structlog.get_logger("resonantgenesis.log")

#: Defects in a row after which the log is broken: a process that starts anew may do better.
_MAX_DEFECTS = 5
#: Transactions are cut at this size so that their readers' wait stays short.
_MAX_GROUP_BYTES = 8 * 1024 * 1024
#: A group of this many jobs says that many producers are at work: the next one is gathered for
#: _GATHER seconds, since a commit costs the same for one job as for fifty. A single producer
#: never waits.
_BUSY = 4
_GATHER = 0.004
#: After so many seconds without a job the tail is moved: a store at rest is read without looking
#: through it. The tokens of a stream are never as far apart.
_IDLE = 1.0
#: With ABORT, the default, a statement for many rows keeps a journal of its own.
_INSERT = "INSERT OR ROLLBACK INTO tail VALUES"
#: Statements for 64, 16, 4 and 1 rows, by the number of their values.
_INSERTS = [
    (5 * rows, f"{_INSERT} {', '.join(['(?, ?, ?, ?, ?)'] * rows)}") for rows in (64, 16, 4, 1)
]
#: A row that follows none in the tail.
_INSERT_LARGE = "INSERT OR ROLLBACK INTO entries VALUES (?, ?, ?, ?)"
#: States of streams remembered between transactions; what falls out is read again when needed.
_MAX_STATES = 20_000


class SqliteWriter:
    """Owns the only connection that writes."""

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self._path = path
        self._clock = clock or Clock()
        #: The date of this transaction's entries, in microseconds since 1970.
        self._now = 0
        self.tail = Tail()
        #: Jobs in the order of their submission; None: nothing comes after.
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._stopping = False
        #: In the order in which they were first needed.
        self._streams: dict[str, Stream] = {}
        #: Five values for each row that waits for its INSERT.
        self._rows: list[Any] = []
        #: Entries placed in this transaction.
        self._placed = 0
        self._running: threading.Thread | None = None
        self._announce: Callable[[list[Job]], None] = lambda _done: None
        self._broken: Callable[[], None] = lambda: None
        #: Defects in a row, by where.
        self._defects: dict[str, int] = {}

    def start(
        self,
        announce: Callable[[list[Job]], None],
        broken: Callable[[], None] = lambda: None,
    ) -> None:
        """Both are called in this thread: `announce` with the jobs of each transaction, in order,
        `broken` when one defect follows another."""
        self._announce = announce
        self._broken = broken
        self._running = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._running.start()

    def submit(self, job: Job) -> None:
        self._queue.put(job)

    def stop(self, timeout: float) -> bool:
        """Commit what is queued and end; False if that took longer than `timeout` seconds."""
        self._queue.put(None)
        if self._running is None:
            return True
        self._running.join(timeout)
        return not self._running.is_alive()

    # -- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._write()
        except BaseException as error:
            self._defects["thread"] = _MAX_DEFECTS
            self._defect("thread", error)
            self._refuse_all(LogUnavailable("the log failed internally"))

    def _write(self) -> None:
        try:
            db = sqlite3.connect(self._path, isolation_level=None, cached_statements=64)
            configure_writer(db)
        except sqlite3.Error as error:
            self._refuse_all(LogUnavailable(describe(error)))
            return
        while not self._stopping:
            group = self._take_group(self._patience())
            if group:
                self._commit(db, group)
            # In the time in which the next group is gathered.
            began = perf_counter()
            if not self._stopping:
                self._move(db, idle=not group)
            if len(group) >= _BUSY and not self._stopping:
                time.sleep(max(0.0, _GATHER - (perf_counter() - began)))
        if self.tail.rows:
            self._move(db, idle=True)
        db.close()

    def _refuse_all(self, error: LogError) -> None:
        while group := self._take_group():
            for job in group:
                job.error = error
            self._announce(group)

    def _take_group(self, patience: float | None = None) -> list[Job]:
        """Wait for a job and take what else is there; empty when there was none for `patience`
        seconds, or the writer is to stop."""
        group: list[Job] = []
        size = 0
        while not self._stopping and size < _MAX_GROUP_BYTES:
            try:
                job = self._queue.get(not group, patience)
            except Empty:
                break
            if job is None:
                self._stopping = True
            else:
                group.append(job)
                size += job.size
        return group

    def _commit(self, db: sqlite3.Connection, group: list[Job]) -> None:
        began = perf_counter()
        self._placed = 0
        try:
            self._now = int(self._clock.now() * 1e6)
            db.execute("BEGIN IMMEDIATE")
            if self.tail.claim(db):
                self._streams.clear()
            for job in group:
                try:
                    if job.appends:  # first: they may be refused
                        self._apply(db, job)
                    if job.work is not None:
                        self._flush_rows(db)
                        job.result = job.work(db)
                except LogError as error:
                    job.error = error
            self._flush_rows(db)
            db.execute("COMMIT")
            size = sum([job.size for job in group])
            self.tail.grew(self._placed, size)
            metrics.committed(self._placed, size, perf_counter() - began)
            self._defects.pop("commit", None)
        except sqlite3.Error as error:
            self._roll_back(db, group, describe(error), error)
        except Exception as error:  # a defect; the producers must hear of it, the thread must live
            self._defect("commit", error)
            self._roll_back(db, group, "the log failed internally", error, is_defect=True)
        while len(self._streams) > _MAX_STATES:
            del self._streams[next(iter(self._streams))]
        self._announce(group)

    def _patience(self) -> float | None:
        """How long to wait for a job before some of the tail is moved."""
        if self.tail.moving:
            return 0.0
        return _IDLE if self.tail.waiting else None

    def _move(self, db: sqlite3.Connection, *, idle: bool) -> None:
        """A step of moving the tail, if there is to be one. No producer waits for it: when it
        fails the rows are where they were."""
        tail = self.tail
        try:
            if self._stopping:
                tail.move_all(db)
            elif idle or tail.full or tail.moving:
                tail.step(db)
                while tail.moving and tail.full:  # more comes than single steps would move
                    tail.step(db)
            self._defects.pop("move", None)
            return
        except sqlite3.Error:  # who commits next says why
            metrics.commit_failed()
        except Exception as error:  # a defect as well; the thread must live
            metrics.commit_failed()
            self._defect("move", error)
        with contextlib.suppress(sqlite3.Error):
            db.rollback()

    def _defect(self, where: str, error: BaseException) -> None:
        metrics.defect("log")
        count = self._defects[where] = self._defects.get(where, 0) + 1
        log_.error("the log failed internally", where=where, in_a_row=count, exc_info=error)
        if count >= _MAX_DEFECTS:
            self._broken()

    def _roll_back(
        self,
        db: sqlite3.Connection,
        group: list[Job],
        words: str,
        cause: Exception,
        *,
        is_defect: bool = False,
    ) -> None:
        metrics.commit_failed()
        self._streams.clear()
        self._rows.clear()
        # SQLite has often rolled back by itself; what fails here fails again at the next BEGIN.
        with contextlib.suppress(sqlite3.Error):
            db.rollback()
        for job in group:
            # Also those refused before: their reason may be an append that is undone now.
            job.error = LogUnavailable(words)
            job.error.__cause__ = cause
            job.error.is_defect = is_defect
            job.committed = []

    def _flush_rows(self, db: sqlite3.Connection) -> None:
        """Many rows to a statement: the interpreter's lock is given away once for each."""
        rows, start = self._rows, 0
        for values, insert in _INSERTS:
            while len(rows) - start >= values:
                db.execute(insert, rows[start : start + values])
                start += values
        rows.clear()

    # -- one append ------------------------------------------------------------------------

    def _apply(self, db: sqlite3.Connection, job: Job) -> None:
        known: list[Stream | None] = []
        for append in job.appends:
            found = self._streams.get(append.stream) or self._read_state(db, append.stream)
            check(append, found)
            known.append(found)
        result: list[int] = []
        for append, found in zip(job.appends, known, strict=True):
            state = found or self._create(db, append.stream)
            entries = self._place(db, append.entries, state)
            if entries:
                job.committed.append((append.stream, entries))
            if append.fence != state.fence or append.pending is not None or append.close:
                self._mark(db, append, state)
            result.append(state.head)
        job.result = result

    def _place(
        self, db: sqlite3.Connection, entries: Sequence[NewEntry], state: Stream
    ) -> list[Entry]:
        """Give positions to the entries and queue their rows."""
        placed: list[Entry] = []
        base = state.number << POSITION_BITS
        at = max(self._now, state.last_at)
        head = state.head
        tail = self.tail
        rows = tail.rows.get(state.number)
        for kind, body, key in entries:
            if key is not None:
                inserted = db.execute(
                    "INSERT OR IGNORE INTO entry_keys VALUES (?, ?, ?)",
                    (state.number, key, head + 1),
                )
                if not inserted.rowcount:
                    continue
            head += 1
            placed.append(Entry(head, kind, body, at))
            if rows is None:
                if len(body) >= LARGE:
                    db.execute(_INSERT_LARGE, (base + head, kind, body, at))
                    continue
                rows = tail.rows[state.number] = []
            tail.last = n = tail.last + 1
            rows.append(n)
            self._rows += (n, base + head, kind, body, at)
        if placed:
            state.head, state.last_at = head, at
            self._placed += len(placed)
        return placed

    def _mark(self, db: sqlite3.Connection, append: Append, state: Stream) -> None:
        fence = state.fence if append.fence is None else append.fence
        pending = state.pending if append.pending is None else append.pending
        closed = state.closed or append.close
        if (fence, pending, closed) == (state.fence, state.pending, state.closed):
            return
        state.fence, state.pending, state.closed = fence, pending, closed
        db.execute(
            "UPDATE streams SET fence=?, pending=?, closed=? WHERE id=?",
            (fence, pending, closed, state.number),
        )

    # -- streams ---------------------------------------------------------------------------

    def _state(self, db: sqlite3.Connection, name: str) -> Stream | None:
        return self._streams.get(name) or self._read_state(db, name)

    def _read_state(self, db: sqlite3.Connection, name: str) -> Stream | None:
        row = db.execute(
            "SELECT id, head, last_at, fence, closed, pending FROM streams WHERE name=?", (name,)
        ).fetchone()
        if row is None:
            return None
        self._flush_rows(db)
        number, head, last_at, fence, closed, pending = row
        last = self.tail.last_row(db, number)
        if last is not None:
            head, last_at = last
        state = Stream(number, head, last_at, fence, bool(closed), bool(pending))
        self._streams[name] = state
        return state

    def _create(self, db: sqlite3.Connection, name: str) -> Stream:
        # Two appends of one call may name the same new stream.
        state = self._streams.get(name)
        if state is None:
            number = db.execute("INSERT INTO streams (name) VALUES (?)", (name,)).lastrowid or 0
            state = self._streams[name] = Stream(number, 0, 0, 0, False, False)
        return state

    def trim(self, db: sqlite3.Connection, name: str, before: int) -> None:
        """Remove entries below `before`; within a transaction of this thread."""
        state = self._state(db, name)
        if state is None:
            return
        before = min(before, state.head + 1)
        self.tail.remove(db, state.number, before)
        db.execute("DELETE FROM entry_keys WHERE stream=? AND position<?", (state.number, before))
        db.execute(
            "UPDATE streams SET head=?, last_at=?, earliest=max(earliest, ?) WHERE id=?",
            (state.head, state.last_at, before, state.number),
        )

    def delete(self, db: sqlite3.Connection, names: Sequence[str]) -> None:
        """Remove streams whole; within a transaction of this thread."""
        for name in names:
            state = self._state(db, name)
            if state is None:
                continue
            self.tail.remove(db, state.number)
            db.execute("DELETE FROM entry_keys WHERE stream=?", (state.number,))
            db.execute("DELETE FROM streams WHERE id=?", (state.number,))
            self._streams.pop(name, None)
