"""The embedded store's two databases, copied as they are at one instant, while a server writes.

A reader of a write-ahead log keeps the view with which it began. So it is enough to begin two
readers while nothing can change the records: the view of the log then belongs to the view of the
records. The log's writer, on the way of every token, never waits.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

#: The databases in a data directory, the log first.
LOG, RECORDS = "log.db", "records.db"
#: Seconds that the lock of the records is waited for. A server holds it for milliseconds.
_LOCK_SECONDS = 30.0
#: Pages of a step of the copy: a kill or Ctrl-C is heard between two.
_PAGES = 2_000


class SnapshotFailed(Exception):
    """A database cannot be read; the message is one line with what to do."""


def copy_databases(data: Path, target: Path, report: Callable[[int, int], None]) -> None:
    """Copy both databases of `data` into the folder `target`, as they are at one instant.

    `report` is called with the pages that are copied of each database, and how many there are.
    Raises SnapshotFailed.
    """
    with _translated(data), contextlib.ExitStack() as stack:
        lock, log, records = (
            stack.enter_context(_open(data / name)) for name in (RECORDS, LOG, RECORDS)
        )
        _lock(lock)
        for reader in (log, records):
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the view begins
        lock.execute("ROLLBACK")
        for reader, name in ((log, LOG), (records, RECORDS)):
            (target / name).touch(mode=0o600)
            with _open(target / name) as copy:
                reader.backup(
                    copy, pages=_PAGES, progress=lambda _, left, all_: report(all_ - left, all_)
                )


def problem_of(path: Path) -> str | None:
    """What SQLite finds wrong in this database, in one line; None: it is whole. Reads all of it.
    Raises SnapshotFailed."""
    with _translated(path), _open(path) as db:
        found = [str(row[0]) for row in db.execute("PRAGMA integrity_check(3)")]
        if found == ["ok"]:
            broken = db.execute("PRAGMA foreign_key_check").fetchall()
            found = [f"{len(broken)} rows refer to what is not there"] if broken else []
    return f"{path.name}: {'; '.join(found)}"[:500] if found else None


def vacuum(path: Path) -> int:
    """Give the space of deleted rows in this database back; how many bytes. Nobody else may have
    it open. A kill leaves it as it was. Raises SnapshotFailed."""
    before = path.stat().st_size
    with _translated(path), _open(path) as db:
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return before - path.stat().st_size


def _lock(db: sqlite3.Connection) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            db.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            is_locked = error.sqlite_errorname.startswith("SQLITE_BUSY")
            if not is_locked or time.monotonic() > deadline:
                raise
        time.sleep(0.002)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=5.0)) as db:
        yield db


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise SnapshotFailed(
            f"{path}: cannot be read ({error}); check that the disk is whole and has room"
        ) from error
