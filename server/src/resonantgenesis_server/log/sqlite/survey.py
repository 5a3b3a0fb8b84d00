"""What a log's file holds, counted and checked, and its new epoch after a restore."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..base import LogUnavailable
from .schema import check_version, describe

# The first few: one wrong stream is as bad as many. A row may be in both tables, see tail.py.
_GAPS = """
WITH rows AS (SELECT id FROM entries UNION SELECT id FROM tail),
spans AS (
  SELECT id >> 32 AS stream, count(*) AS number,
    min(id) & 4294967295 AS first, max(id) & 4294967295 AS last
  FROM rows GROUP BY 1
)
SELECT s.name, spans.stream, number, first, last, s.earliest FROM spans
LEFT JOIN streams s ON s.id = spans.stream
WHERE s.id IS NULL OR last - first + 1 != number OR first != s.earliest
LIMIT 5
"""
_COUNT = "SELECT count(*) FROM (SELECT id FROM entries UNION SELECT id FROM tail)"


@dataclass(frozen=True, slots=True)
class LogSurvey:
    """`problems`: streams whose positions are not dense, one line each."""

    epoch: str
    streams: int
    entries: int
    problems: Sequence[str]


def survey(path: Path) -> LogSurvey:
    """Count a log that nobody writes, and check the positions of every stream. Raises
    LogUnavailable, StoreIsNewer."""
    check_version(path)
    try:
        with contextlib.closing(sqlite3.connect(path)) as db:
            (epoch,) = db.execute("SELECT value FROM meta WHERE name='epoch'").fetchone()
            (streams,) = db.execute("SELECT count(*) FROM streams").fetchone()
            (entries,) = db.execute(_COUNT).fetchone()
            problems = [
                f"the log: stream {name or number!r} has {count} entries from {first} to {last},"
                f" and begins at {earliest}"
                for name, number, count, first, last, earliest in db.execute(_GAPS)
            ]
    except sqlite3.Error as error:
        raise LogUnavailable(f"{path}: {describe(error)}") from error
    return LogSurvey(epoch, streams, entries, problems)


def renew_epoch(path: Path, epoch: str) -> str:
    """Give a log that nobody has open another epoch; its former one. Raises LogUnavailable."""
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous=FULL")
            db.execute("BEGIN IMMEDIATE")
            (former,) = db.execute("SELECT value FROM meta WHERE name='epoch'").fetchone()
            db.execute("UPDATE meta SET value=? WHERE name='epoch'", (epoch,))
            db.execute("COMMIT")
    except sqlite3.Error as error:
        raise LogUnavailable(f"{path}: {describe(error)}") from error
    return str(former)
