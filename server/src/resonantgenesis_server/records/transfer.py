"""All rows of the records, for a copy into another database.

Records that are being filled have no revision of this program's, so no server opens them. Rows that
are there already are left, so a copy that broke off goes on from its beginning.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeAlias

import orjson
from sqlalchemy import Table, func, select, text, tuple_, update

from . import tables
from .base import StoreUnusable
from .database import RecordsDatabase
from .migrate import COPYING, REVISIONS, look, migrate, set_revision
from .tables import insert_into, metadata, micros

Row: TypeAlias = "dict[str, Any]"
#: In an order in which every row finds what it refers to.
TABLES: Sequence[Table] = metadata.sorted_tables
_PAGE = 1_000
#: Values in one statement. PostgreSQL takes 32,767, SQLite as many.
_VALUES = 30_000
_MODULUS = 1 << 256


class RecordRows:
    """The tables of one database, which nobody else uses meanwhile. Raises StoreUnusable."""

    def __init__(self, database: RecordsDatabase) -> None:
        self._database = database

    @classmethod
    async def source(cls, url: str) -> RecordRows:
        """Raises StoreUnusable unless the records have this program's revision."""
        database = await RecordsDatabase.open(url)
        try:
            async with database.read() as connection:
                problem = (await connection.run_sync(look)).problem
            if problem is not None:
                raise StoreUnusable(problem)
        except BaseException:
            await database.close()
            raise
        return cls(database)

    @classmethod
    async def target(cls, url: str) -> RecordRows:
        """Make the tables if there are none. Records of another revision are refused."""
        database = await RecordsDatabase.open(url)
        try:
            async with database.upgrading() as connection:
                if (await connection.run_sync(look)).found != COPYING:
                    await connection.run_sync(migrate)
        except BaseException:
            await database.close()
            raise
        return cls(database)

    async def close(self) -> None:
        await self._database.close()

    async def is_empty(self) -> bool:
        async with self._database.read() as connection:
            return not await connection.scalar(select(tables.organizations.c.id).limit(1))

    async def begin(self) -> None:
        """No server opens the records from now on."""
        async with self._database.write() as connection:
            await connection.run_sync(set_revision, COPYING)

    async def end(self) -> None:
        """Let servers open the records again."""
        async with self._database.write() as connection:
            if self._database.dialect == "postgresql":
                last = "coalesce((SELECT max(id) FROM outbox), 0) + 1"
                sequence = "pg_get_serial_sequence('outbox', 'id')"
                await connection.execute(text(f"SELECT setval({sequence}, {last}, false)"))
            await connection.run_sync(set_revision, REVISIONS[-1])

    async def count(self, table: Table) -> int:
        async with self._database.read() as connection:
            return int(await connection.scalar(select(func.count()).select_from(table)) or 0)

    async def rows(self, table: Table) -> AsyncIterator[list[Row]]:
        """All rows of the table, page by page."""
        key = list(table.primary_key.columns)
        query = select(table).order_by(*key).limit(_PAGE)
        page = query
        while True:
            async with self._database.read() as connection:
                found = [dict(row) for row in (await connection.execute(page)).mappings()]
            if found:
                yield found
            if len(found) < _PAGE:
                return
            last = [found[-1][column.name] for column in key]
            page = query.where(tuple_(*key) > tuple_(*last))

    async def add(self, table: Table, rows: Sequence[Row]) -> None:
        """Add the rows whose keys are not there yet."""
        step = max(1, _VALUES // len(table.columns))
        async with self._database.write() as connection:
            for start in range(0, len(rows), step):
                query = insert_into(self._database.dialect, table).on_conflict_do_nothing()
                await connection.execute(query, list(rows[start : start + step]))

    async def digest(self, table: Table, changed: Callable[[Table, Row], Row]) -> tuple[int, int]:
        """Number and digest of the rows, each as `changed` makes it, whatever their order. Names of
        blobs are left out: they change when their content is copied."""
        count = total = 0
        ignored = "name" if table is tables.blobs else None
        async for page in self.rows(table):
            count += len(page)
            for row in page:
                values = orjson.dumps(
                    {str(k): v for k, v in changed(table, row).items() if k != ignored},
                    default=bytes.hex,
                    option=orjson.OPT_SORT_KEYS,
                )
                total += int.from_bytes(hashlib.blake2b(values, digest_size=32).digest())
        return count, total % _MODULUS

    async def renew_epoch(self, former: str, epoch: str) -> None:
        """The log has another epoch, and what is kept of its positions still counts."""
        async with self._database.write() as connection:
            for table in (tables.session_places, tables.usage_places, tables.webhooks):
                query = update(table).where(table.c.epoch == former)
                await connection.execute(query.values(epoch=epoch))

    async def move_blob(self, digest: str, name: str) -> None:
        """The content lies under this name now."""
        columns = tables.blobs.c
        query = update(tables.blobs).where(columns.digest == digest)
        async with self._database.write() as connection:
            await connection.execute(query.values(name=name))


def dated_by(shift: float) -> Callable[[Table, Row], Row]:
    """What makes a row for the new store of one of the old one. Idempotency keys are dated by a
    clock that does not step; `shift`: seconds by which the new store's is ahead."""
    difference = micros(shift)

    def changed(table: Table, row: Row) -> Row:
        if table is not tables.idempotency or not difference:
            return row
        return {**row, "created_at": row["created_at"] + difference}

    return changed
