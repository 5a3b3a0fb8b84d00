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
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any

from .. import observe
from .base import (
    Append,
    Entry,
    LogError,
    LogUnavailable,
    NewEntry,
    PositionConflict,
    StaleWriter,
    StreamClosed,
)
from .sqlite_schema import POSITION_BITS, configure_writer, describe

#: Transactions are cut at this size so that their readers' wait stays short.
_MAX_GROUP_BYTES = 8 * 1024 * 1024
#: A group of this many jobs says that many producers are at work: the next one is gathered for
#: _GATHER seconds, since a commit costs the same for one job as for fifty. A single producer
#: never waits.
_BUSY = 4
_GATHER = 0.004
#: With ABORT, the default, a statement for many rows keeps a journal of its own.
_INSERT = "INSERT OR ROLLBACK INTO entries VALUES"
#: Statements for 64, 16, 4 and 1 rows, by the number of their values.
_INSERTS = [
    (4 * rows, f"{_INSERT} {', '.join(['(?, ?, ?, ?)'] * rows)}") for rows in (64, 16, 4, 1)
]
#: States of streams remembered between transactions; what falls out is read again when needed.
_MAX_STATES = 20_000


class WriterJob:
    """Something for the next transaction: appends, or else `work`; `outcome` is called after it.

    Only what appends did is announced to readers, by `committed`.
    """

    __slots__ = (
        "appends", "committed", "error", "outcome", "result", "size", "submitted_at", "work",
    )  # fmt: skip

    def __init__(
        self,
        appends: Sequence[Append],
        work: Callable[[sqlite3.Connection], Any] | None,
        outcome: Callable[[Any, Exception | None], None],
        size: int,
    ) -> None:
        self.appends = appends
        self.work = work
        self.outcome = outcome
        self.size = size
        self.submitted_at = perf_counter()
        self.result: Any = None
        self.error: Exception | None = None
        self.committed: list[tuple[str, list[Entry]]] = []


class _Stream:
    """What the writer knows of a stream."""

    __slots__ = ("closed", "fence", "head", "last_at", "number", "pending")

    def __init__(
        self, number: int, head: int, last_at: int, fence: int, closed: bool, pending: bool
    ) -> None:
        self.number = number
        self.head = head
        self.last_at = last_at
        self.fence = fence
        self.closed = closed
        self.pending = pending


