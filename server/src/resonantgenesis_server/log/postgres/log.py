"""The backend for many nodes: a PostgreSQL database, 14 or newer, by asyncpg.

Durability: a commit is a flush of the database's write-ahead log, on its synchronous standby as
well if it has one; `durability` says which. All work is done on the event loop. Any number of
processes may have the store open; each is a node of its own. Streams that all of them append to
are written by another way while there are several; see outbox.py.

Reads, and streams that are taken over, have connections beside the writer's. While the database is
away appends wait, at most `patience` seconds, and reads a few; then they raise LogUnavailable.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import asyncpg
import structlog

from ..base import (
    Append,
    Entry,
    LogUnavailable,
    OnCommit,
    Page,
    StaleWriter,
    check_deletion,
    check_text,
    mark,
)
from ..queue import Job, QueuedLog
from ..shared import Runner
from . import reader
from .connection import Database, until_answered
from .group import Delete, Trim
from .nodes import Nodes
from .outbox import FORGET, Outbox, Place, Rows, Sequencer, entries_of, outbox_of, place_here
from .writer import PostgresWriter

log_ = structlog.get_logger("resonantgenesis.log")
T = TypeVar("T")

#: Connections for what is neither an append nor a read: streams taken over, keys, fences, and the
#: sequencer.
_SIDE = 3
#: Seconds that a read, a claim or a fence waits for a database that is away.
_READ_PATIENCE = 5.0
#: Seconds that one query may take.
_QUERY_SECONDS = 30.0
#: Seconds that a start waits for the first look at other nodes.
_FIRST_LOOK_SECONDS = 5.0
#: Seconds that a connection may take to say good-bye.
_CLOSE_SECONDS = 1.0
#: Seconds between two looks whether the database is away, when the process is on its way out.
_LOOK_SECONDS = 0.25
#: Entries of deleted streams that are removed at once, and seconds after which what another
#: process left of one is looked for.
_SWEEP_ROWS = 5_000
_SWEEP_SECONDS = 600.0
#: So many claims after which those that have expired are removed, and so many of them at once.
_EXPIRED_EVERY, _EXPIRED_ROWS = 64, 256


def is_events(stream: str) -> bool:
    """Whether this is an organization's log of events or of acts, which all nodes append to."""
    return stream.startswith(("events:", "audit:"))


