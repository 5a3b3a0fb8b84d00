"""What each Idempotency-Key stands for."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import ColumnElement, and_, delete, insert, or_, select, update

from . import tables
from .base import Remembered, RequestName, StoreUnusable
from .database import Database, Duplicate
from .tables import micros, seconds

_ATTEMPTS = 5


class IdempotencyRepository:
    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def claim(
        self, name: RequestName, fingerprint: str, *, window: float, stale: float
    ) -> Remembered | None:
        table = tables.idempotency
        now = self._clock()
        over = or_(
            table.c.created_at <= micros(now - window),
            and_(table.c.status.is_(None), table.c.created_at <= micros(now - stale)),
        )
        claimed = insert(table).values(
            organization_id=name.organization_id,
            subject=name.subject,
            route=name.route,
            key=name.key,
            fingerprint=fingerprint,
            created_at=micros(now),
        )
        for _ in range(_ATTEMPTS):
            try:
                async with self._database.write() as connection:
                    await connection.execute(delete(table).where(_named(name), over))
                    await connection.execute(claimed)
            except Duplicate:
                known = await self._get(name)
                if known is not None:
                    return known
                # Released between the two looks: the key is free again.
            else:
                return None
        raise StoreUnusable("an idempotency key changes hands too fast")

    async def finish(self, name: RequestName, status: int, body: bytes | None) -> None:
        query = update(tables.idempotency).where(_named(name)).values(status=status, body=body)
        async with self._database.write() as connection:
            await connection.execute(query)

    async def release(self, name: RequestName) -> None:
        async with self._database.write() as connection:
            await connection.execute(delete(tables.idempotency).where(_named(name)))

    async def purge(self, before: float, limit: int = 1_000) -> int:
        table = tables.idempotency
        keys = (table.c.organization_id, table.c.subject, table.c.route, table.c.key)
        old = select(*keys).where(table.c.created_at < micros(before)).limit(limit)
        async with self._database.write() as connection:
            rows = (await connection.execute(old)).all()
            for row in rows:
                await connection.execute(delete(table).where(_named(RequestName(*row))))
        return len(rows)

    async def _get(self, name: RequestName) -> Remembered | None:
        query = select(tables.idempotency).where(_named(name))
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        if row is None:
            return None
        return Remembered(
            row["fingerprint"], row["status"], row["body"], seconds(row["created_at"])
        )


def _named(name: RequestName) -> ColumnElement[bool]:
    columns = tables.idempotency.c
    return and_(
        columns.organization_id == name.organization_id,
        columns.subject == name.subject,
        columns.route == name.route,
        columns.key == name.key,
    )