class Writer:
    """Owns the only connection that writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        #: Jobs in the order of their submission; None: nothing comes after.
        self._queue: SimpleQueue[WriterJob | None] = SimpleQueue()
        self._stopping = False
        self._streams: OrderedDict[str, _Stream] = OrderedDict()
        #: Four values for each row that waits for its INSERT.
        self._rows: list[Any] = []
        self._thread: threading.Thread | None = None
        self._announce: Callable[[list[WriterJob]], None] = lambda _done: None

    def start(self, announce: Callable[[list[WriterJob]], None]) -> None:
        """`announce` is called in this thread with the jobs of each transaction, in order."""
        self._announce = announce
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def submit(self, job: WriterJob) -> None:
        self._queue.put(job)

    def stop(self, timeout: float) -> bool:
        """Commit what is queued and end; False if that took longer than `timeout` seconds."""
        self._queue.put(None)
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # -- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            db = sqlite3.connect(self._path, isolation_level=None, cached_statements=64)
            configure_writer(db)
        except sqlite3.Error as error:
            self._refuse_all(LogUnavailable(describe(error)))
            return
        while group := self._take_group():
            self._commit(db, group)
            if len(group) >= _BUSY and not self._stopping:
                time.sleep(_GATHER)
        db.close()

    def _refuse_all(self, error: LogError) -> None:
        while group := self._take_group():
            for job in group:
                job.error = error
            self._announce(group)

    def _take_group(self) -> list[WriterJob]:
        """Wait for a job and take what else is there; empty when the writer is to stop."""
        group: list[WriterJob] = []
        size = 0
        while not self._stopping and size < _MAX_GROUP_BYTES:
            try:
                job = self._queue.get(block=not group)
            except Empty:
                break
            if job is None:
                self._stopping = True
            else:
                group.append(job)
                size += job.size
        return group

    def _commit(self, db: sqlite3.Connection, group: list[WriterJob]) -> None:
        began = perf_counter()
        try:
            db.execute("BEGIN IMMEDIATE")
            for job in group:
                try:
                    if job.work is None:
                        self._apply(db, job)
                    else:
                        self._flush_rows(db)
                        job.result = job.work(db)
                except LogError as error:
                    job.error = error
            self._flush_rows(db)
            db.execute("COMMIT")
            _tell_commit(group, perf_counter() - began)
        except sqlite3.Error as error:
            self._roll_back(db, group, describe(error), error)
        except Exception as error:  # a defect; the producers must hear of it, the thread must live
            self._roll_back(db, group, "the log failed internally", error)
        while len(self._streams) > _MAX_STATES:
            self._streams.popitem(last=False)
        self._announce(group)

    def _roll_back(
        self,
        db: sqlite3.Connection,
        group: list[WriterJob],
        words: str,
        cause: Exception,
    ) -> None:
        observe.commit_failed()
        self._streams.clear()
        self._rows.clear()
        # SQLite has often rolled back by itself; what fails here fails again at the next BEGIN.
        with contextlib.suppress(sqlite3.Error):
            db.rollback()
        for job in group:
            # Also those refused before: their reason may be an append that is undone now.
            job.error = LogUnavailable(words)
            job.error.__cause__ = cause
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

    def _apply(self, db: sqlite3.Connection, job: WriterJob) -> None:
        appends = job.appends
        known = [self._state(db, append.stream) for append in appends]
        for append, state in zip(appends, known, strict=True):
            _check(append, state)
        now = time.time_ns() // 1000
        result: list[int] = []
        for append, found in zip(appends, known, strict=True):
            state = found or self._create(db, append.stream)
            entries = self._place(db, append.entries, state, now)
            if entries:
                job.committed.append((append.stream, entries))
            self._mark(db, append, state)
            result.append(state.head)
        job.result = result

    def _place(
        self, db: sqlite3.Connection, entries: Sequence[NewEntry], state: _Stream, now: int
    ) -> list[Entry]:
        """Give positions to the entries and queue their rows."""
        placed: list[Entry] = []
        base = state.number << POSITION_BITS
        at = max(now, state.last_at)
        head = state.head
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
            self._rows += (base + head, kind, body, at)
        if placed:
            state.head, state.last_at = head, at
        return placed

    def _mark(self, db: sqlite3.Connection, append: Append, state: _Stream) -> None:
        if append.fence in (None, state.fence) and append.pending is None and not append.close:
            return
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

    def _state(self, db: sqlite3.Connection, name: str) -> _Stream | None:
        state = self._streams.get(name)
        if state is not None:
            self._streams.move_to_end(name)
            return state
        row = db.execute(
            "SELECT id, head, last_at, fence, closed, pending FROM streams WHERE name=?", (name,)
        ).fetchone()
        if row is None:
            return None
        self._flush_rows(db)
        number, head, last_at, fence, closed, pending = row
        first = number << POSITION_BITS
        last = db.execute(
            "SELECT id, at FROM entries WHERE id>=? AND id<? ORDER BY id DESC LIMIT 1",
            (first, first + (1 << POSITION_BITS)),
        ).fetchone()
        if last is not None:
            head, last_at = last[0] - first, last[1]
        state = _Stream(number, head, last_at, fence, bool(closed), bool(pending))
        self._streams[name] = state
        return state

    def _create(self, db: sqlite3.Connection, name: str) -> _Stream:
        # Two appends of one call may name the same new stream.
        state = self._streams.get(name)
        if state is None:
            number = db.execute("INSERT INTO streams (name) VALUES (?)", (name,)).lastrowid or 0
            state = self._streams[name] = _Stream(number, 0, 0, 0, False, False)
        return state

    def trim(self, db: sqlite3.Connection, name: str, before: int) -> None:
        """Remove entries below `before`; within a transaction of this thread."""
        state = self._state(db, name)
        if state is None:
            return
        first = state.number << POSITION_BITS
        before = min(before, state.head + 1)
        db.execute("DELETE FROM entries WHERE id>=? AND id<?", (first, first + before))
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
            first = state.number << POSITION_BITS
            db.execute(
                "DELETE FROM entries WHERE id>=? AND id<?", (first, first + (1 << POSITION_BITS))
            )
            db.execute("DELETE FROM entry_keys WHERE stream=?", (state.number,))
            db.execute("DELETE FROM streams WHERE id=?", (state.number,))
            self._streams.pop(name, None)


def _tell_commit(group: Sequence[WriterJob], seconds: float) -> None:
    entries = sum(len(placed) for job in group for _, placed in job.committed)
    observe.committed(entries, sum(job.size for job in group), seconds)


def _check(append: Append, state: _Stream | None) -> None:
    head = 0 if state is None else state.head
    if append.expect is not None and append.expect != head:
        raise PositionConflict(f"{append.stream} ends at {head}, not at {append.expect}")
    if state is None:
        return
    if append.fence is not None and append.fence < state.fence:
        raise StaleWriter(f"{append.stream} is owned by fence {state.fence}, not {append.fence}")
    if state.closed:
        raise StreamClosed(f"{append.stream} is closed")
