"""Connections to the log's database: how they are made, what their failures mean, and what a new
one must prove before anything is read or written by it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import asyncpg

from ...postgres_errors import ERRORS, reason_of
from ..base import LogError, LogUnavailable, StaleWriter
from .schema import SCHEMA, Server, create_or_check, look_at, new_epoch

T = TypeVar("T")
#: Seconds in which a connection must be there, its proof included.
_CONNECT_SECONDS = 5.0
#: Seconds between two tries to connect.
RETRY_SECONDS = 0.2

_SETTINGS = {
    "search_path": SCHEMA,
    # The statements are few and long: each is planned once. Every one reads by index probes; the
    # planner, which knows nothing of a new table, is told so.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    # A process that is stopped in the midst of a transaction holds no other node up for longer.
    "idle_in_transaction_session_timeout": "3s",
    # A connection whose other end is gone: its server lets go of its locks (seconds, ms).
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "3",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
_START = {"search_path": SCHEMA, "application_name": "resonantgenesis/start"}
_JOIN = """
WITH n AS (INSERT INTO nodes ({id}name, address, version) {value} $2, $3) RETURNING id),
w AS (INSERT INTO writers (node) SELECT id FROM n),
b AS (INSERT INTO beats (node) SELECT id FROM n),
s AS (
  INSERT INTO streams (id, name, owner)
  SELECT nextval('stream_numbers'), convert_to('outbox:' || id, 'UTF8'), id FROM n
  RETURNING id, owner
), o AS (INSERT INTO outboxes (node, stream) SELECT owner, id FROM s)
SELECT id FROM n
"""
JOIN = _JOIN.format(id="", value="VALUES ($1,")
JOIN_AS = _JOIN.format(id="id, ", value="OVERRIDING SYSTEM VALUE VALUES ($4, $1,")
BEAT = "UPDATE beats SET beat=beat+1 WHERE node=$1"
PROOF = """
SELECT generation, alive, committed, at, (SELECT value FROM meta WHERE name='epoch') AS epoch,
  (SELECT value FROM meta WHERE name='history') AS history
