"""The part of a log that every backend shares: the bounded queue before its writer, the conditions
that the writer checks, and the announcing after its commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, TypeVar

from .. import metrics
from .base import (
    Append,
    Entry,
    LogError,
    LogOverloaded,
    LogUnavailable,
    OnCommit,
    Outcome,
    PositionConflict,
    StaleWriter,
    StreamClosed,
    check_appends,
)

T = TypeVar("T")


class Job:
    """Something for the next transaction: appends, or `work`, or both; `outcome` is called after
    it, with what the work gave where there is work. What `work` is, the backend's writer says.

    Only what appends did is announced to readers, by `committed`.
    """

    __slots__ = (
        "appends", "committed", "error", "outcome", "result", "size", "submitted_at", "work",
    )  # fmt: skip

    def __init__(
        self,
        appends: Sequence[Append],
        work: Any,
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
    """What a writer knows of a stream."""

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


class QueuedLog:
    """The base of a backend's log: `append`, `submit`, `room`, and the end of every job.

    A backend says by `_put` where a job goes and calls `_deliver`, on the event loop, with the
    jobs of each transaction, in the order of the commits.
    """

    def __init__(self, on_commit: OnCommit, max_queued_bytes: int) -> None:
        self._on_commit = on_commit
        self._bound = max_queued_bytes
        self._loop = asyncio.get_running_loop()
        self._room: asyncio.Event = asyncio.Event()
        self._room.set()
        self._queued = 0
        self._closing = False

    def _put(self, job: Job) -> None:
        raise NotImplementedError

    def append(self, *appends: Append) -> asyncio.Future[list[int]]:
        future: asyncio.Future[list[int]] = self._loop.create_future()
        self.submit(appends, lambda result, error: resolve(future, result, error))
        return future

    def submit(self, appends: Sequence[Append], outcome: Outcome) -> None:
        try:
            size = check_appends(appends)
            for append in appends:  # empty ones count too: they hold memory like others
                size += 64 + 64 * len(append.entries)
            if self._closing:
                raise LogUnavailable("the log is shut down")
            if self._queued > 2 * self._bound:
                raise LogOverloaded(f"{self._queued} bytes wait to be committed")
        except (ValueError, LogError) as error:
            self._loop.call_soon(outcome, None, error)
        else:
            self._submit(Job(appends, None, outcome, size))

    @property
    def queued(self) -> int:
        """Bytes that wait to be committed."""
        return self._queued

    async def room(self, stream: str | None = None) -> None:
        while self._queued >= self._bound and not self._closing:
            await self._room.wait()

    def hurry(self, seconds: float, away: Callable[[], None] = lambda: None) -> None:
        """The process is on its way out: wait no longer than `seconds` from now for a database
        that does not answer. `away` is called if that is found then. A file is never away."""

    def _shut(self) -> None:
        """Refuse what comes from now on; nobody waits for room any more."""
        self._closing = True
        self._room.set()

    async def _work(self, work: Any, appends: Sequence[Append] = ()) -> Any:
        """Have `work` done in the writer's next transaction, with `appends`."""
        await self.room()
        if self._closing:
            raise LogUnavailable("the log is shut down")
        future: asyncio.Future[Any] = self._loop.create_future()
        size = 64 + sum(64 + len(entry.body) for append in appends for entry in append.entries)
        self._submit(Job(appends, work, lambda result, error: resolve(future, result, error), size))
        return await future

    def _submit(self, job: Job) -> None:
        self._queued += job.size
        if self._queued >= self._bound:
            self._room.clear()
        self._put(job)

    def _deliver(self, done: list[Job]) -> None:
        """After a commit, or its failure."""
        for job in done:
            self._queued -= job.size
            metrics.announcing(job.submitted_at)
            for stream, entries in job.committed:
                self._announce(stream, entries)
            job.outcome(job.result, job.error)
        if self._queued < self._bound:
            self._room.set()

    def _announce(self, stream: str, entries: list[Entry]) -> None:
        try:
            self._on_commit(stream, entries)
        except Exception as error:  # the listener's defect; the producers' futures must resolve
            self._loop.call_exception_handler(
                {"message": f"on_commit failed for {stream!r}", "exception": error}
            )


def resolve(future: asyncio.Future[T], result: T | None, error: Exception | None) -> None:
    """Give a future how its append or work has ended."""
    if future.done():  # its waiter was cancelled
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)  # type: ignore[arg-type]  # an outcome has one or the other
