"""The newest rows of all streams: the table `tail`, and what a process knows of it.

Rows arrive in `tail`, one after the other whatever their stream: the tokens of fifty streams
touch the last page of one tree and not fifty pages of `entries`. The writer moves them to
`entries`, clustered by stream, some thousands at a time and in steps that take a few
milliseconds: it copies the rows of one stream after the other, and deletes them from the tail
when all are copied. So a stream's rows in `entries` are its oldest, without a gap;
those that follow are in `tail`, where those before them may still be as well. A crash between
two steps leaves just that.

To look for a stream's rows in the tail would be to go through all of it, so the writer keeps
their row numbers in memory.
"""

from __future__ import annotations

import secrets
import sqlite3
from bisect import bisect_right
from collections.abc import Generator
from typing import NamedTuple

from .schema import POSITION_BITS, SPAN

#: Rows, and bytes of jobs, at which a move begins. More rows are cheaper to move, since more of
#: each page of `entries` is new when it is written, and dearer to look through.
_MOVE_ROWS = 16_000
_MOVE_BYTES = 4 * 1024 * 1024
#: A step copies or deletes so many rows: 1 to 2 ms.
_STEP_ROWS = 1_000
#: Bodies of this many bytes gain nothing from being written twice.
LARGE = 2_048

#: So many rows are looked up by their numbers, more by going through the tail.
_LOOKED_UP = 500

#: Position, kind, body, time.
Row = tuple[int, str, bytes, int]

# What a move that was given up has copied is there already.
_COPY = "INSERT OR IGNORE INTO entries SELECT tail.id, kind, body, at FROM"
_LAST = "SELECT id - ?, at FROM entries WHERE id>=? AND id<? ORDER BY id DESC LIMIT 1"
_ROWS = "SELECT id - ?, kind, body, at FROM entries WHERE id>? AND id<? ORDER BY id LIMIT ?"
# A stream's rows arrive in the order of their positions.
_IN_TAIL = (
    "SELECT id - ?, at FROM tail WHERE {} AND id>=? AND id<? ORDER BY n DESC LIMIT 1",
    "SELECT id - ?, kind, body, at FROM tail WHERE {} AND id>? AND id<? ORDER BY n LIMIT ?",
    "SELECT id - ? FROM tail WHERE {} AND id>=? AND id<? AND at>=? ORDER BY n LIMIT 1",
)


class _Queries(NamedTuple):
    last: str
    rows: str
    since: str


_BY_NUMBER = _Queries(*(sql.format("n IN (SELECT value FROM json_each(?))") for sql in _IN_TAIL))
_FROM = _Queries(*(sql.format("n>=?") for sql in _IN_TAIL))


class Where(NamedTuple):
    """Where in the tail a stream's rows are: their numbers, or the first that can be one."""

    queries: _Queries
    n: str | int


_ANYWHERE = Where(_FROM, 0)


def _where(numbers: list[int] | None) -> Where | None:
    if not numbers:
        return None
    if len(numbers) > _LOOKED_UP:
        return Where(_FROM, numbers[0])
    return Where(_BY_NUMBER, str(numbers))


class Tail:
    """What the writer's thread keeps and the readers' threads look at.

    `owner` names this writer: the tail in the file holds rows of the writer that `meta` names
    and of no other. One that finds another's name (a writer that crashed, another process) moves
    the rows first and then writes its own.
    """

    def __init__(self) -> None:
        self.owner = secrets.token_hex(8)
        #: For each stream the numbers of its rows in the tail, and perhaps of some that are not
        #: there. Only added to, before the commit of the rows; replaced, after the commit of a
        #: deletion, by another dict, which has those of the rows that stayed.
        self.rows: dict[int, list[int]] = {}
        #: The last number given. None is ever given twice.
        self.last = 0
        self._grown = 0
        self._bytes = 0
        #: The move that is under way: rows up to this one, of which these are not copied yet.
        self._until = 0
        self._left: list[int] = []

    def claim(self, db: sqlite3.Connection) -> bool:
        """Begin a transaction's work; True if another writer was here since the last."""
        if self._owns(db):
            return False
        _move_all(db)
        db.execute("UPDATE meta SET value=? WHERE name='tail'", (self.owner,))
        self._until, self._left = 0, []
        return True

    def _owns(self, db: sqlite3.Connection) -> bool:
        (owner,) = db.execute("SELECT value FROM meta WHERE name='tail'").fetchone()
        return bool(owner == self.owner)

    # -- moving ----------------------------------------------------------------------------

    def grew(self, rows: int, size: int) -> None:
        """So much was committed."""
        self._grown += rows
        self._bytes += size

    @property
    def waiting(self) -> bool:
        """Whether rows came since the last move began."""
        return self._grown > 0

    @property
    def moving(self) -> bool:
        return self._until > 0

    @property
    def full(self) -> bool:
        """Whether what came since the last move began is worth another."""
        return self._grown >= _MOVE_ROWS or self._bytes >= _MOVE_BYTES

    def step(self, db: sqlite3.Connection) -> None:
        """Begin a move or go on with it, in a transaction of its own: no append fails with it.

        Raises sqlite3.Error; then the move is given up, every row can still be found, and the
        next try comes when as many have come again.
        """
        until, left = self._until, self._left
        if not until:
            left = [n for _, numbers in sorted(self.rows.items()) for n in numbers]
            self._grown = self._bytes = 0
            until = self.last
        self._until, more = 0, False
        db.execute("BEGIN IMMEDIATE")
        if owned := self._owns(db):
            if left:
                _copy(db, left[:_STEP_ROWS])
                more = True
            else:
                more = _delete(db, until)
        db.execute("COMMIT")
        if more:
            self._until, self._left = until, left[_STEP_ROWS:]
        elif owned:
            self._moved(until)

    def move_all(self, db: sqlite3.Connection) -> None:
        """Move all at once, in a transaction of its own; raises sqlite3.Error."""
        db.execute("BEGIN IMMEDIATE")
        if owned := self._owns(db):
            _move_all(db)
        db.execute("COMMIT")
        if owned:
            self._until = 0
            self._moved(self.last)

    def _moved(self, until: int) -> None:
        """Not before the commit: who reads what was before finds the rows by the old dict."""
        kept = ((n, rows[bisect_right(rows, until) :]) for n, rows in self.rows.items())
        self.rows = {number: rows for number, rows in kept if rows}

    def remove(self, db: sqlite3.Connection, number: int, before: int = SPAN) -> None:
        """Remove a stream's rows with positions below `before`; within a transaction."""
        first = number << POSITION_BITS
        place = (first, first + before)
        db.execute("DELETE FROM entries WHERE id>=? AND id<?", place)
        if number in self.rows:
            db.execute("DELETE FROM tail WHERE id>=? AND id<?", place)

    def last_row(self, db: sqlite3.Connection, number: int) -> tuple[int, int] | None:
        """As the function, for the writer."""
        return last_row(db, number, _where(self.rows.get(number)))

    # -- looking ---------------------------------------------------------------------------

    def look(self) -> Look:
        """To be taken before the snapshot that it is asked about."""
        return Look(self)


