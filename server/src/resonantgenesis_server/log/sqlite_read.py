"""What readers ask of the SQLite log, each within one transaction.

A look at the tail is taken first: the transaction's snapshot begins with its first SELECT.
"""

from __future__ import annotations

import contextlib
import sqlite3
from itertools import islice

from .base import Entry, Page, StreamInfo
from .sqlite_schema import POSITION_BITS, SPAN
from .sqlite_tail import Tail, first_since, last_row, rows_after

# The last column names the writer whose rows the tail holds in the same snapshot.
_STREAM = """
SELECT id, head, earliest, fence, closed, (SELECT value FROM meta WHERE name='tail')
FROM streams WHERE name=?
"""


def read_page(
    db: sqlite3.Connection, tail: Tail, stream: str, after: int, limit: int, max_bytes: int
) -> Page:
    """Entries after a position, with the stream's info from the same view."""
    look = tail.look()
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
