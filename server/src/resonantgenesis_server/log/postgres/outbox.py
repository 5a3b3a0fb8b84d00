"""Streams that many nodes append to all the time: how each stays one order, and nobody waits.

A node that appends to a stream owns it. If several nodes did so to one stream, each would rob the
others all the time, and every robbery stops a node's commit under way. So while other nodes live,
entries for a *shared* stream become entries of the node's own stream `outbox:NODE`, in the same
commit as the rest of their call. Then one of the nodes *sequences*: in one transaction it gives all
that waits in the outboxes its positions, in the order of the dates at which it was committed, and
notes how far it has come in each outbox. Nobody owns a shared stream then.

- Every node may sequence, also two at once: one waits for the other, and finds what is left. The
  node that leads does it moments after a commit. Others do it where that did not happen, or when
  somebody reads a shared stream: whoever has seen one part of a call finds the other.
- A dead node's outbox is sequenced like any other. Nothing is lost with it, since what it has
  committed lies in the database.
- The dates are of one clock, the database's. So entries of a session that has moved to another node
  keep their order.
- Where a store is spread over several databases, an outbox also holds what is for streams of
  others. What waits is placed there first, and then the outbox's place is noted. A process that
  dies in between leaves it to be placed again, which the entries' keys make harmless.

A node that is alone appends to shared streams directly. It begins with that once nothing waits in
any outbox, and ends with it when a look finds another node, which does no work before that look;
see `Nodes.seen`. At each of the two changes calls wait until those before them are committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import asyncpg
import structlog

from ... import metrics
from ...background import Background
from ..base import Append, Entry, LogError, LogUnavailable, NewEntry
from ..queue import Job

log_ = structlog.get_logger("resonantgenesis.log")

#: In one transaction of the sequencer: entries, and about so many bytes.
_ENTRIES, _BYTES = 500, 4 * 1024 * 1024
#: Seconds from a commit to its sequencing: by the node that leads, which so takes what others
#: commit meanwhile along, and by every other node if it has not happened.
_GATHER, _LATE = 0.008, 0.15
#: Seconds between two looks whether something waits, whatever notices say.
_POLL = 1.0
#: Seconds that a reader waits for the sequencer.
_PATIENCE = 10.0
#: Seconds that a change between the two ways may hold calls up before it is given up.
_CHANGE_SECONDS = 5.0
#: Sequenced entries of an outbox after which they are removed.
_TRIM_AFTER = 5_000
_SECONDS = 30.0

SEQUENCE = "SELECT * FROM sequence_outboxes($1, $2, $3)"
LOCK = "SELECT 1 FROM meta WHERE name='sequencer' FOR NO KEY UPDATE"
TAKE = "SELECT * FROM waiting_entries($1, $2) ORDER BY n"
PLACE = "SELECT * FROM place_entries($1, $2, $3, $4, $5, $6)"
ADVANCE = "SELECT 1 FROM advance_outboxes($1, $2)"
WAITING = """
SELECT 1 FROM outboxes o JOIN LATERAL (
  SELECT 1 FROM entries WHERE stream=o.stream AND position>o.place LIMIT 1
) e ON true LIMIT 1
"""
# The last one stays, since it tells where the outbox ends.
TRIM = """
WITH due AS (
  SELECT node, stream, trimmed, place FROM outboxes WHERE place - trimmed > $1 ORDER BY node
  FOR NO KEY UPDATE
), gone AS (
  DELETE FROM entries e USING due WHERE e.stream=due.stream AND e.position >= due.trimmed
    AND e.position < due.place
)
UPDATE outboxes o SET trimmed=due.place FROM due WHERE o.node=due.node
"""
# Of nodes that live no more, when nothing waits.
FORGET = """
WITH old AS (
  SELECT o.node, o.stream FROM outboxes o
  WHERE NOT EXISTS (SELECT 1 FROM writers w WHERE w.node=o.node AND w.alive)
    AND NOT EXISTS (SELECT 1 FROM entries e WHERE e.stream=o.stream AND e.position>o.place)
), gone AS (DELETE FROM streams s USING old WHERE s.id=old.stream),
left_over AS (INSERT INTO removed SELECT stream FROM old ON CONFLICT DO NOTHING)
DELETE FROM outboxes o USING old WHERE o.node=old.node
"""
PLACES = """
SELECT s.name, e.position, e.kind, e.body, e.at
FROM unnest($1::bytea[], $2::bytea[]) AS u(name, key)
JOIN streams s ON s.name=u.name JOIN LATERAL (
  SELECT position, kind, body, at FROM entries WHERE stream=s.id AND key=u.key LIMIT 1
) e ON true
"""

#: Asks the database; again while it is away.
Ask = Callable[[Callable[[asyncpg.Connection], Awaitable[Any]]], Awaitable[Any]]
Rows = Sequence[asyncpg.Record]
#: Gives waiting entries their positions, each in the database of its stream. What has its position
#: already gets no other.
Place = Callable[[Rows], Awaitable[None]]


def outbox_of(node: int) -> str:
    return f"outbox:{node}"


def wrapped(stream: str, entry: NewEntry) -> NewEntry:
    """An entry of an outbox; see `sequence_outboxes`. The entry has a key."""
    kind, body, key = entry
    name, encoded = stream.encode(), (key or "").encode()
    lengths = len(name).to_bytes(3, "big") + len(encoded).to_bytes(3, "big")
    return NewEntry(kind, lengths + name + encoded + body)


def entries_of(rows: Rows) -> list[tuple[str, list[Entry]]]:
    """Rows in the order of their streams and positions, as what is announced."""
    return [
        (name.decode(), [Entry(r[1], r[2].decode(), r[3], r[4]) for r in each])
        for name, each in groupby(rows, itemgetter("name"))
    ]


async def carry(db: asyncpg.Connection, place: Place) -> tuple[int, int]:
    """Have the oldest entries of this database's outboxes placed; how many, and their bytes. Raises
    what asyncpg and `place` raise."""
    async with db.transaction():
        await db.execute(LOCK, timeout=_SECONDS)
        rows = await db.fetch(TAKE, _ENTRIES, _BYTES, timeout=_SECONDS)
        if rows:
            await place(rows)
            nodes, places = [row["node"] for row in rows], [row["place"] for row in rows]
            await db.execute(ADVANCE, nodes, places, timeout=_SECONDS)
    return len(rows), sum(row["size"] for row in rows)


async def place_here(db: asyncpg.Connection, node: int, rows: Rows) -> Rows:
    """Give the waiting entries `rows` positions in this database; those that are new."""
    columns = [[row[name] for row in rows] for name in ("name", "key", "kind", "body", "at")]
    placed: Rows = await db.fetch(PLACE, node, *columns, timeout=_SECONDS)
    return placed


class Sequencer:
    """Gives what waits in the outboxes its positions. One task, from `start` to `close`."""

    def __init__(
        self,
        node: int,
        ask: Ask,
        announce: Callable[[str, list[Entry]], None],
        leads: Callable[[], bool],
        place: Place | None = None,
    ) -> None:
        """`place`: where entries may be for streams of another database."""
        self._node = node
        self._ask = ask
        self._announce = announce
        self._leads = leads
        self._place = place
        self._loop = Background("sequencer", self._run)
        #: Who waits for a round that begins from now on.
        self._waiters: list[asyncio.Future[None]] = []
        self._due = 0.0
        self._count = 0

    def start(self) -> None:
        self._due = asyncio.get_running_loop().time() + _POLL
        self._loop.start()

    async def close(self) -> None:
        await self._loop.close()
        self._resolve(self._waiters, LogUnavailable("the log is shut down"))

    def soon(self) -> None:
        """Something waits now, of this node or another."""
        due = asyncio.get_running_loop().time() + (_GATHER if self._leads() else _LATE)
        if due < self._due:
            self._due = due
            self._loop.wake()

    async def caught_up(self) -> None:
        """Return once all that any node had committed before the call has its position.

        Raises LogUnavailable."""
        if not await self._ask(lambda db: db.fetchval(WAITING, timeout=_SECONDS)):
            return
        if not self._loop.running:
            raise LogUnavailable("the log is shut down")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._loop.wake()
        try:
            async with asyncio.timeout(_PATIENCE):
                await waiter
        except TimeoutError:
            raise LogUnavailable("entries of this stream are not in their order yet") from None

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._waiters and (left := self._due - loop.time()) > 0:
                await self._loop.woken(left)
            self._due = loop.time() + _POLL
            waiters, self._waiters = self._waiters, []
            error: LogError | None = None
            try:
                if waiters or await self._ask(lambda db: db.fetchval(WAITING, timeout=_SECONDS)):
                    await self._sequence()
            except LogError as unavailable:
                error = unavailable
            except Exception as defect:
                metrics.defect("log")
                log_.error("the sequencer failed internally", exc_info=defect)
                error = LogUnavailable("the log failed internally")
            self._resolve(waiters, error)

    async def _sequence(self) -> None:
        """Until nothing waits that waited when this began."""
        while True:
            try:
                count, size = await self._round()
            except LogError as error:
                retried = asyncpg.SerializationError, asyncpg.DeadlockDetectedError
                if not isinstance(error.__cause__, retried):
                    raise
                continue
            self._count += count
            if self._count >= _TRIM_AFTER:
                self._count = 0
                await self._ask(lambda db: db.execute(TRIM, _TRIM_AFTER // 2, timeout=_SECONDS))
            if count < _ENTRIES and size < _BYTES:
                return

    async def _round(self) -> tuple[int, int]:
        """How many entries have got their positions, and their bytes."""
        place = self._place
        if place is not None:
            count, size = await self._ask(lambda db: carry(db, place))
            return count, size
        *rows, last = await self._ask(
            lambda db: db.fetch(SEQUENCE, self._node, _ENTRIES, _BYTES, timeout=_SECONDS)
        )
        for stream, entries in entries_of(rows):
            self._announce(stream, entries)
        return last["position"], last["at"]

    @staticmethod
    def _resolve(waiters: list[asyncio.Future[None]], error: LogError | None) -> None:
        for waiter in waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)


class Outbox:
    """Decides by which way each job's appends to shared streams go; see the module."""

    def __init__(
        self,
        node: int,
        sequencer: Sequencer,
        ask: Ask,
        put: Callable[[Job], None],
        announce: Callable[[str, list[Entry]], None],
        is_shared: Callable[[str], bool],
        is_alone: Callable[[], bool],
    ) -> None:
        self.name = outbox_of(node)
        self._sequencer = sequencer
        self._ask = ask
        self._put = put
        self._announce = announce
        self.is_shared = is_shared
        self._is_alone = is_alone
        #: Whether shared streams are appended to directly.
        self._is_direct = False
        #: Jobs that wait for a change of that; None: nothing does.
        self._held: list[Job] | None = None
        self._change: asyncio.Task[None] | None = None
        #: Jobs with appends to shared streams that are not committed yet.
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._answers: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """From now on nothing is held up, and nothing changes."""
        if self._change is not None:
            self._change.cancel()
            await asyncio.wait({self._change})
        self._release()

    async def answered(self, timeout: float) -> None:
        """Wait for the answers of calls that are committed."""
        if self._answers:
            await asyncio.wait(self._answers, timeout=timeout)

    # -- which way -------------------------------------------------------------------------

    def looked(self) -> None:
        """This node has looked at who lives. Another one that has joined counts from now on."""
        if self._is_alone() == self._is_direct or self._changing:
            return
        if self._is_direct:
            self._held = []
        self._change = asyncio.create_task(self._change_way(), name="log-outbox")

    @property
    def _changing(self) -> bool:
        return self._change is not None and not self._change.done()

    async def settled(self) -> None:
        """Return once a change of ways that is under way has ended."""
        if self._change is not None:
            await asyncio.wait({self._change})

    async def _change_way(self) -> None:
        try:
            if self._is_direct:
                await self._idle.wait()
                self._is_direct = False
                return
            await self._sequencer.caught_up()
            self._held = []
            async with asyncio.timeout(_CHANGE_SECONDS):
                await self._idle.wait()
                await self._sequencer.caught_up()
            self._is_direct = self._is_alone()
        except (LogError, TimeoutError):
            return  # the next look tries anew
        finally:
            self._release()

    def _release(self) -> None:
        held, self._held = self._held, None
        for job in held or ():
            self.submit(job)

    async def before_read(self, *streams: str) -> None:
        """Return once these streams show what belongs to anything that was seen. Raises
        LogUnavailable."""
        if (not self._is_direct or self._held is not None) and any(map(self.is_shared, streams)):
            await self._sequencer.caught_up()

    # -- jobs ------------------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        if self._held is not None:
            self._held.append(job)
            return
        for append in job.appends:
            if self.is_shared(append.stream):
                self._count(job)
                if not self._is_direct:
                    self._redirect(job)
                break
        self._put(job)

    def _count(self, job: Job) -> None:
        self._under_way += 1
        self._idle.clear()
        inner = job.outcome

        def outcome(result: Any, error: Exception | None) -> None:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()
            inner(result, error)

        job.outcome = outcome

    def _redirect(self, job: Job) -> None:
        """What is for shared streams goes into the outbox. The call's answer waits for its
        positions only if it is about shared streams alone."""
        moved = [append for append in job.appends if self._is_movable(append)]
        if not moved:
            return
        appends, inner = job.appends, job.outcome
        kept = [append for append in appends if not self._is_movable(append)]
        entries = [wrapped(append.stream, entry) for append in moved for entry in append.entries]
        job.appends = [*kept, Append(self.name, entries)]

        def outcome(result: Any, error: Exception | None) -> None:
            if error is None and not kept:
                self._answer(moved, result if job.work is not None else None, inner)
            elif error is None:
                positions = iter(result)
                inner([0 if a in moved else next(positions) for a in appends], None)
            else:
                inner(result, error)

        job.outcome = outcome

    def _is_movable(self, append: Append) -> bool:
        stream, entries, fence, expect, close, pending = append
        return (
            self.is_shared(stream)
            and fence is None
            and expect is None
            and not close
            and pending is None
            and not any(key is None for _, _, key in entries)
        )

    def _answer(
        self, moved: list[Append], result: Any, outcome: Callable[[Any, Exception | None], None]
    ) -> None:
        """Give the positions, or the work's result, once all is in its place and announced."""

        async def answer() -> None:
            try:
                await self._sequencer.caught_up()
                positions = await self._places(moved, announced=result is None)
            except LogError as error:
                # It is committed; whoever repeats it, by its keys, doubles nothing.
                outcome(result, error if result is None else None)
            else:
                outcome(positions if result is None else result, None)

        task = asyncio.create_task(answer(), name="log-outbox-answer")
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _places(self, moved: list[Append], *, announced: bool) -> list[int]:
        """Of each append the position of its last entry; 0 without entries. Announces them where
        another node may have done so alone."""
        pairs = [
            (append.stream.encode(), (key or "").encode())
            for append in moved
            for _, _, key in append.entries
        ]
        names, keys = [name for name, _ in pairs], [key for _, key in pairs]
        rows = await self._ask(lambda db: db.fetch(PLACES, names, keys, timeout=_SECONDS))
        last: dict[str, int] = {}
        for stream, entries in entries_of(sorted(rows, key=itemgetter("name", "position"))):
            last[stream] = entries[-1].position
            if not announced:
                self._announce(stream, entries)
        return [last.get(append.stream, 0) for append in moved]
