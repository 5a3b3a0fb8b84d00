"""Secrets that all processes of a store share, in versions."""

from __future__ import annotations

import contextlib
import secrets as randomness
from collections.abc import Callable, Sequence

from sqlalchemy import RowMapping, Select, delete, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..model.errors import Conflict
from . import tables
from .base import SecretVersion, StoreUnusable
from .database import Duplicate, RecordsDatabase
from .tables import micros, seconds

#: Between the name of a secret, which has none in it, and the number of a later version.
_MARK = "/"
#: Tries against other processes that renew a secret at the same time.
_RACES = 20


class SecretRepository:
    def __init__(self, database: RecordsDatabase, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def get_or_create(self, name: str, nbytes: int = 32) -> bytes:
        """The secret of this name, made at random when first asked for; every process that
        shares the store gets the same one."""
        kept = await self._get(name)
        if kept is not None:
            return kept
        return await self.claim(name, randomness.token_bytes(nbytes))

    async def claim(self, name: str, value: bytes) -> bytes:
        """Keep this value under the name unless there is one; the value that is kept."""
        values = {"name": name, "value": value, "created_at": micros(self._clock())}
        with contextlib.suppress(Duplicate):
            async with self._database.write() as connection:
                await connection.execute(insert(tables.secrets).values(values))
        return await self._get(name) or b""

    async def versions(self, name: str) -> Sequence[SecretVersion]:
        """The kept versions, newest first; the first one is made when first asked for."""
        async with self._database.read() as connection:
            found = await _read(connection, name)
        if not found:
            await self.get_or_create(name)
            async with self._database.read() as connection:
                found = await _read(connection, name)
        return [_version(row) for row in found]

    async def renew(self, name: str, *, keep: float, most: int) -> SecretVersion:
        """A new version, at random. Versions that were replaced `keep` seconds ago or earlier are
        dropped; 0: all. Raises `Conflict` when more than `most` versions are still needed."""
        await self.versions(name)  # there is one to be replaced
        for _ in range(_RACES):
            # Another process may have made the version of this number.
            with contextlib.suppress(Duplicate):
                return await self._renew(name, keep, most)
        raise StoreUnusable("other nodes renew this secret all the time")

    async def _renew(self, name: str, keep: float, most: int) -> SecretVersion:
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
