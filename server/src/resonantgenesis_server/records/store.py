"""All repositories over one database."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from .access import KeyRepository, OrganizationRepository
from .agents import AgentRepository
from .audit import AuditLog
from .base import StoreUnusable
from .database import BUSY_TIMEOUT, POOL_SIZE, RecordsDatabase
from .erasure import ErasureRepository
from .files import FileRepository
from .idempotency import IdempotencyRepository
from .migrate import Revision, look, migrate
from .outbox import OutboxRepository
from .secrets import SecretRepository
from .server_secret import ServerSecretRepository
from .sessions import SessionRepository
from .usage import UsageRepository
from .webhooks import DeliveryRepository, WebhookRepository


class Records:
    """What `open` gives; the guarantees are those of `base`."""

    def __init__(
        self, database: RecordsDatabase, clock: Callable[[], float], passed: Callable[[], float]
    ) -> None:
        self._database = database
        database.passed = passed
        self.organizations = OrganizationRepository(database, clock)
        self.keys = KeyRepository(database, clock)
        self.agents = AgentRepository(database, clock)
        self.sessions = SessionRepository(database)
        self.files = FileRepository(database, clock)
        self.usage = UsageRepository(database)
        self.outbox = OutboxRepository(database)
        self.audit = AuditLog(database, clock)
        self.secrets = SecretRepository(database, clock)
        self.server_secret = ServerSecretRepository(database, clock)
        self.webhooks = WebhookRepository(database, clock)
        self.deliveries = DeliveryRepository(database)
        self.erasure = ErasureRepository(database)
        self.idempotency = IdempotencyRepository(database)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        clock: Callable[[], float] = time.time,
        passed: Callable[[], float] | None = None,
        busy_timeout: float = BUSY_TIMEOUT,
        pool_size: int = POOL_SIZE,
        upgrade: bool = True,
        direct: str | None = None,
    ) -> Records:
        """The records at `sqlite:///PATH` or `postgresql://…`, made and migrated as needed.

        `clock` dates what is shown. Idempotency keys are dated and expire by `passed`, a clock that
        does not step. Without `upgrade` a store of another version is refused. With `direct`, the
        database's own address, `url` is that of a pooler in transaction mode.

        Raises `RecordsTooNew` or `StoreUnusable`, each with one line that gives the reason.
        """
        database = await RecordsDatabase.open(
            url, busy_timeout=busy_timeout, pool_size=pool_size, direct=direct
        )
        try:
            if upgrade:
                async with database.upgrading() as connection:
                    await connection.run_sync(migrate)
            elif (problem := (await _look(database)).problem) is not None:
                raise StoreUnusable(problem)
        except BaseException:
            await database.close()
            raise
        return cls(database, clock, passed or clock)

    @staticmethod
    async def revision(url: str) -> Revision:
        """The version of the records at `url`, which stay as they are. Raises `StoreUnusable`."""
        database = await RecordsDatabase.open(url)
        try:
            return await _look(database)
        finally:
            await database.close()

    @property
    def database(self) -> RecordsDatabase:
        """For what is about all tables; see `records/transfer.py`."""
        return self._database

    def exclusive(self) -> AbstractAsyncContextManager[None]:
        """Be the only process that makes or upgrades this store. Raises `StoreUnusable`."""
        return self._database.exclusive()

    async def ping(self) -> None:
        """Raises `StoreUnusable` when the database does not answer."""
        await self._database.ping()

    def abandon(self) -> None:
        """The database is away, and nothing waits for it any more: all that is asked is refused."""
        self._database.abandon()

    async def close(self) -> None:
        """Close every connection. What was asked for before has been committed."""
        await self._database.close()


async def _look(database: RecordsDatabase) -> Revision:
    async with database.read() as connection:
        return await connection.run_sync(look)
