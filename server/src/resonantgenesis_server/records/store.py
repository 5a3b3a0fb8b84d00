"""All repositories over one database."""

from __future__ import annotations

import secrets as randomness
import time
from collections.abc import Callable, Sequence

from sqlalchemy import RowMapping, Select, delete, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..model.errors import Conflict
from . import tables
from .access import KeyRepository, OrganizationRepository
from .agents import AgentRepository
from .base import Agents, Idempotency, Keys, Organizations, Outbox, Secrets, SecretVersion, Sessions
from .database import BUSY_TIMEOUT, Database, Duplicate
from .files import FileRepository, Files
from .idempotency import IdempotencyRepository
from .outbox import OutboxRepository
from .sessions import SessionRepository
from .tables import micros, seconds
from .usage import Usage, UsageRepository


class Records:
    """What `open` gives; the guarantees are those of `base`."""

    def __init__(
        self, database: Database, clock: Callable[[], float], passed: Callable[[], float]
    ) -> None:
        self._database = database
        database.passed = passed
        self.organizations: Organizations = OrganizationRepository(database, clock)
        self.keys: Keys = KeyRepository(database, clock)
        self.agents: Agents = AgentRepository(database, clock)
        self.sessions: Sessions = SessionRepository(database)
        self.files: Files = FileRepository(database, clock)
        self.usage: Usage = UsageRepository(database)
        self.outbox: Outbox = OutboxRepository(database)
        self.secrets: Secrets = SecretRepository(database, clock)
        self.idempotency: Idempotency = IdempotencyRepository(database)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        clock: Callable[[], float] = time.time,
        passed: Callable[[], float] | None = None,
        busy_timeout: float = BUSY_TIMEOUT,
    ) -> Records:
        """The records at `sqlite:///PATH` or `postgresql://…`, made and migrated as needed.

        `clock` dates what is shown; Idempotency-Keys are dated and expire by `passed`, one that
        does not step.

        Raises `StoreIsNewer` or `StoreUnusable`, each with one line that says why.
        """
        return cls(await Database.open(url, busy_timeout=busy_timeout), clock, passed or clock)

    async def ping(self) -> None:
        """Raises `StoreUnusable` when the database does not answer."""
        await self._database.ping()

    async def close(self) -> None:
        """Close every connection. What was asked for before has been committed."""
        await self._database.close()


#: Between the name of a secret, which has none in it, and the number of a later version.
_MARK = "/"


class SecretRepository:
    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def get_or_create(self, name: str, nbytes: int = 32) -> bytes:
        kept = await self._get(name)
        if kept is not None:
            return kept
        made = randomness.token_bytes(nbytes)
        values = {"name": name, "value": made, "created_at": micros(self._clock())}
        try:
            async with self._database.write() as connection:
                await connection.execute(insert(tables.secrets).values(values))
        except Duplicate:
            # Another process was first, and its secret counts.
            return await self._get(name) or b""
        return made

    async def versions(self, name: str) -> Sequence[SecretVersion]:
        async with self._database.read() as connection:
            found = await _read(connection, name)
        if not found:
            await self.get_or_create(name)
            async with self._database.read() as connection:
                found = await _read(connection, name)
        return [_version(row) for row in found]

    async def renew(self, name: str, *, keep: float, most: int) -> SecretVersion:
        await self.versions(name)  # there is one to be replaced
        now = micros(self._clock())
        table = tables.secrets
        async with self._database.write() as connection:
            rows = await _read(connection, name)
            kept = _still_needed(rows, now, now - micros(keep))
            if len(kept) > most:
                raise Conflict("too many versions of this secret are still in use")
            gone = [row["name"] for row in rows if row not in kept]
            await connection.execute(delete(table).where(table.c.name.in_(gone)))
            values = {
                "name": f"{name}{_MARK}{_number(rows[0]['name']) + 1}",
                "value": randomness.token_bytes(len(rows[0]["value"])),
                "created_at": now,
            }
            query = insert(table).values(values).returning(table)
            return _version((await connection.execute(query)).mappings().one())

    async def _get(self, name: str) -> bytes | None:
        query = select(tables.secrets.c.value).where(tables.secrets.c.name == name)
        async with self._database.read() as connection:
            value = (await connection.execute(query)).scalar()
        return None if value is None else bytes(value)


async def _read(connection: AsyncConnection, name: str) -> list[RowMapping]:
    """All versions, newest first."""
    rows = (await connection.execute(_select(name))).mappings().all()
    return sorted(rows, key=lambda row: _number(row["name"]), reverse=True)


def _select(name: str) -> Select[tuple[object, ...]]:
    table = tables.secrets
    later = table.c.name.startswith(name + _MARK, autoescape=True)
    return select(table).where(or_(table.c.name == name, later))


def _still_needed(rows: Sequence[RowMapping], now: int, since: int) -> list[RowMapping]:
    """Those replaced after `since`; the newest is being replaced at `now`."""
    replaced = [now, *(row["created_at"] for row in rows[:-1])]
    return [row for row, at in zip(rows, replaced, strict=True) if at > since]


def _number(name: str) -> int:
    _, mark, number = name.rpartition(_MARK)
    return int(number) if mark else 1


def _version(row: RowMapping) -> SecretVersion:
    return SecretVersion(bytes(row["value"]), seconds(row["created_at"]))
