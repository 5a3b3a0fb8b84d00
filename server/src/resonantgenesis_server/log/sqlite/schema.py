"""Tables, pragmas and error words of the SQLite log."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

import structlog

from ... import metrics
from ...datadir.wal import has_lost_commits, has_wal
from ..base import LogUnavailable, StoreIsNewer
from ..transfer import COPY, UNFINISHED

_log = structlog.get_logger("resonantgenesis.log")

BUSY_TIMEOUT_MS = 5000

#: An entry's row id is its stream's number shifted by this, plus its position: the table is then
#: clustered by stream and position with no second index.
POSITION_BITS = 32
SPAN = 1 << POSITION_BITS

_VERSION_1 = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
-- head and last_at are kept here only while the stream holds no entry (all trimmed); else the
-- last entry tells, and an append costs one row.
CREATE TABLE streams (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE,
  head INTEGER NOT NULL DEFAULT 0,
  last_at INTEGER NOT NULL DEFAULT 0,
  earliest INTEGER NOT NULL DEFAULT 1,
  fence INTEGER NOT NULL DEFAULT 0,
  closed INTEGER NOT NULL DEFAULT 0,
  pending INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX streams_pending ON streams (name) WHERE pending;
CREATE TABLE entries (
  id INTEGER PRIMARY KEY, kind TEXT NOT NULL, body BLOB NOT NULL, at INTEGER NOT NULL
);
CREATE TABLE entry_keys (
  stream INTEGER NOT NULL, key TEXT NOT NULL, position INTEGER NOT NULL,
  PRIMARY KEY (stream, key)
) WITHOUT ROWID;
CREATE INDEX entry_keys_position ON entry_keys (stream, position);
CREATE TABLE idempotency (
  scope TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, expires REAL NOT NULL,
  PRIMARY KEY (scope, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_expires ON idempotency (expires);
INSERT INTO meta VALUES ('fence', 0);
"""
_VERSION_2 = """
-- What tail.py says; the name in meta is that of the writer whose rows are in it.
CREATE TABLE tail (
  n INTEGER PRIMARY KEY, id INTEGER NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL,
  at INTEGER NOT NULL
);
INSERT INTO meta VALUES ('tail', '');
"""
#: What makes each version of the one before it.
_VERSIONS = (_VERSION_1, _VERSION_2)
SCHEMA_VERSION = len(_VERSIONS)


#: A move touches a page or two of each stream, and a page is written whole: with the usual 4 KiB
#: a token is a fifth more to the disk. Bodies of many KiB would gain a third.
_PAGE = 2048
#: Pages in the write-ahead log (16 MiB) before they are copied into the file: most are written
#: again and again, and copied once.
_CHECKPOINT_PAGES = 8_000
#: The writer's cache: the ends of some eight thousand streams.
_CACHE_KIB = 16_384

_DAMAGED = "the log's file is damaged; restore a backup"


def configure(db: sqlite3.Connection) -> None:
    """Per-connection settings; a writer held up by another process waits, then errs."""
    db.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    db.execute("PRAGMA synchronous=FULL")


def configure_writer(db: sqlite3.Connection) -> None:
    """The settings of the connection that writes."""
    configure(db)
    db.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
    db.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")


def check_version(path: Path) -> None:
    """Look at a store that is there, without changing it.

    Raises LogUnavailable and StoreIsNewer.
    """
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as db:
            _check_version(db, path)
    except sqlite3.Error as error:
        raise LogUnavailable(f"{path}: {describe(error)}") from error


def _check_version(db: sqlite3.Connection, path: Path) -> int:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise StoreIsNewer(
            f"{path} has version {version}; this program reads up to {SCHEMA_VERSION}"
        )
    return int(version)


def create_or_check(path: Path, new_epoch: str, *, for_copy: bool = False) -> str:
    """Create the store or check its version and bring it to this one; its epoch, which is the new
    one where the store has lost what somebody may have seen. A log that is being filled by a copy
    is refused, unless `for_copy`.

    Raises LogUnavailable and StoreIsNewer.
    """
    crashed = has_wal(path)
    # Answers are for the server's own user, whatever its umask and the directory's mode; the
    # files beside it take the mode from it. Where this fails, opening says why.
    with contextlib.suppress(OSError):
        path.touch(mode=0o600)
        path.chmod(0o600)
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute(f"PRAGMA page_size={_PAGE}")  # means nothing in a store that is there
            configure(db)
            version = _check_version(db, path)
            lost = crashed and has_lost_commits(db, path)
            _use_wal(db)
            if version < SCHEMA_VERSION:
                _upgrade(db, path, new_epoch)
            row = db.execute("SELECT value FROM meta WHERE name='epoch'").fetchone()
            if row is None:
                raise LogUnavailable(f"{path}: {_DAMAGED}")
            copy = db.execute("SELECT value FROM meta WHERE name=?", (COPY,)).fetchone()
            if copy is not None and not for_copy:
                raise LogUnavailable(f"{path}: {UNFINISHED}")
            if not lost:
                return str(row[0])
            db.execute("UPDATE meta SET value=? WHERE name='epoch'", (new_epoch,))
            _log.error(
                "the log has lost what was committed: its write-ahead log is damaged; positions"
                " and cursors from before mean nothing now",
                file=str(path),
                epoch=new_epoch,
            )
            metrics.store_damaged("log")
            return new_epoch
    except sqlite3.Error as error:
        raise LogUnavailable(f"{path}: {describe(error)}") from error


def _use_wal(db: sqlite3.Connection) -> None:
    """Make the store one with a write-ahead log; waits for others who do so at the same moment.

    SQLite's own busy time-out does not count here: two connections that hold the old journal's
    lock would wait for each other.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            is_locked = error.sqlite_errorname.startswith("SQLITE_BUSY")
            if not is_locked or time.monotonic() > deadline:
                raise
        time.sleep(0.005)


def _upgrade(db: sqlite3.Connection, path: Path, epoch: str) -> None:
    """All in one transaction: a crash leaves a whole store, as it was or as it is to be, or an
    empty file."""
    db.execute("BEGIN IMMEDIATE")
    version = _check_version(db, path)  # another handle may have been here meanwhile
    for statements in _VERSIONS[version:]:
        for statement in statements.split(";\n"):
            db.execute(statement)
    if version == 0:
        db.execute("INSERT INTO meta VALUES ('epoch', ?)", (epoch,))
    db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    db.execute("COMMIT")


def describe(error: sqlite3.Error) -> str:
    """One line for people; the driver's own words are in the exception's cause."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_FULL"):
        return "the disk is full; free some space and try again"
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return "the log's file is locked by another process"
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return _DAMAGED
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return "the log's file cannot be written; check its owner and mode"
    if name.startswith("SQLITE_IOERR"):
        return "reading or writing the log's file failed; check the disk"
    return f"the log's file cannot be used ({name or type(error).__name__})"
