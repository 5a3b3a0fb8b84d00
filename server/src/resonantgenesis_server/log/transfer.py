"""The whole content of a log, row by row, for a copy into a log of another kind.

Numbers of streams and positions stay as they are. Nobody else may use either log meanwhile.
A log that is being filled has a mark, with which no server opens it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

#: Of one read: rows, and about so many bytes of bodies.
PAGE_ROWS, PAGE_BYTES = 4_000, 4 * 1024 * 1024
#: The name, in the table `meta` of every log, of the mark of a copy that has not ended.
COPY = "copy"
#: What a server says that finds the mark.
UNFINISHED = (
    "a copy into this store broke off; run the same `resonantgenesis store copy` again, which goes"
    " on with it"
)


class StreamRow(NamedTuple):
    """`head` and `last_at` count only while the stream holds no entry."""

    number: int
    name: bytes
    head: int
    last_at: int
    earliest: int
    fence: int
    closed: bool
    pending: bool


class EntryRow(NamedTuple):
    stream: int
    position: int
    at: int
    kind: bytes
    body: bytes
    key: bytes | None


class KeyRow(NamedTuple):
    """An idempotency key; `left`: seconds until it expires."""

    scope: bytes
    key: bytes
    value: bytes
    left: float


class Totals(NamedTuple):
    streams: int
    entries: int


class LogRows(Protocol):
    """One log, opened for itself alone. Everything raises LogUnavailable."""

    @property
    def epoch(self) -> str: ...

    @property
    def fence(self) -> int:
        """The highest fence that was given out, and not less than the number of any node."""
        ...

    async def mark(self) -> str | None:
        """What `begin` left; None: no copy is under way here."""
        ...

    async def totals(self) -> Totals: ...

    async def streams(self, after: int) -> Sequence[StreamRow]:
        """Streams with higher numbers, in order; empty: there are no more."""
        ...

    async def entries(self, after: tuple[int, int]) -> Sequence[EntryRow]:
        """Entries behind this stream and position, in order; empty: there are no more."""
        ...

    async def keys(self) -> Sequence[KeyRow]:
        """The idempotency keys that have not expired."""
        ...

    async def begin(self, mark: str, epoch: str, fence: int) -> None:
        """Mark the log as being filled, and give it its epoch; what `mark` tells from then on."""
        ...

    async def add_streams(self, rows: Sequence[StreamRow]) -> None: ...

    async def add_entries(self, rows: Sequence[EntryRow]) -> None: ...

    async def add_keys(self, rows: Sequence[KeyRow]) -> None:
        """Add those that are not there yet."""
        ...

    async def last_stream(self) -> int:
        """The number of the last stream; 0: none."""
        ...

    async def last_entry(self) -> tuple[int, int]:
        """Stream and position of the last entry; (0, 0): none."""
        ...

    async def end(self) -> None:
        """Remove the mark: the log is whole."""
        ...

    async def close(self) -> None: ...
