"""The connection pool and transactions; no exception of a driver leaves this module."""

from __future__ import annotations

import asyncio
import importlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import orjson
import structlog
from sqlalchemy import URL, event, func, make_url, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    NoSuchModuleError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from .. import metrics
from ..datadir.wal import lost_commits
from ..model.extras import how_to_install
from .base import StoreUnusable

log_ = structlog.get_logger("resonantgenesis.records")

#: Seconds of waiting for the lock of another process, and for a free connection.
BUSY_TIMEOUT = 5.0
POOL_SIZE = 5
#: Seconds that a node waits for others that make or upgrade the store, and between two tries.
_EXCLUSIVE, _RETRY = 120.0, 0.05
#: The advisory lock of `RecordsDatabase.exclusive`.
_EXCLUSIVE_LOCK = int.from_bytes(b"rg-store")
#: Seconds of one statement on PostgreSQL, and of one that upgrades the store.
_STATEMENT, _UPGRADE = 20.0, 3_600.0
#: Seconds in which a database must answer that it is there.
_PING = 5.0
#: Seconds that connections have to say good-bye.
_CLOSE = 1.0
#: Ids in one statement, under every database's limit on parameters.
_IDS_AT_ONCE = 500


class Duplicate(Exception):
    """A row with this key exists; repositories translate that for their callers."""


class RecordsDatabase:
    """`read` and `write` are the only ways in. Both raise `StoreUnusable`; `write` is one
    transaction and raises `Duplicate` for a row that breaks a constraint."""

    def __init__(
        self,
        engine: AsyncEngine,
        busy_timeout: float,
        url: str = "",
        terminate: Callable[[], None] = lambda: None,
        *,
        is_pooled: bool = False,
    ) -> None:
        """`url`: the database's own address, if it is PostgreSQL's; `terminate` breaks the
        connections; `is_pooled`: the engine goes through a pooler in transaction mode."""
        self._is_pooled = is_pooled
        self._engine = engine
        self._terminate = terminate
        self._url = url
        #: The seconds by which idempotency keys are dated and expire; see `model.clock`.
        self.passed: Callable[[], float] = time.time
        self._busy_timeout = busy_timeout
        self._closed = False
        # SQLite has one writer. Its lock is polled; this one is fair and wakes at once.
        self._writer = asyncio.Lock() if engine.dialect.name == "sqlite" else None

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        busy_timeout: float = BUSY_TIMEOUT,
        pool_size: int = POOL_SIZE,
        direct: str | None = None,
    ) -> RecordsDatabase:
        """The database at `sqlite:///PATH` or `postgresql://…`, reached when first used. Raises
        `StoreUnusable`."""
        parsed = _parse(url)
        if parsed.get_backend_name() == "sqlite":
            await asyncio.to_thread(_prepare_file, parsed)
            return cls(_sqlite(parsed, busy_timeout, pool_size), busy_timeout)
        engine, terminate = _postgres(url, busy_timeout, pool_size, is_pooled=direct is not None)
        return cls(engine, busy_timeout, direct or url, terminate, is_pooled=direct is not None)

    @property
    def dialect(self) -> str:
        return self._engine.dialect.name

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        self._check_open()
        with _translated():
            async with self._engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        self._check_open()
        if self._writer is None:
            with _translated():
                async with self._engine.begin() as connection:
                    yield connection
            return
        async with self._turn(self._writer):
            with _translated():
                async with self._engine.begin() as connection:
                    # Taken at once: upgrading a read lock can deadlock.
                    await connection.exec_driver_sql("BEGIN IMMEDIATE")
                    yield connection

    @asynccontextmanager
    async def _turn(self, lock: asyncio.Lock) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._busy_timeout):
                await lock.acquire()
        except TimeoutError:
            raise StoreUnusable("the records are busy") from None
        try:
            yield
        finally:
            lock.release()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Be the only process that makes or upgrades the store.

        Several nodes may start at once on PostgreSQL. With SQLite the lock of the data directory
        has decided already.
        """
        if self._writer is not None:
            yield
            return
        self._check_open()
        if self._is_pooled:  # a lock of a session needs a session
            direct = await RecordsDatabase.open(self._url, busy_timeout=self._busy_timeout)
            try:
                async with direct.exclusive():
                    yield
            finally:
                await direct.close()
            return
        with _translated():
            async with self._engine.connect() as plain:
                # Outside of a transaction, which would be idle for as long as the block takes.
                connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
                await self._lock(connection)
                try:
                    yield
                finally:
                    await connection.invalidate()  # the lock ends with the connection

    @asynccontextmanager
    async def upgrading(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that makes or upgrades the store, as the only process that does so."""
        if self._writer is not None:
            async with self.write() as connection:
                yield connection
            return
        # Changing a large table may take longer than any other statement.
        engine, terminate = _postgres(self._url, self._busy_timeout, 2, _UPGRADE)
        patient = RecordsDatabase(engine, self._busy_timeout, self._url, terminate)
        try:
            async with patient.exclusive(), patient.write() as connection:
                yield connection
        finally:
            await patient.close()

    async def _lock(self, connection: AsyncConnection) -> None:
        lock = select(func.pg_try_advisory_lock(_EXCLUSIVE_LOCK))
        try:
            async with asyncio.timeout(_EXCLUSIVE):
                while True:
                    if (await connection.execute(lock)).scalar_one():
                        return
                    await asyncio.sleep(_RETRY)
        except TimeoutError:
            raise StoreUnusable(
                "another node has been upgrading the records for two minutes"
            ) from None

    async def ping(self) -> None:
        try:
            async with asyncio.timeout(_PING), self.read() as connection:
                await connection.exec_driver_sql("SELECT 1")
        except TimeoutError:
            raise StoreUnusable("the records do not answer") from None

    def abandon(self) -> None:
        """Refuse everything from now on, and break the connections to a database that is away."""
        self._closed = True
        self._terminate()

    async def close(self) -> None:
        self._closed = True
        # A server that does not answer does not hear the connections' good-bye either.
        timer = asyncio.get_running_loop().call_later(_CLOSE, self._terminate)
        try:
            await self._engine.dispose()
        finally:
            timer.cancel()

    def _check_open(self) -> None:
        # The pool would quietly open new connections.
        if self._closed:
            raise StoreUnusable("the records are closed")


