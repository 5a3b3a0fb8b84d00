"""The nodes of one database: who lives, who runs a session, and what they tell each other.

A node beats: it counts up a row of its own. Every node looks at all beats, and notes by its own
monotonic clock since when each stands still. A beat that stands still for the time to live, over
several looks that succeeded, is a dead node's: its row in `writers` is cleared, which waits for
its commit under way and stops its next one. So no wall clock is asked, an outage of the database
makes nobody late, and a node that was only paused finds that it can write nothing any more. If
the end of a node's process is known, nobody waits: see `ended`.

Messages go through a table that a crash of the database may empty, and a notification: whoever
sends one waits for an answer, and asks anew without. So nodes need to reach the database alone.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import asyncpg
import structlog

from ... import metrics
from ...background import Background, Backoff
from ...postgres_errors import ERRORS
from ..base import LogError, StaleWriter, mark
from ..shared import Runner
from .connection import Database, HistoryLost, unavailable

log_ = structlog.get_logger("resonantgenesis.nodes")

#: Looks at a beat that stands still before its node is declared dead, besides the time to live.
_LOOKS = 5
#: Seconds that one statement may take.
_SECONDS = 5.0
#: Seconds between two removals of what dead nodes leave behind.
_CLEAN_SECONDS = 60.0
#: The channel of all notifications: `at NODE MARK …` (committed to these streams; `*`: to many),
#: `in NODE NAME …` (it has sequenced entries of these streams, in hexadecimal; `*`: of many),
#: `took NODE …` (streams were taken from it), `to NODE …` (a message for it).
CHANNEL = "resonantgenesis"

BEAT = """
WITH mine AS (UPDATE beats SET beat=beat+1 WHERE node=$1)
SELECT w.node, b.beat, w.generation, n.name, n.address, n.version,
  (SELECT value FROM meta WHERE name='epoch') AS epoch
FROM writers w JOIN beats b ON b.node=w.node JOIN nodes n ON n.id=w.node WHERE w.alive
"""
END_CONNECTIONS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name LIKE 'resonantgenesis/' || $1::text || '/%' AND pid <> pg_backend_pid()
AND datname = current_database()
"""
DECLARE = """
UPDATE writers w SET alive=false, generation=generation+1
WHERE w.node=$1 AND w.alive AND EXISTS (SELECT 1 FROM beats b WHERE b.node=$1 AND b.beat=$2)
RETURNING 1
"""
RUNNER = """
SELECT f.node, w.alive, s.fence, s.pending, coalesce(
  (SELECT position FROM entries WHERE stream=s.id ORDER BY position DESC LIMIT 1), s.head
) AS head FROM streams s
LEFT JOIN fences f ON f.fence=s.fence LEFT JOIN writers w ON w.node=f.node WHERE s.name=$1
"""
ORPHANS = """
SELECT s.name FROM streams s LEFT JOIN fences f ON f.fence=s.fence
LEFT JOIN writers w ON w.node=f.node
WHERE s.pending AND NOT coalesce(w.alive, false) ORDER BY s.id LIMIT $1
"""
# The table's own sequence is as unlogged as the table, and is damaged after a failover (PostgreSQL
# from 15 on). Numbers of another one are unique too, moved away from those of older versions.
SEND = """
WITH sent AS (
  INSERT INTO messages (id, node, body) OVERRIDING SYSTEM VALUE
  SELECT nextval('stream_numbers') - 4611686018427387904, node, $2
  FROM unnest($1::bigint[]) node RETURNING node
)
SELECT pg_notify('resonantgenesis', 'to ' || string_agg(node::text, ' ')) FROM sent
"""
RECEIVE = "DELETE FROM messages WHERE node=$1 RETURNING id, body"
# The rows in `writers` stay: they tell a process that was only stopped that it is dead.
CLEAN = """
WITH dead AS (
  SELECT b.node FROM beats b LEFT JOIN LATERAL (
    SELECT alive FROM writers WHERE node=b.node LIMIT 1
  ) w ON true WHERE NOT w.alive LIMIT 50
), unread AS (DELETE FROM messages USING dead WHERE messages.node=dead.node),
unforgotten AS (DELETE FROM taken USING dead WHERE taken.node=dead.node)
DELETE FROM beats USING dead WHERE beats.node=dead.node
"""


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node that lives. `address` and `version` are what it says of itself."""

    id: int
    name: str
    address: str
    version: str


class _Beat:
    """A node's beat as this one has seen it: since when it stands still, and for how many looks."""

    __slots__ = ("beat", "looks", "since")

    def __init__(self, beat: int, now: float) -> None:
        self.beat, self.since, self.looks = beat, now, 0

    def see(self, beat: int, now: float) -> None:
        if beat != self.beat:
            self.beat, self.since, self.looks = beat, now, 0
        else:
            self.looks += 1


