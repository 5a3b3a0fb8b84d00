"""What the writer of the SQLite log is given to do, and what it knows of a stream."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from .base import Append, Entry, PositionConflict, StaleWriter, StreamClosed


class WriterJob:
    """Something for the next transaction: appends, or `work`, or both; `outcome` is called after
    it, with what the work gave where there is work.

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


class Stream:
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


def check(append: Append, state: Stream | None) -> None:
    """Raises what rules 4 and 6 of base.py and `expect` refuse it with; None: a new stream."""
    head = 0 if state is None else state.head
    if append.expect is not None and append.expect != head:
        raise PositionConflict(f"{append.stream} ends at {head}, not at {append.expect}")
    if state is None:
        return
    if append.fence is not None and append.fence < state.fence:
        raise StaleWriter(f"{append.stream} is owned by fence {state.fence}, not {append.fence}")
    if state.closed:
        raise StreamClosed(f"{append.stream} is closed")