def few_at_once(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """The ids in parts, of which each fits into one statement."""
    for start in range(0, len(ids), _IDS_AT_ONCE):
        yield ids[start : start + _IDS_AT_ONCE]


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise StoreUnusable("the address of the records is not a database URL") from error
    name = parsed.get_backend_name()
    if name == "postgres":  # libpq takes both
        name = "postgresql"
    if name not in {"sqlite", "postgresql"}:
        raise StoreUnusable(f"records cannot be kept in {name!r}; use sqlite or postgresql")
    return parsed.set(drivername=name)


def _prepare_file(url: URL) -> None:
    """Make the file, readable for its owner only; SQLite would follow the umask."""
    if not url.database:
        raise StoreUnusable("the records need a file: sqlite:///PATH")
    path = Path(url.database)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise StoreUnusable(f"{path}: {error.strerror or error}") from error
    if lost_commits(path):
        metrics.store_damaged("records")
        log_.error(
            "the records have lost what was committed: their write-ahead log is damaged; keys,"
            " agents and files made or changed last may be as they were before",
            file=str(path),
        )


def _engine(url: str | URL, busy_timeout: float, pool_size: int, **options: Any) -> AsyncEngine:
    try:
        return create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=busy_timeout,
            # The standard library's parser takes five times as long, on the event loop.
            json_serializer=lambda value: orjson.dumps(value).decode(),
            json_deserializer=orjson.loads,
            **options,
        )
    except (ImportError, NoSuchModuleError) as error:
        raise StoreUnusable("the driver of this database is not installed") from error


def _postgres(
    url: str,
    busy_timeout: float,
    pool_size: int,
    statement_timeout: float = _STATEMENT,
    *,
    is_pooled: bool = False,
) -> tuple[AsyncEngine, Callable[[], None]]:
    """The engine, and what breaks its connections."""
    try:
        # The driver is an extra of the package.
        driver = importlib.import_module(".postgres", __package__)
    except ImportError as error:
        raise StoreUnusable(f"PostgreSQL needs the extra: {how_to_install('postgres')}") from error
    connector = driver.Connector(url, busy_timeout, statement_timeout, is_pooled=is_pooled)
    # A pooler gives each transaction another connection: a statement has no name there, so that
    # none stays, and none is taken for another client's.
    unnamed = {"prepared_statement_cache_size": 0, "prepared_statement_name_func": lambda: ""}
    engine = _engine(
        "postgresql+asyncpg://",
        busy_timeout,
        pool_size,
        async_creator=connector,
        connect_args=unnamed if is_pooled else {},
    )
    if is_pooled:
        event.listen(engine.sync_engine, "begin", connector.begin)

    @event.listens_for(engine.sync_engine, "checkout")
    def check(connection: DBAPIConnection, _entry: ConnectionPoolEntry, _proxy: object) -> None:
        # After a restart of the database the pool holds dead connections; this makes a new one.
        if connection.driver_connection.is_closed():
            raise DisconnectionError

    return engine, connector.terminate


def _sqlite(url: URL, busy_timeout: float, pool_size: int) -> AsyncEngine:
    # `write` begins transactions. The driver would begin them late, or not at all.
    options = {"isolation_level": None}
    url = url.set(drivername="sqlite+aiosqlite")
    engine = _engine(url, busy_timeout, pool_size, connect_args=options)

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout = {int(busy_timeout * 1_000)}",
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "invalidate")
    def roll_back(
        connection: DBAPIConnection,
        _entry: ConnectionPoolEntry,
        _error: BaseException | None,
    ) -> None:
        # A task that is cancelled within a statement closes its connection. SQLite keeps the
        # transaction and its lock until the last statement is collected.
        connection.rollback()

    return engine


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        if _is_duplicate(error):
            raise Duplicate from error
        raise StoreUnusable(f"the records refused a row: {_reason(error)}") from error
    except DBAPIError as error:
        raise StoreUnusable(f"the records cannot be used: {_reason(error)}") from error
    except PoolTimeout as error:
        raise StoreUnusable("the records are busy: no connection is free") from error
    except SQLAlchemyError as error:
        raise StoreUnusable(f"the records cannot be used: {_line(error)}") from error
    except OSError as error:  # TimeoutError as well: a connection that died under a statement
        raise StoreUnusable(f"the records cannot be used: {error}") from error


def _reason(error: DBAPIError) -> str:
    """One line."""
    cause = error.orig.__cause__ if error.orig is not None else None
    return _line(cause or error.orig)


def _line(error: BaseException | None) -> str:
    return " ".join(str(error).split())


def _is_duplicate(error: IntegrityError) -> bool:
    # 23505: unique_violation of PostgreSQL. SQLite names its extended codes.
    if getattr(error.orig, "sqlstate", None) == "23505":
        return True
    return getattr(error.orig, "sqlite_errorname", None) in {
        "SQLITE_CONSTRAINT_UNIQUE",
        "SQLITE_CONSTRAINT_PRIMARYKEY",
    }