class Look:
    """Which rows are in the tail of a snapshot that began after this was made.

    The order makes it right: take the dict, begin the snapshot, look into the dict, see that it
    is still the one. A row that the snapshot has in the tail alone was committed before it began,
    and before that its number was in the dict. Every dict that replaced that one before this was
    made has the number too, or else the commit before it had moved the row, which the snapshot
    would show. And that none replaced it since, `rows` tells.
    """

    __slots__ = ("_rows", "_tail")

    def __init__(self, tail: Tail) -> None:
        self._tail = tail
        self._rows = tail.rows

    def where(self, number: int, owner: str) -> Where | None:
        """None if the stream has no row there. `owner` is what the snapshot's `meta` says. To be
        called within the snapshot."""
        found = _where(self._rows.get(number))
        if self._tail.rows is not self._rows or owner != self._tail.owner:
            return _ANYWHERE
        return found


def last_row(db: sqlite3.Connection, number: int, where: Where | None) -> tuple[int, int] | None:
    """Position and time of a stream's last entry."""
    first = number << POSITION_BITS
    row = None
    if where is not None:
        place = (first, where.n, first, first + SPAN)
        row = db.execute(where.queries.last, place).fetchone()
    if row is None:
        row = db.execute(_LAST, (first, first, first + SPAN)).fetchone()
    return None if row is None else (row[0], row[1])


def rows_after(
    db: sqlite3.Connection, number: int, after: int, limit: int, where: Where | None
) -> Generator[Row, None, None]:
    """A stream's rows with positions over `after`, in order: at most `limit` from each table."""
    first = number << POSITION_BITS
    for row in db.execute(_ROWS, (first, first + after, first + SPAN, limit)):
        after = row[0]
        yield row
    if where is not None:
        place = (first, where.n, first + after, first + SPAN, limit)
        yield from db.execute(where.queries.rows, place)


def first_since(db: sqlite3.Connection, number: int, at: int, where: Where) -> int | None:
    """The position of a stream's first row in the tail that is not older than `at`."""
    first = number << POSITION_BITS
    row = db.execute(where.queries.since, (first, where.n, first, first + SPAN, at)).fetchone()
    return None if row is None else int(row[0])


# Few statements for many rows: the interpreter's lock is given away for nearly all of it.


def _copy(db: sqlite3.Connection, numbers: list[int]) -> None:
    """Copy these rows. They are looked up: to go through the tail for each step costs more."""
    db.execute(f"{_COPY} json_each(?) CROSS JOIN tail ON n = value", (str(numbers),))


def _delete(db: sqlite3.Connection, until: int) -> bool:
    """Delete some of the rows up to `until`; whether there are more of them."""
    first: int | None = db.execute("SELECT min(n) FROM tail").fetchone()[0]
    if first is None or first > until:
        return False
    # With a call of a function in it, the statement would keep a journal of its own, in a file.
    last = min(until, first + _STEP_ROWS - 1)
    db.execute("DELETE FROM tail WHERE n<=?", (last,))
    return last < until


def _move_all(db: sqlite3.Connection) -> None:
    db.execute(f"{_COPY} tail ORDER BY id")
    db.execute("DELETE FROM tail")
