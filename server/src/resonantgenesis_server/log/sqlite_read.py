"""What readers ask of the SQLite log, each within one transaction."""

from __future__ import annotations

import sqlite3

from .base import Entry, Page, StreamInfo
from .sqlite_schema import POSITION_BITS


def read_page(db: sqlite3.Connection, stream: str, after: int, limit: int, max_bytes: int) -> Page:
    """Entries after a position, with the stream's info from the same view."""
    row = db.execute(
        "SELECT id, head, earliest, fence, closed FROM streams WHERE name=?", (stream,)
    ).fetchone()
    if row is None:
        return Page([], None)
    number, head, earliest, fence, closed = row
    first, past = number << POSITION_BITS, (number + 1) << POSITION_BITS
    (last,) = db.execute(
        "SELECT max(id) FROM entries WHERE id>=? AND id<?", (first, past)
    ).fetchone()
    if last is not None:
        head = last - first
    entries: list[Entry] = []
    size = 0
    cursor = db.execute(
        "SELECT id, kind, body, at FROM entries WHERE id>? AND id<? ORDER BY id LIMIT ?",
        (first + after, past, limit),
    )
    for row_id, kind, body, at in cursor:
        entries.append(Entry(row_id - first, kind, body, at))
        size += len(body)
        if size >= max_bytes:
            break
    cursor.close()
    return Page(entries, StreamInfo(head, earliest, fence, bool(closed)))


def position_of(db: sqlite3.Connection, stream: str, key: str) -> int | None:
    """The position of the entry with this key."""
    row = db.execute(
        "SELECT position FROM entry_keys JOIN streams ON stream = id WHERE name=? AND key=?",
        (stream, key),
    ).fetchone()
    return None if row is None else int(row[0])


def position_at(db: sqlite3.Connection, stream: str, at: int) -> int | None:
    """The position of the first entry that is not older than `at`, by bisection: times never go
    back within a stream. None if there is none."""
    row = db.execute("SELECT id FROM streams WHERE name=?", (stream,)).fetchone()
    if row is None:
        return None
    first = row[0] << POSITION_BITS
    ends = "SELECT min(id), max(id) FROM entries WHERE id>=? AND id<?"
    low, high = db.execute(ends, (first, first + (1 << POSITION_BITS))).fetchone()
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