class PostgresLog(QueuedLog):
    """EventLog, Fences and IdempotencyKeys over one database. Made by `open`, ended by
    `close`."""

    def __init__(self, database: Database, on_commit: OnCommit, max_queued_bytes: int) -> None:
        super().__init__(on_commit, max_queued_bytes)
        self._database = database
        self._writer: PostgresWriter
        self._readers: asyncpg.Pool
        self._side: asyncpg.Pool
        self._queries: set[asyncio.Task[Any]] = set()
        self._claims = 0
        #: Until when a database that is away is waited for.
        self._give_up_by = math.inf
        self._sweeper: asyncio.Task[None] | None = None
        #: This process among the others that have the store open.
        self.nodes: Nodes
        self._sequencer: Sequencer
        self._outbox: Outbox
        #: What notices say of other nodes' outboxes.
        self._outboxes: set[int] = set()
        #: See `FollowedLog`.
        self.on_lost: Callable[[list[str]], None] = lambda _streams: None
        self.on_notice: Callable[[Sequence[int] | None], None] = lambda _marks: None

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        on_commit: OnCommit = lambda _stream, _entries: None,
        max_queued_bytes: int = 64 * 1024 * 1024,
        on_broken: Callable[[str], None] = lambda _reason: None,
        readers: int = 4,
        patience: float = 60.0,
        beat_seconds: float = 1.0,
        ttl: float = 10.0,
        name: str = "",
        address: str = "",
        version: str = "",
        is_shared: Callable[[str], bool] = is_events,
        label: str = "",
        node: int | None = None,
        place: Place | None = None,
    ) -> PostgresLog:
        """Open or create the store in the database at `url`, and join as a new node.

        `on_broken` is called on the event loop, with the reason, when the log cannot recover: it
        fails for mistakes of ours time after time, the node was declared dead, or the database
        has lost what it had acknowledged. `readers` are connections for reading; `patience` is
        in seconds; `name`, `address` and `version` are what other nodes see of this one. A node
        beats every `beat_seconds`, and is declared dead when it has not for `ttl` seconds.
        `is_shared`: which streams many nodes append to, see outbox.py. The last three are for one
        of several databases, see spread.py: its name for people, the number that the first one has
        given to this node, and what places entries that wait in outboxes.

        Raises LogUnavailable, with one line, if the database cannot be used, StoreIsNewer if a
        later version of the program wrote the store.
        """
        database = Database(url, label)
        await database.open(name=name, address=address, version=version, node=node)
        for warning in database.server.warnings:
            log_.warning(warning)
        log = cls(database, on_commit, max_queued_bytes)
        log._side = await database.pool(_SIDE, "side")
        try:
            log._readers = await database.pool(readers, "reader")
            try:
                log._writer = PostgresWriter(
                    database, log._side, log._deliver, on_broken, patience=patience
                )
                await log._writer.start()
            except BaseException:
                log._readers.terminate()
                raise
        except BaseException:
            log._side.terminate()
            raise
        log.nodes = Nodes(database, log._side, beat_seconds=beat_seconds, ttl=ttl)
        log.nodes.on_generation = log._writer.look
        log.nodes.on_notice = log._noticed
        log._writer.on_lost(log._lost)
        log._writer.is_followed = lambda: log.nodes.others
        await log._start_sharing(is_shared, place)
        log._sweeper = asyncio.create_task(log._sweep_for_ever(), name="log-sweeper")
        return log

    async def _start_sharing(self, is_shared: Callable[[str], bool], place: Place | None) -> None:
        """Look who else lives, and append to shared streams accordingly."""

        async def ask(question: Callable[[asyncpg.Connection], Awaitable[Any]]) -> Any:
            return await self._ask(self._side, question)

        self._sequencer = Sequencer(self.node, ask, self._announce, lambda: self.leads, place)
        self._outbox = Outbox(
            self.node,
            self._sequencer,
            ask,
            self._writer.submit,
            self._announce,
            is_shared,
            # Of several databases another one's sequencer may place entries here at any time.
            lambda: place is None and self.is_alone,
        )
        self._sequencer.start()
        self.nodes.on_look = self._looked
        self.nodes.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_LOOK_SECONDS):
                await self.nodes.looked()
                await self._outbox.settled()

    @property
    def epoch(self) -> str:
        return self._database.epoch

    @property
    def durability(self) -> str:
        """What a commit survives, for people."""
        return self._database.server.durability

    @property
    def parts(self) -> Sequence[PostgresLog]:
        """The logs of all databases of the store: this one."""
        return (self,)

    def place_of(self, stream: str) -> int:
        """Which of the parts holds the stream."""
        return 0

    @property
    def node(self) -> int:
        """This process among those that have had the store open."""
        return self._database.node

    @property
    def is_alone(self) -> bool:
        """Whether no other node lives, as of the last look. A node that joins waits until all
        others have seen it."""
        return not self.nodes.others

    def lives(self, node: int) -> bool:
        """Whether this is the number of another node that lives, as of the last look."""
        return node in self.nodes.others

    @property
    def problem(self) -> str | None:
        """Why this node cannot write now, as far as that is known; None if it can."""
        if self._writer.fatal is not None:
            return str(self._writer.fatal)
        return f"{self._database.words} does not answer" if self.nodes.is_late else None

    @property
    def is_broken(self) -> bool:
        """Whether this node can write nothing any more, whatever the database does."""
        return self._writer.fatal is not None

    @property
    def is_away(self) -> bool:
        """Whether the database was found not to answer."""
        return self._writer.is_away or self.nodes.is_late

    @property
    def leads(self) -> bool:
        """Whether this node does what one alone has to do: no living node has a smaller number."""
        return all(self.node < other for other in self.nodes.others)

    async def runner(self, stream: str) -> Runner | None:
        """See `Nodes.runner`."""
        return await self.nodes.runner(stream)

    def owned_from(self, stream: str) -> int | None:
        """See `FollowedLog`."""
        return self._writer.owned_from(stream)

    @property
    def gets_notices(self) -> bool:
        """See `FollowedLog`."""
        return self.nodes.gets_notices

    # `on_lost` and `on_notice` are set after the log is open.

    def _lost(self, streams: list[str]) -> None:
        self.on_lost(streams)

    def _noticed(self, marks: Sequence[int] | None) -> None:
        if marks is None or not self._outboxes.isdisjoint(marks):
            self._sequencer.soon()
        self.on_notice(marks)

    def _looked(self) -> None:
        self._outboxes = {mark(outbox_of(node)) for node in self.nodes.others}
        self._outbox.looked()

    def _announce(self, stream: str, entries: list[Entry]) -> None:
        if stream == self._outbox.name:
            self._sequencer.soon()
        else:
            super()._announce(stream, entries)

    def hurry(self, seconds: float, away: Callable[[], None] = lambda: None) -> None:
        self._give_up_by = min(self._give_up_by, self._loop.time() + seconds)
        self._writer.hurry(seconds)
        self._loop.call_later(seconds, self._abandon, away)

    def _abandon(self, away: Callable[[], None]) -> None:
        """Break the connections once the database is found to be away: no statement ends on them,
        and each would hold up whoever waits for it."""
        if self._closing:
            return
        if not self._writer.is_away:
            self._loop.call_later(_LOOK_SECONDS, self._abandon, away)
            return
        self._readers.terminate()
        self._side.terminate()
        self.nodes.reconnect()
        away()

    async def close(self, timeout: float = 10.0, *, leaves: bool = True) -> None:
        """Commit what was accepted, refuse what comes after, let go of the database. Without
        `leaves` the node's last word there is left to `leave`.

        Waits at most about `timeout` seconds, and hardly at all for a database that is away after
        `hurry`; raises LogUnavailable if the database did not answer by then.
        """
        if self._closing:
            return
        self._shut()
        if self._writer.is_away and self._loop.time() >= self._give_up_by:
            timeout = min(timeout, _CLOSE_SECONDS)
        deadline = self._loop.time() + timeout
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self._outbox.close()
        stopped = await self._writer.stop(timeout)
        await self._outbox.answered(max(0.0, deadline - self._loop.time()))
        await self._sequencer.close()
        await self.nodes.close()
        if self._queries:
            left = max(0.0, deadline - self._loop.time())
            _, late = await asyncio.wait(self._queries, timeout=left)
            stopped = stopped and not late
        if leaves:
            await self.leave()
        for pool in (self._readers, self._side):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await pool.close()
            pool.terminate()
        if not stopped:
            raise LogUnavailable(f"the log did not finish its work within {timeout:g} s")

    async def leave(self) -> None:
        """Let the others know that this node has ended."""
        if not self._writer.is_away:
            await self._database.leave()

    # -- writing ---------------------------------------------------------------------------

    def _put(self, job: Job) -> None:
        self._outbox.submit(job)

    async def next_fence(self) -> int:
        return await self._ask(self._side, lambda db: reader.next_fence(db, self._database.node))

    async def note_fence(self, fence: int) -> bool:
        """Whether this fence, given out by the first of several databases, is new here too."""
        return await self._ask(self._side, lambda db: reader.note_fence(db, self.node, fence))

    async def sequenced(self) -> None:
        """Return once all that waited in this database's outboxes has its position. Raises
        LogUnavailable."""
        await self._sequencer.caught_up()

    async def place(self, rows: Rows) -> None:
        """Give entries that waited in an outbox, perhaps another database's, their positions.
        Raises LogUnavailable."""
        placed = await self._ask(self._side, lambda db: place_here(db, self.node, rows))
        for stream, entries in entries_of(placed):
            self._announce(stream, entries)

    async def trim(self, stream: str, before: int) -> None:
        check_text(stream)
        await self._outbox.before_read(stream)
        while not await self._work(Trim(stream, max(before, 0))):
            pass

    async def delete(self, *streams: str, appends: Sequence[Append] = ()) -> None:
        check_text(*streams)
        check_deletion(streams, appends)
        if not streams:
            return
        await self._outbox.before_read(*streams)
        for number in await self._work(Delete(streams), appends):
            await self._remove(number)

    async def _remove(self, number: int) -> None:
        """Remove the entries of a stream that is deleted; nobody sees them any more."""
        while await self._ask(self._side, lambda db: reader.remove_some(db, number, _SWEEP_ROWS)):
            pass

    async def _sweep_for_ever(self) -> None:
        """Remove what processes that ended left of deleted streams."""
        while True:
            try:
                await self._ask(self._side, lambda db: db.execute(FORGET))
                for number in await self._ask(self._side, reader.left_over):
                    await self._remove(number)
            except (LogUnavailable, StaleWriter):
                pass  # the database is away, or this node was declared dead: there is time
            except Exception as error:
                log_.error("removing deleted streams failed", exc_info=error)
            await asyncio.sleep(_SWEEP_SECONDS)

    # -- reading ---------------------------------------------------------------------------

    async def read(
        self, stream: str, after: int, *, limit: int = 1000, max_bytes: int = 1 << 20
    ) -> Page:
        if limit < 1:
            raise ValueError(f"limit is {limit}; a page holds at least one entry")
        check_text(stream)
        await self._outbox.before_read(stream)
        return await self._ask(
            self._readers, lambda db: reader.read_page(db, stream, after, limit, max_bytes)
        )

    async def read_many(
        self, after: Mapping[str, int], *, limit: int, max_bytes: int
    ) -> Mapping[str, Page]:
        check_text(*after)
        await self._outbox.before_read(*after)
        return await self.read_placed(after, limit=limit, max_bytes=max_bytes)

    async def read_placed(
        self, after: Mapping[str, int], *, limit: int, max_bytes: int
    ) -> Mapping[str, Page]:
        """See `SharedLog`."""
        return await self._ask(
            self._readers, lambda db: reader.read_pages(db, after, limit, max_bytes)
        )

    async def locate(
        self, stream: str, *, key: str | None = None, at: int | None = None
    ) -> int | None:
        check_text(stream)
        if (key is None) == (at is None):
            raise ValueError("locate takes either a key or a time")
        await self._outbox.before_read(stream)
        if key is not None:
            check_text(key)
            wanted = key
            return await self._ask(self._readers, lambda db: reader.position_of(db, stream, wanted))
        moment = at or 0
        return await self._ask(self._readers, lambda db: reader.position_at(db, stream, moment))

    async def pending(self) -> list[str]:
        return await self._ask(self._readers, reader.pending)

    async def _ask(
        self, pool: asyncpg.Pool, ask: Callable[[asyncpg.Connection], Awaitable[T]]
    ) -> T:
        """Ask on one of the connections; again while the database is away. Not cancelled with its
        caller: a query that is given up costs the database more than one that ends."""
        if self._closing:
            raise LogUnavailable("the log is shut down")
        if self._writer.fatal is not None:
            raise self._writer.fatal

        async def once() -> T:
            async with pool.acquire(timeout=_QUERY_SECONDS) as db:
                if self._closing:
                    raise LogUnavailable("the log is shut down")
                return await ask(db)

        query: asyncio.Task[T] = asyncio.create_task(
            until_answered(once, _READ_PATIENCE, self._is_over)
        )
        self._queries.add(query)
        query.add_done_callback(self._forget_query)
        await asyncio.wait({query})
        return query.result()

    def _is_over(self) -> bool:
        return self._closing or self._loop.time() >= self._give_up_by

    def _forget_query(self, query: asyncio.Task[Any]) -> None:
        self._queries.discard(query)
        if not query.cancelled():
            query.exception()  # its caller may have gone

    # -- idempotency keys ------------------------------------------------------------------

    async def claim(self, scope: str, key: str, value: bytes, *, ttl: float) -> bytes | None:
        check_text(scope, key)
        self._claims += 1
        if self._claims % _EXPIRED_EVERY == 1:
            await self._ask(self._side, lambda db: reader.forget_expired(db, _EXPIRED_ROWS))
        return await self._ask(self._side, lambda db: reader.claim(db, scope, key, value, ttl))

    async def lookup(self, scope: str, key: str) -> bytes | None:
        check_text(scope, key)
        return await self._ask(self._readers, lambda db: reader.lookup(db, scope, key))

    async def release(self, scope: str, key: str) -> None:
        check_text(scope, key)
        await self._ask(self._side, lambda db: reader.release(db, scope, key))