class Nodes:
    """This node among the others, from `start` to `close`. Lives on the event loop."""

    def __init__(
        self,
        database: Database,
        side: asyncpg.Pool,
        *,
        beat_seconds: float = 1.0,
        ttl: float = 10.0,
    ) -> None:
        """`side`: connections for questions and messages. Times are in seconds."""
        self._database = database
        self._side = side
        self._beat_seconds = beat_seconds
        self._ttl = ttl
        self._loop = Background("nodes", self._run)
        self._beats: dict[int, _Beat] = {}
        #: Nodes whose process has ended, until a look finds that they live no more.
        self._known_dead: set[int] = set()
        self._db: asyncpg.Connection | None = None
        self._is_to_look = True
        #: Wakes, at the end of each look, who waits for it.
        self._look_over = asyncio.Event()
        #: The beats of the first look; None: it is still to come.
        self._looked: dict[int, int] | None = None
        #: The other nodes that live, by number, as of the last look.
        self.others: dict[int, NodeInfo] = {}
        #: Whether notices of other nodes arrive.
        self.gets_notices = False
        #: Called with the marks of streams that another node has committed to; None: with any.
        self.on_notice: Callable[[Sequence[int] | None], None] = lambda _marks: None
        #: Called with each message to this node.
        self.on_message: Callable[[bytes], None] = lambda _body: None
        #: Called when a look has found that streams were taken from this node.
        self.on_generation: Callable[[], None] = lambda: None
        #: Called after each look, before this node's beat can show others that there was one.
        self.on_look: Callable[[], None] = lambda: None
        #: Called after a look that found a node gone that lived before.
        self.on_gone: Callable[[], None] = lambda: None
        #: Whether a node must be declared dead although it beats.
        self.is_condemned: Callable[[int], bool] = lambda _node: False
        self._generation = 0
        self._beaten = asyncio.get_running_loop().time()

    @property
    def id(self) -> int:
        """The number of this node."""
        return self._database.node

    def last_seen(self, node: int) -> float:
        """Seconds since this node's beat was seen to move; of this node itself, since it beat."""
        beat = self._beats.get(node)
        since = self._beaten if node == self.id or beat is None else beat.since
        return asyncio.get_running_loop().time() - since

    @property
    def ttl(self) -> float:
        """Seconds for which a beat may stand still."""
        return self._ttl

    @property
    def is_late(self) -> bool:
        """Whether this node has not beaten for half of the time after which others take it for
        dead."""
        return self.last_seen(self.id) > self._ttl / 2

    def start(self) -> None:
        self._loop.start()

    async def close(self) -> None:
        await self._loop.close()
        self._drop()

    def ended(self, node: int) -> None:
        """Declare this node dead at once. Its process has ended, as only its parent can know."""
        self._known_dead.add(node)
        self._is_to_look = True
        self._loop.wake()

    async def looked(self) -> None:
        """Return once this node has seen the others."""
        if self._looked is None:
            await self._look_over.wait()

    async def seen(self) -> None:
        """Return once every other node that lives has looked since this one joined."""
        await self.looked()
        # A beat goes with a look. The first one may have been under way when this node joined.
        first = dict(self._looked or {})
        while any(
            node in self._beats and self._beats[node].beat < beat + 2
            for node, beat in first.items()
        ):
            await self._look_over.wait()

    # -- beats and verdicts ----------------------------------------------------------------

    async def _run(self) -> None:
        loop, backoff = asyncio.get_running_loop(), Backoff(0.2, self._beat_seconds)
        next_beat = next_clean = 0.0
        while True:
            try:
                if self._db is None:
                    self._db = await self._connect()
                if self._is_to_look or loop.time() >= next_beat:
                    next_beat = loop.time() + self._beat_seconds
                    self._is_to_look = False
                    await self._look(self._db)
                await self._receive(self._db)
                if loop.time() >= next_clean:
                    next_clean = loop.time() + _CLEAN_SECONDS
                    await self._db.execute(CLEAN, timeout=_SECONDS)
                backoff.succeeded()
                next_beat = min(next_beat, self._next_verdict(loop.time()))
                await self._loop.woken(max(0.0, next_beat - loop.time()))
            except (StaleWriter, HistoryLost):
                return  # the writer says so, and ends the process
            except (LogError, *ERRORS) as error:
                if isinstance(error, ValueError):
                    metrics.defect("log")
                    log_.error("the nodes could not be looked at", exc_info=error)
                self._drop()
                await asyncio.sleep(backoff.failed())

    async def _look(self, db: asyncpg.Connection) -> None:
        """Beat, and see who else does. Raises StaleWriter, HistoryLost, and what
        asyncpg raises."""
        rows = await db.fetch(BEAT, self.id, timeout=_SECONDS)
        now = asyncio.get_running_loop().time()
        living = {row["node"]: row for row in rows}
        mine = living.pop(self.id, None)
        if mine is None:
            raise StaleWriter("this node was declared dead")
        if mine["epoch"] != self._database.epoch:
            raise self._database.lost(mine["epoch"])
        self._beaten = now
        if mine["generation"] != self._generation:
            self._generation = mine["generation"]
            self.on_generation()
        for node, row in living.items():
            if (beat := self._beats.get(node)) is None:
                self._beats[node] = _Beat(row["beat"], now)
            else:
                beat.see(row["beat"], now)
        dead = {
            node: f"its beat stood still for {self._ttl:g} s"
            for node, beat in self._beats.items()
            if beat.looks >= _LOOKS and now - beat.since >= self._ttl
        } | dict.fromkeys(self._known_dead, "its process has ended")
        missed = [node for node in living if self.is_condemned(node)]
        dead |= dict.fromkeys(missed, "it is dead in another database")
        for node in dead.keys() & living.keys():
            if await self._declare(db, node, self._beats[node].beat, dead[node]):
                del living[node]
        self._known_dead &= living.keys()
        self._beats = {node: beat for node, beat in self._beats.items() if node in living}
        if self._looked is None:
            self._looked = {node: beat.beat for node, beat in self._beats.items()}
        gone = self.others.keys() - living.keys()
        self.others = {
            node: NodeInfo(node, row["name"], row["address"], row["version"])
            for node, row in living.items()
        }
        self.on_look()
        self._look_over.set()
        self._look_over.clear()
        if gone:
            self.on_gone()

    def _next_verdict(self, now: float) -> float:
        """When the next node is dead, if its beat goes on standing still."""
        due = [beat.since + self._ttl for beat in self._beats.values()]
        return min((each for each in due if each > now), default=math.inf)

    async def _declare(self, db: asyncpg.Connection, node: int, beat: int, reason: str) -> bool:
        """Whether this node's word is the one that counts; after it nothing of the dead node's is
        ever written."""
        # A process that is stopped in the midst of a transaction keeps its locks.
        try:
            await db.fetchval(END_CONNECTIONS, str(node), timeout=_SECONDS)
        except asyncpg.InsufficientPrivilegeError:
            log_.warning("the database's user may not end the connections of a dead node")
        if not await db.fetchval(DECLARE, node, beat, timeout=self._ttl + _SECONDS):
            return False
        log_.error("a node is dead", node=node, reason=reason)
        return True

    async def _connect(self) -> asyncpg.Connection:
        db, standing = await self._database.connect("nodes")
        self._generation = standing.generation
        self.on_generation()
        db.add_termination_listener(self._ended)
        await db.add_listener(CHANNEL, self._hear)
        self.gets_notices = True
        self.on_notice(None)  # no notice came of earlier commits
        return db

    def _ended(self, db: object) -> None:
        if db is self._db:
            self.reconnect()

    def reconnect(self) -> None:
        """Give the connection up for another one."""
        self._drop()
        self._loop.wake()

    def _drop(self) -> None:
        self.gets_notices = False
        if self._db is not None:
            self._db.terminate()
            self._db = None

    # -- what others tell ------------------------------------------------------------------

    def _hear(self, _db: object, _pid: int, _channel: str, payload: object) -> None:
        words = str(payload).split(" ")
        try:
            if words[0] in ("to", "took"):
                if str(self.id) in words[1:]:
                    self._is_to_look = self._is_to_look or words[0] == "took"
                    self._loop.wake()
            elif words[1] == str(self.id):
                return
            elif words[0] == "in" and words[2:] != ["*"]:
                self.on_notice([mark(bytes.fromhex(word).decode()) for word in words[2:]])
            else:
                self.on_notice(None if words[2:] == ["*"] else [int(w, 16) for w in words[2:]])
        except (IndexError, ValueError):
            self.on_notice(None)  # another version's words

    async def _receive(self, db: asyncpg.Connection) -> None:
        rows = await db.fetch(RECEIVE, self.id, timeout=_SECONDS)
        for row in sorted(rows, key=lambda row: int(row["id"])):
            self.on_message(row["body"])

    # -- asked -----------------------------------------------------------------------------

    async def send(self, nodes: Sequence[int], body: bytes) -> None:
        """Give a message to nodes. Raises LogUnavailable."""
        await self._ask(SEND, list(nodes), body)

    async def runner(self, stream: str) -> Runner | None:
        """Who took this stream up last; None: there is no such stream. Raises LogUnavailable."""
        for row in await self._ask(RUNNER, stream.encode()):
            alive = bool(row["alive"])
            return Runner(row["fence"], row["node"], alive, row["pending"], row["head"])
        return None

    async def orphans(self, limit: int) -> list[str]:
        """Pending streams whose node is dead. Raises LogUnavailable."""
        return [row["name"].decode() for row in await self._ask(ORPHANS, limit)]

    async def _ask(self, statement: str, *args: object) -> list[asyncpg.Record]:
        try:
            rows: list[asyncpg.Record] = await self._side.fetch(statement, *args, timeout=_SECONDS)
        except ERRORS as error:
            raise unavailable(error) from error
        return rows