FROM writers WHERE node=$1
"""


class HistoryLost(LogUnavailable):
    """The database no longer has what it had acknowledged; positions mean other entries now."""


@dataclass(slots=True)
class Standing:
    """What the database says of this node."""

    generation: int
    committed: int
    at: int


class Database:
    """The database that a log lives in, and the node that this process is in it."""

    def __init__(self, url: str, label: str = "") -> None:
        """`label`: which of several databases this is, for people."""
        self._url = url
        self.label = label
        self.node = 0
        self.epoch = ""
        self.server = Server("", "", (), "")
        self._commit = "on"
        #: The number of the last group whose commit was told to somebody.
        self.acknowledged = 0
        #: Why this node can write no more.
        self._over: LogError | None = None
        #: Called when a connection finds that this node can write no more.
        self.ended: Callable[[LogError], None] = lambda _error: None

    @property
    def words(self) -> str:
        """This database, in words."""
        return self.label or "the database"

    async def open(self, *, name: str, address: str, version: str, node: int | None = None) -> None:
        """Create or check the store and join as a new node: in one of several databases as the one
        that the first database has numbered `node`.

        Raises LogUnavailable with one line, or StoreIsNewer.
        """
        try:
            async with asyncio.timeout(_CONNECT_SECONDS * 6):
                db = await self._first_connection()
                try:
                    self.server = await look_at(db)
                    if self.server.commit == "remote_apply":
                        self._commit = "remote_apply"
                    self.epoch = await create_or_check(
                        db, SCHEMA, self.server.history, is_one_of_several=bool(self.label)
                    )
                    said = name, address, version
                    if node is None:
                        self.node = await db.fetchval(JOIN, *said)
                    else:
                        self.node = await db.fetchval(JOIN_AS, *said, node)
                    await db.close()
                finally:
                    db.terminate()
        except LogError:
            raise
        except ERRORS as error:
            raise unavailable(error) from error

    async def _first_connection(self) -> asyncpg.Connection:
        try:
            return await asyncpg.connect(
                self._url, target_session_attrs="read-write", server_settings=_START
            )
        except ValueError as error:
            raise LogUnavailable("the database's URL cannot be understood") from error

    async def connect(self, purpose: str) -> tuple[asyncpg.Connection, Standing]:
        """A connection that has proved itself. Raises what asyncpg raises, and as `prove`."""
        db = await self._connect(purpose)
        try:
            return db, await self.prove(db)
        except BaseException:
            db.terminate()
            raise

    async def pool(self, size: int, purpose: str) -> asyncpg.Pool:
        """Raises LogUnavailable and StaleWriter."""

        async def prove(db: asyncpg.Connection) -> None:
            await self.prove(db)

        try:
            return await asyncpg.create_pool(
                self._url,
                min_size=0,
                max_size=size,
                init=prove,
                reset=_as_it_is,
                **self._how(purpose),
            )
        except ERRORS as error:
            raise unavailable(error) from error

    async def prove(self, db: asyncpg.Connection) -> Standing:
        """A barrier, and a look whether this is still the history that is known.

        A database that was started anew may show commits that its standby never got, and a
        standby that was promoted may lack commits. So a write of one's own comes first: when it
        is confirmed, so is everything that is visible.

        Raises HistoryLost, and StaleWriter if this node was declared dead.
        """
        self._check_not_over()
        acknowledged = self.acknowledged
        async with asyncio.timeout(_CONNECT_SECONDS):
            await db.execute(BEAT, self.node)
            row = await db.fetchrow(PROOF, self.node)
            lost = row is None or row["committed"] < acknowledged
            server = await look_at(db)
            self._check_not_over()  # another connection may have found out meanwhile
            if lost or row["epoch"] != self.epoch:
                if lost:
                    epoch = await new_epoch(db, self.epoch, server.history)
                else:
                    epoch = await db.fetchval("SELECT value FROM meta WHERE name='epoch'")
                raise self.lost(epoch)
            if not row["alive"]:
                raise self._end(StaleWriter("this node was declared dead"))
            if server.history != row["history"] and server.history:
                # Another history, which has all that was acknowledged to us.
                await db.execute(
                    "UPDATE meta SET value=$1 WHERE name='history' AND value=$2",
                    server.history,
                    row["history"],
                )
            self.server = server
        return Standing(row["generation"], row["committed"], row["at"])

    def _check_not_over(self) -> None:
        if self._over is not None:  # another look would give the store yet another epoch
            raise self._over

    async def leave(self) -> None:
        """Say that this node writes no more. Nothing depends on it; it saves others a wait."""
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                db = await self._connect("leave")
                try:
                    await db.execute("UPDATE writers SET alive=false WHERE node=$1", self.node)
                    await db.execute("DELETE FROM taken WHERE node=$1", self.node)
                    await db.close()
                finally:
                    db.terminate()
        except ERRORS:
            return

    def lost(self, epoch: str) -> LogError:
        """What to raise where the store has another epoch, this one: somebody has found that the
        database lost what it had acknowledged. All that this process remembers may be wrong."""
        self.epoch = epoch
        return self._end(HistoryLost("the database has lost what it had acknowledged"))

    def _end(self, error: LogError) -> LogError:
        self._over = self._over or error
        self.ended(error)
        return error

    async def _connect(self, purpose: str) -> asyncpg.Connection:
        return await asyncpg.connect(self._url, **self._how(purpose))

    def _how(self, purpose: str) -> dict[str, object]:
        return {
            "timeout": _CONNECT_SECONDS,
            "target_session_attrs": "read-write",
            "server_settings": {
                **_SETTINGS,
                "application_name": f"resonantgenesis/{self.node}/{purpose}",
                # A weaker word in the settings of the server or the role does not weaken it.
                "synchronous_commit": self._commit,
            },
        }


async def _as_it_is(_db: asyncpg.Connection) -> None:
    """Nothing of what the log does changes a connection; a pool need not put it right."""


def unavailable(error: BaseException) -> LogUnavailable:
    """One line for people; the driver's own words are in the exception's cause."""
    made = LogUnavailable(reason_of(error))
    made.__cause__ = error
    return made


def is_lost(error: BaseException) -> bool:
    """Whether the way to the database is broken, and a new connection may do better."""
    if isinstance(error, ValueError):  # a mistake in what was asked
        return False
    return isinstance(
        error,
        (
            OSError,
            TimeoutError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
            asyncpg.PostgresConnectionError,
            asyncpg.OperatorInterventionError,
            asyncpg.TooManyConnectionsError,
            asyncpg.ReadOnlySQLTransactionError,
            asyncpg.IdleInTransactionSessionTimeoutError,
        ),
    )


async def until_answered(
    ask: Callable[[], Awaitable[T]], seconds: float, stopped: Callable[[], bool]
) -> T:
    """Ask again while the database is away, for so many seconds; to be used for what may be done
    twice. Raises LogUnavailable."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        try:
            return await ask()
        except LogError:
            raise
        except ERRORS as error:
            if stopped() or not is_lost(error) or loop.time() >= deadline:
                raise unavailable(error) from error
        await asyncio.sleep(RETRY_SECONDS)
