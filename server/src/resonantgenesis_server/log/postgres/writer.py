"""The writer of the PostgreSQL log: group commit, one statement a group, one group at a time.

What was submitted while one group was being committed goes into the next one. For streams that
this node owns, conditions are checked and positions given in memory; the statement that inserts
the rows raises the node's own row in `writers`, and inserts nothing if somebody has taken a stream
from the node or declared it dead meanwhile. Then what is known is forgotten, and the group placed
anew. Streams of which nothing is known are taken over on another connection, while groups about
others go on.

Every group has a number of its own, and commits only upon the group before it: after a broken
connection the node's row tells whether a group was committed, and one that commits late, by a
connection that was given up, cannot slip in unnoticed.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter

import asyncpg
import structlog

from ... import metrics
from ...postgres_errors import ERRORS
from ..base import LogError, LogUnavailable, StaleWriter
from ..queue import Job
from .connection import (
    RETRY_SECONDS,
    Database,
    Standing,
    is_lost,
    unavailable,
    until_answered,
)
from .group import Delete, Trim, look_up, notice, stream_of, write_group
from .known import KnownStreams
from .placing import Batch, Keys, OwnedStream, date, names_of, place
from .statements import FORGET, GENERATION, STANDING, TAKE, TAKEN
from .writer_connection import STATEMENT_SECONDS, WriterConnection

log_ = structlog.get_logger("resonantgenesis.log")

#: Defects in a row after which the log is broken: a process that starts anew may do better.
_MAX_DEFECTS = 5
#: A group's size in bytes, as the queue counts them, and in jobs: the event loop waits while they
#: are placed, some microseconds each.
_MAX_GROUP_BYTES, _MAX_GROUP_JOBS = 8 * 1024 * 1024, 2_000
#: A group of this many jobs says that many producers are at work: the next one is gathered for
#: _GATHER seconds, since a commit costs the same for one job as for fifty.
_BUSY = 4
_GATHER = 0.004
#: A group that was refused so often is written while its streams are held, and so often at most.
_HOLD_AFTER, _MAX_REFUSALS = 2, 20
#: Streams that are taken over at once, and jobs that are written while their streams are held.
_MAX_TAKEN, _MAX_HELD = 1_000, 256


class _Refused(Exception):
    """The group left nothing; what it was placed upon is not so any more."""


class PostgresWriter:
    """Places and commits jobs, from `start` to `stop`. Lives on the event loop."""

    def __init__(
        self,
        database: Database,
        side: asyncpg.Pool,
        announce: Callable[[list[Job]], None],
        broken: Callable[[str], None],
        *,
        patience: float,
    ) -> None:
        """`side` is where streams are taken over; `announce` is called with the jobs of each group,
        in order, `broken` once, with the reason, when the log cannot be expected to recover."""
        self._database = database
        database.ended = self._break
        self._side = side
        self._announce = announce
        self._report_broken = broken
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._connection = WriterConnection(database)
        self._task: asyncio.Task[None] | None = None
        self._taker: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._close_by: float | None = None
        self._jobs: deque[Job] = deque()
        #: Jobs that wait until their streams are taken over, and all streams they are about: what
        #: comes later for one of these waits as well.
        self._waiting: list[Job] = []
        self._held: set[str] = set()
        self._wanted: set[str] = set()
        self._known = KnownStreams()
        self._numbers: list[int] = []
        #: Whether the next group has a key that is there already.
        self._ask_keys = False
        #: The number of the last group, and of the last one that is committed.
        self._number = 0
        self._committed = 0
        self._refusals = 0
        self._defects = 0
        self._is_to_look = False
        #: The group under way.
        self._group: list[Job] = []
        #: Why nothing more can be written.
        self.fatal: LogError | None = None
        #: Whether other nodes are to be told what is committed.
        self.is_followed: Callable[[], object] = lambda: False

    def on_lost(self, hear: Callable[[list[str]], None]) -> None:
        """Call `hear` with streams that others may write from now on, as far as is known."""
        self._known.on_lost = hear

    async def start(self) -> None:
        """Raises LogUnavailable."""
        try:
            standing = await self._connection.connect()
        except ERRORS as error:
            raise unavailable(error) from error
        self._known.generation = standing.generation
        self._task = asyncio.create_task(self._run(), name="log-writer")

    def submit(self, job: Job) -> None:
        self._jobs.append(job)
        self._wake.set()

    def owned_from(self, name: str) -> int | None:
        """The position after which this node alone has appended; None: another may append now."""
        stream = self._known.streams.get(name)
        return None if stream is None or not stream.number else stream.began

    def look(self) -> None:
        """Find out soon which streams others have taken."""
        self._is_to_look = True
        self._wake.set()

    @property
    def is_away(self) -> bool:
        """Whether the database did not answer when it was needed last."""
        return self._connection.is_away

    def hurry(self, seconds: float) -> None:
        """Wait no longer than `seconds` from now for a database that does not answer."""
        self._connection.hurry(seconds)
        self.look()  # an idle writer finds out as well whether the database answers

    async def stop(self, timeout: float) -> bool:
        """Commit what is queued and end; False if that took longer than `timeout` seconds. Every
        job has its outcome on return."""
        if self._task is None:
            return True
        self._close_by = self._loop.time() + timeout
        self._wake.set()
        done, _ = await asyncio.wait({self._task}, timeout=timeout)
        if not done:
            # Not cancelled: that would ask the server to cancel the statement, and a commit that
            # waits for its standby would be seen before it is there.
            self._connection.drop()
            await asyncio.wait({self._task}, timeout=1.0)
        for task in (self._task, self._taker):
            if task is not None and not task.done():
                task.cancel()
        self._fail_rest(LogUnavailable("the log was shut down before this was committed"))
        if done:
            await self._connection.close()
        else:
            self._connection.drop()
        return bool(done)

    # -- the loop --------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while True:
                self._group = group = self._take_group()
                if group:
                    began = perf_counter()
                    ended = await self._commit(group)
                    self._group = []
                    if ended:
                        self._announce(group)
                    if len(group) >= _BUSY and self._close_by is None:
                        await asyncio.sleep(max(0.0, _GATHER - (perf_counter() - began)))
                elif self._close_by is not None and not self._waiting and not self._jobs:
                    return
                elif self._is_to_look:
                    await self._look_idly()
                else:
                    self._wake.clear()
                    await self._wake.wait()
        except Exception as error:  # nobody would write any more
            self._defects = _MAX_DEFECTS
            self._defect(error)
            self._break(LogUnavailable("the log failed internally"))
            self._fail_rest(LogUnavailable("the log failed internally"))

    async def _look_idly(self) -> None:
        """Between two groups. What cannot be asked now, the next group's commit finds out."""
        self._is_to_look = False
        if not self._connection.is_open or self.fatal is not None:
            return
        try:
            await self._look()
        except LogError:
            return  # it is broken now, and said so
        except ERRORS as error:
            self._connection.drop()
            self._connection.note_absence(error)

    def _take_group(self) -> list[Job]:
        """What can be written now; what cannot waits for its streams."""
        if self._refusals >= _HOLD_AFTER:
            return self._take_oldest()
        group: list[Job] = []
        size = 0
        while self._jobs and size < _MAX_GROUP_BYTES and len(group) < _MAX_GROUP_JOBS:
            if self._jobs[0].work is not None and group:
                break
            job = self._jobs.popleft()
            if not self._is_ready(job):
                self._waiting.append(job)
                self._held.update(names_of(job))
                continue
            group.append(job)
            size += job.size
            if job.work is not None:
                break
        if self._taker is None and self._wanted:
            # Some were asked for and learned since they were wanted.
            self._wanted.difference_update(self._known.streams)
        if self._taker is None and self._wanted:
            self._known.ask()
            self._taker = asyncio.create_task(self._take_over(), name="log-taker")
        return group

    def _take_oldest(self) -> list[Job]:
        self._put_back([])
        group: list[Job] = []
        while self._jobs and len(group) < _MAX_HELD:
            if self._jobs[0].work is not None and group:
                break
            group.append(self._jobs.popleft())
            if group[-1].work is not None:
                break
        return group

    def _put_back(self, group: Sequence[Job]) -> None:
        """Before all others: `group` is older than what waits for the same streams, and that is
        older than what is queued."""
        self._jobs.extendleft(reversed(self._waiting))
        self._jobs.extendleft(reversed(group))
        self._waiting.clear()
        self._held.clear()
        self._wake.set()

    def _is_ready(self, job: Job) -> bool:
        streams, held = self._known.streams, self._held
        ready = True
        unknown: list[str] = []
        for append in job.appends:
            name = append.stream
            if held and name in held:
                ready = False
            if name not in streams:
                unknown.append(name)
        if job.work is not None:
            ready = ready and not any(name in held for name in job.work.names)
            unknown += [name for name in job.work.names if name not in streams]
        if not unknown:
            return ready
        if ready and job.work is None and self._known.all_new(job, unknown, self._number):
            return True
        self._wanted.update(unknown)
        return False

    # -- taking over -----------------------------------------------------------------------

    async def _take_over(self) -> None:
        """Ask for the streams that are wanted, and let the jobs go on that wait for them."""
        try:
            names = sorted(self._wanted)[:_MAX_TAKEN]
            self._wanted.clear()
            try:
                rows = await until_answered(
                    lambda: self._ask_for(names), self._patience, self._is_over
                )
            except LogError as error:
                self._refuse_waiting(error)
                return
            found = {row["name"].decode(): row for row in rows}
            self._known.learn(names, found, self._number)
        except Exception as error:
            self._defect(error)
            self._refuse_waiting(_internal(error))
        finally:
            self._known.answered()
            self._taker = None
            self._put_back([])

    async def _ask_for(self, names: list[str]) -> list[asyncpg.Record]:
        encoded = [name.encode() for name in names]
        while True:
            try:
                async with self._side.acquire(timeout=STATEMENT_SECONDS) as db:
                    rows: list[asyncpg.Record] = await db.fetch(
                        TAKE, self._database.node, encoded, False, timeout=STATEMENT_SECONDS
                    )
                    return rows
            except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError):
                if self._is_over():
                    raise
            await asyncio.sleep(random.uniform(0, 0.005))  # noqa: S311

    def _refuse_waiting(self, error: LogError) -> None:
        group = list(self._waiting)
        self._waiting.clear()
        self._held.clear()
        for job in group:
            job.error = error
        self._announce(group)

    def _is_over(self) -> bool:
        ends = [by for by in (self._close_by, self._connection.give_up_by) if by is not None]
        return self.fatal is not None or (bool(ends) and self._loop.time() >= min(ends))

    # -- a group ---------------------------------------------------------------------------

    async def _commit(self, group: list[Job]) -> bool:
        """Whether it has ended, well or badly; if not, it is queued again."""
        self._number += 1
        self._known.writing(name for job in group for name in names_of(job))
        began = perf_counter()
        held = self._refusals >= _HOLD_AFTER
        try:
            if self.fatal is not None:
                raise self.fatal
            batch = await (self._commit_held(group) if held else self._commit_owned(group))
        except (_Refused, asyncpg.SerializationError, asyncpg.DeadlockDetectedError):
            return await self._refused(group)
        except asyncpg.UniqueViolationError as error:
            self._contradicted(group, error)
            return await self._refused(group)
        except Exception as error:
            self._fail(group, self._reason(error))
        else:
            # Where nodes fight for streams the next refusal is answered by holding them at once.
            self._refusals = _HOLD_AFTER - 1 if held else 0
            self._defects = 0
            self._ask_keys = False
            size = sum([job.size for job in group])
            metrics.committed(len(batch.numbers), size, perf_counter() - began)
        self._known.forget_some(self._number)
        return True

    async def _commit_owned(self, group: list[Job]) -> Batch:
        streams = self._known.streams
        await self._fill_numbers(self._known.absent)
        keys: Keys = {}
        if self._ask_keys:
            keys = await until_answered(
                lambda: look_up(self._side, group, streams), self._patience, self._is_over
            )
        batch = place(group, streams, self._numbers.pop, keys)
        at = await self._send(
            group, lambda db: self._write(db, group, batch, streams, self._known.generation)
        )
        self._accept(group, streams, at)
        self._known.made(batch.new)
        return batch

    async def _commit_held(self, group: list[Job]) -> Batch:
        """Take the group's streams and write it in one transaction: nobody comes in between."""
        names = sorted({name for job in group for name in names_of(job)})
        encoded = [name.encode() for name in names]
        self._known.forget(names)
        await self._fill_numbers(len(names))
        batch, streams, numbers = Batch(), dict[str, OwnedStream](), self._numbers

        async def write(db: asyncpg.Connection) -> int | None:
            nonlocal batch, streams, numbers
            async with db.transaction():
                rows = await db.fetch(TAKE, self._database.node, encoded, True)
                streams = {name: OwnedStream(name) for name in names}
                for row in rows:
                    name = row["name"].decode()
                    streams[name] = stream_of(name, row)
                generation = await db.fetchval(GENERATION, self._database.node)
                keys = await look_up(db, group, streams)
                numbers = self._numbers.copy()
                batch = place(group, streams, numbers.pop, keys)
                return await self._write(db, group, batch, streams, generation)

        at = await self._send(group, write)
        self._numbers = numbers
        self._accept(group, streams, at)
        return batch

    async def _send(
        self, group: list[Job], write: Callable[[asyncpg.Connection], Awaitable[int | None]]
    ) -> int:
        """The group's date. Outlasts broken connections.

        Raises _Refused, LogUnavailable, StaleWriter, and what asyncpg raises for the statement.
        """
        deadline = self._loop.time() + self._patience - (perf_counter() - group[0].submitted_at)
        while True:
            try:
                if not self._connection.is_open and self.is_away and self._is_over():
                    raise self.fatal or LogUnavailable(
                        "the database is away, and the server is shut down"
                    )
                if not self._connection.is_open:
                    await self._connection.connect()
                    at = await self._settle()
                    if at is not None:
                        return at
                at = await self._bounded(write)
                if at is not None:
                    return at
                at = await self._settle()
                if at is not None:
                    return at
                raise _Refused
            except LogError:
                raise
            except ERRORS as error:
                if not is_lost(error):
                    raise
                self._connection.drop()
                self._connection.note_absence(error)
                if self.fatal is not None:  # another connection has found out why
                    raise self.fatal from error
                if self._is_over() or self._loop.time() >= deadline:
                    raise unavailable(error) from error
            await asyncio.sleep(RETRY_SECONDS)

    async def _settle(self) -> int | None:
        """After a refusal, or where an answer was lost: the group's date if it is committed, None
        if it is not, and may be sent as it is. Raises _Refused if it may not."""
        generation = self._known.generation
        standing = await self._look()
        if standing.committed == self._number:
            return standing.at
        if standing.committed != self._committed:
            # A group that was given up has come in after all: nothing known is certain.
            self._committed = standing.committed
            self._known.forget(list(self._known.streams))
            raise _Refused
        if standing.generation != generation:
            raise _Refused
        return None

    async def _look(self) -> Standing:
        """What the database says of this node; forgets the streams that were taken from it."""
        db, node = self._connection.db, self._database.node
        with self._connection.limited():
            row = await db.fetchrow(STANDING, node)
            if row is None or not row["alive"]:
                self._break(StaleWriter("this node was declared dead"))
                raise StaleWriter("this node was declared dead")
            if row["generation"] != self._known.generation:
                taken = await db.fetch(TAKEN, node, row["generation"])
                self._known.lose({each["stream"]: each["generation"] for each in taken})
                self._known.generation = row["generation"]
                # Not before: if the connection breaks here they are read once more.
                await db.execute(FORGET, node, row["generation"])
        return Standing(row["generation"], row["committed"], row["at"])

    async def _bounded(
        self, write: Callable[[asyncpg.Connection], Awaitable[int | None]]
    ) -> int | None:
        db = self._connection.db
        with self._connection.limited():
            return await write(db)

    # -- what a group needs and leaves -----------------------------------------------------

    async def _write(
        self,
        db: asyncpg.Connection,
        group: list[Job],
        batch: Batch,
        streams: dict[str, OwnedStream],
        generation: int,
    ) -> int | None:
        """The group's date; None: its statement did nothing."""
        me = self._database.node, self._number, self._committed, generation
        told = notice(self._database.node, group) if self.is_followed() else ""
        return await write_group(db, me, group, batch, streams, told)

    def _accept(self, group: list[Job], streams: dict[str, OwnedStream], at: int) -> None:
        """The group is committed."""
        self._committed = self._database.acknowledged = self._number
        date(group, streams, at)
        job, work = group[0], group[0].work
        if isinstance(work, Trim):
            stream = streams[work.names[0]]
            stream.earliest = max(stream.earliest, work.step(stream))
            job.result = work.is_done(stream)
        elif isinstance(work, Delete) and job.error is None:
            job.result = [number for name in work.names if (number := streams[name].number)]
            self._known.forget(work.names)

    async def _fill_numbers(self, needed: int) -> None:
        """Have numbers for so many new streams."""
        while len(self._numbers) < needed:
            first: int = await until_answered(
                lambda: self._side.fetchval("SELECT nextval('stream_numbers')"),
                self._patience,
                self._is_over,
            )
            # Taken from the end: in order, but for those that are left.
            self._numbers[:0] = range(first + 999, first - 1, -1)

    # -- what did not work -----------------------------------------------------------------

    def _contradicted(self, group: list[Job], error: asyncpg.UniqueViolationError) -> None:
        """The table has something that was taken for new."""
        match error.constraint_name:
            case "streams_name":
                self._known.doubt(name for job in group for name in names_of(job))
            case "entries_key":
                self._ask_keys = True
            case "streams_pkey":  # numbers that the database forgot in a crash, and gave out again
                self._numbers.clear()
            case constraint:
                log_.warning("the log found an entry where one was to be", constraint=constraint)

    async def _refused(self, group: list[Job]) -> bool:
        self._refusals += 1
        self._known.forget({name for job in group for name in names_of(job)})
        if self._refusals > _MAX_REFUSALS:
            self._refusals = 0
            self._fail(group, LogUnavailable("other nodes write the same streams all the time"))
            return True
        self._put_back(group)
        await asyncio.sleep(random.uniform(0, min(0.05, 0.001 * 2**self._refusals)))  # noqa: S311
        return False

    def _reason(self, error: Exception) -> LogError:
        """What the producers hear of a failure."""
        if isinstance(error, LogError):
            return error
        if isinstance(error, ERRORS) and not isinstance(error, ValueError):
            return unavailable(error)
        self._defect(error)
        return _internal(error)

    def _fail(self, group: list[Job], error: LogError) -> None:
        metrics.commit_failed()
        self._known.forget({name for job in group for name in names_of(job)})
        for job in group:
            # Also those refused before: their reason may be an append that is undone now.
            job.error, job.committed = error, []

    def _fail_rest(self, error: LogError) -> None:
        rest = [*self._group, *self._waiting, *self._jobs]
        self._group = []
        self._waiting.clear()
        self._jobs.clear()
        for job in rest:
            job.error, job.committed = error, []
        self._announce(rest)

    def _defect(self, error: BaseException) -> None:
        metrics.defect("log")
        self._defects += 1
        log_.error("the log failed internally", in_a_row=self._defects, exc_info=error)
        if self._defects == _MAX_DEFECTS:
            self._report_broken("the log fails time after time")

    def _break(self, error: LogError) -> None:
        """Nothing can be written by this node any more."""
        if self.fatal is None:
            self.fatal = error
            self._wake.set()
            self._report_broken(str(error))


def _internal(error: BaseException) -> LogUnavailable:
    made = LogUnavailable("the log failed internally")
    made.is_defect = True
    made.__cause__ = error
    return made
