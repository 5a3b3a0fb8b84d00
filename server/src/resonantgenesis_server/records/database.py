"""The connection pool and transactions; no exception of a driver leaves this module."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import orjson
import structlog
from sqlalchemy import URL, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    NoSuchModuleError,
    SQLAlchemyError,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from .. import metrics
from ..datadir.wal import lost_commits
from .base import StoreUnusable

log_ = structlog.get_logger("resonantgenesis.records")

#: Seconds of waiting for the lock of another process, and for a free connection.
BUSY_TIMEOUT = 5.0
POOL_SIZE = 5
_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}


class Duplicate(Exception):
    """A row with this key exists; repositories translate that for their callers."""


class Database:
    """`read` and `write` are the only ways in. Both raise `StoreUnusable`; `write` is one
    transaction and raises `Duplicate` for a row that breaks a constraint."""

    def __init__(self, engine: AsyncEngine, busy_timeout: float) -> None:
        self._engine = engine
        #: The seconds by which Idempotency-Keys are dated and expire; see `model.clock`.
        self.passed: Callable[[], float] = time.time
        self._busy_timeout = busy_timeout
        self._closed = False
        # SQLite has one writer. Its lock is polled; this one is fair and wakes at once.
        self._writer = asyncio.Lock() if engine.dialect.name == "sqlite" else None

    @classmethod
    async def open(cls, url: str, *, busy_timeout: float = BUSY_TIMEOUT) -> Database:
        """The database at `sqlite:///PATH` or `postgresql://…`, reached when first used. Raises
        `StoreUnusable`."""
        parsed = _parse(url)
        if parsed.get_backend_name() == "sqlite":
            await asyncio.to_thread(_prepare_file, parsed)
        return cls(_engine(parsed, busy_timeout), busy_timeout)

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

    async def ping(self) -> None:
        async with self.read() as connection:
            await connection.exec_driver_sql("SELECT 1")

    async def close(self) -> None:
        self._closed = True
        await self._engine.dispose()

    def _check_open(self) -> None:
        # The pool would quietly open new connections.
        if self._closed:
            raise StoreUnusable("the records are closed")


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreUnusable("the address of the records is not a database URL") from error
    name = parsed.get_backend_name()
    if name not in _DRIVERS:
        raise StoreUnusable(f"records cannot be kept in {name!r}; use sqlite or postgresql")
    return parsed.set(drivername=_DRIVERS[name])


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


def _engine(url: URL, busy_timeout: float) -> AsyncEngine:
    is_sqlite = url.get_backend_name() == "sqlite"
    try:
        engine = create_async_engine(
            url,
            pool_size=POOL_SIZE,
            max_overflow=0,
            pool_timeout=busy_timeout,
            # The standard library's parser takes five times as long, on the event loop.
            json_serializer=lambda value: orjson.dumps(value).decode(),
            json_deserializer=orjson.loads,
            # `write` begins transactions. The driver would begin them late, or not at all.
            connect_args={"isolation_level": None} if is_sqlite else {},
        )
    except (ImportError, NoSuchModuleError) as error:
        raise StoreUnusable(f"the driver for {url.drivername} is not installed") from error
    if is_sqlite:

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
        raise StoreUnusable(f"the records refused a row: {error.orig}") from error
    except DBAPIError as error:
        raise StoreUnusable(f"the records cannot be used: {error.orig}") from error
    except SQLAlchemyError as error:
        raise StoreUnusable(f"the records cannot be used: {error}") from error


def _is_duplicate(error: IntegrityError) -> bool:
    # 23505: unique_violation of PostgreSQL. SQLite names its extended codes.
    if getattr(error.orig, "sqlstate", None) == "23505":
        return True
    return getattr(error.orig, "sqlite_errorname", None) in {
        "SQLITE_CONSTRAINT_UNIQUE",
        "SQLITE_CONSTRAINT_PRIMARYKEY",
    }
