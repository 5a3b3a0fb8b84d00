"""What each idempotency key stands for.

A resource of the records is made in the transaction that uses its key up: a crash leaves both or
neither. A resource of another store has its id reserved first. After a crash, a repeat of the
request makes the resource with that id, or finds it made.
"""

from __future__ import annotations

from typing import Any, TypeVar

from sqlalchemy import ColumnElement, and_, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from . import tables
from .base import KeyUsed, Once, Remembered, RequestName, StoreUnusable
from .database import RecordsDatabase
from .tables import micros, seconds

T = TypeVar("T")
_ANSWERED = 201


async def use_key(connection: AsyncConnection, once: Once[T] | None, made: T, now: float) -> None:
    """Use the key of `once` up for the resource `made`, within the caller's transaction, at `now`
    by `RecordsDatabase.passed`. Raises `KeyUsed`; the transaction must then be rolled back."""
    if once is None:
        return
    values = {
        "fingerprint": once.fingerprint,
        "status": _ANSWERED,
        "body": None if once.render is None else once.render(made),
        "thing": None if once.thing is None else once.thing(made),
    }
    if not await _insert(connection, once.name, micros(now), once.window, values):
        raise KeyUsed(once.name.key)


class IdempotencyRepository:
    def __init__(self, database: RecordsDatabase) -> None:
        self._database = database

    async def get(self, name: RequestName, *, window: float) -> Remembered | None:
        """What the key stands for, if it was used less than `window` seconds ago."""
        since = micros(self._database.passed() - window)
        async with self._database.read() as connection:
            existing = await _get(connection, name)
        return None if existing is None or micros(existing.created_at) <= since else existing

    async def remember(self, once: Once[T], made: T) -> None:
        """Use the key up for a resource that no repository makes. Raises `KeyUsed`."""
        async with self._database.write() as connection:
            await use_key(connection, once, made, self._database.passed())

    async def reserve(
        self, name: RequestName, fingerprint: str, thing: str, *, window: float
    ) -> Remembered:
        """Reserve the id `thing` for a resource of another store, and return what the key stands
        for now. That is another id where the key was used or reserved before."""
        values = {"fingerprint": fingerprint, "thing": thing}
        async with self._database.write() as connection:
            await _insert(connection, name, micros(self._database.passed()), window, values)
            existing = await _get(connection, name)
        if existing is None:
            raise StoreUnusable("an idempotency key was not kept")
        return existing

    async def finish(self, name: RequestName, status: int, body: bytes) -> None:
        """Remember the answer for a reserved key."""
        query = update(tables.idempotency).where(_named(name)).values(status=status, body=body)
        async with self._database.write() as connection:
            await connection.execute(query)

    async def release(self, name: RequestName) -> None:
        """Forget a reservation: the request was refused and does not use the key up."""
        reserved = and_(_named(name), tables.idempotency.c.status.is_(None))
        async with self._database.write() as connection:
            await connection.execute(delete(tables.idempotency).where(reserved))

    async def purge(self, before: float, limit: int = 1_000) -> int:
        """Delete up to `limit` entries older than `before`, and return their number."""
        table = tables.idempotency
        keys = (table.c.organization_id, table.c.subject, table.c.route, table.c.key)
        old = select(*keys).where(table.c.created_at < micros(before)).limit(limit)
        async with self._database.write() as connection:
            rows = (await connection.execute(old)).all()
            for row in rows:
                await connection.execute(delete(table).where(_named(RequestName(*row))))
        return len(rows)


async def _insert(
    connection: AsyncConnection, name: RequestName, now: int, window: float, values: dict[str, Any]
) -> bool:
    """Whether the key was free. A key is free again when its use is older than `window`, or when
    its request died before it reserved an id."""
    table = tables.idempotency
    over = or_(
        table.c.created_at <= now - micros(window),
        and_(table.c.status.is_(None), table.c.thing.is_(None)),
    )
    await connection.execute(delete(table).where(_named(name), over))
    query = tables.insert_into(connection.dialect.name, table).values(
        organization_id=name.organization_id,
        subject=name.subject,
        route=name.route,
        key=name.key,
        created_at=now,
        **values,
    )
    added = query.on_conflict_do_nothing().returning(table.c.key)
    return (await connection.execute(added)).first() is not None


async def _get(connection: AsyncConnection, name: RequestName) -> Remembered | None:
    query = select(tables.idempotency).where(_named(name))
    row = (await connection.execute(query)).mappings().first()
    if row is None:
        return None
    return Remembered(
        row["fingerprint"],
        row["status"],
        row["body"],
        seconds(row["created_at"]),
        row["thing"],
    )


def _named(name: RequestName) -> ColumnElement[bool]:
    columns = tables.idempotency.c
    return and_(
        columns.organization_id == name.organization_id,
        columns.subject == name.subject,
        columns.route == name.route,
        columns.key == name.key,
    )
