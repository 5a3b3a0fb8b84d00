"""Organizations, their API keys, and the secrets that nodes share."""

from __future__ import annotations

import secrets as randomness
from collections.abc import Callable

from sqlalchemy import RowMapping, and_, insert, or_, select, update

from ..model.errors import Conflict
from ..model.ids import new_id
from . import tables
from .base import KeyRecord, Organization, Page
from .database import Database, Duplicate
from .paging import decode_cursor, encode_cursor
from .tables import micros, micros_or_none, seconds, seconds_or_none


class OrganizationRepository:
    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def create(self, name: str) -> Organization:
        made = Organization(new_id("org"), name, seconds(micros(self._clock())))
        async with self._database.write() as connection:
            await connection.execute(
                insert(tables.organizations).values(
                    id=made.id, name=name, created_at=micros(made.created_at)
                )
            )
        return made

    async def get(self, organization_id: str) -> Organization | None:
        query = select(tables.organizations).where(tables.organizations.c.id == organization_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return None if row is None else _organization(row)

    async def first(self) -> Organization | None:
        table = tables.organizations
        query = select(table).order_by(table.c.created_at, table.c.id).limit(1)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return None if row is None else _organization(row)

    async def all(self, *, limit: int = 200, cursor: str | None = None) -> Page[Organization]:
        table = tables.organizations
        query = select(table)
        if cursor is not None:
            made, last = decode_cursor(cursor, int, str)
            younger = and_(table.c.created_at == made, table.c.id > last)
            query = query.where(or_(table.c.created_at > made, younger))
        query = query.order_by(table.c.created_at, table.c.id).limit(limit + 1)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        found = [_organization(row) for row in rows[:limit]]
        if len(rows) <= limit:
            return Page(found)
        return Page(found, encode_cursor(micros(found[-1].created_at), found[-1].id))


class KeyRepository:
    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def create(
        self,
        organization_id: str,
        *,
        name: str,
        hash: str,
        scopes: frozenset[str],
        expires_at: float | None = None,
        is_bootstrap: bool = False,
    ) -> KeyRecord:
        row = {
            "id": new_id("key"),
            "organization_id": organization_id,
            "name": name,
            "hash": hash,
            "scopes": sorted(scopes),
            "created_at": micros(self._clock()),
            "expires_at": micros_or_none(expires_at),
            "revoked_at": None,
            "is_bootstrap": is_bootstrap,
            "is_admin": False,
        }
        query = insert(tables.keys).values(row).returning(tables.keys)
        try:
            async with self._database.write() as connection:
                return _key((await connection.execute(query)).mappings().one())
        except Duplicate:
            raise Conflict("this key exists already") from None

    async def find_by_hash(self, hash: str) -> KeyRecord | None:
        query = select(tables.keys).where(tables.keys.c.hash == hash)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return None if row is None else _key(row)

    async def find(self, key_id: str) -> KeyRecord | None:
        query = select(tables.keys).where(tables.keys.c.id == key_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return None if row is None else _key(row)

    async def list(
        self, organization_id: str, *, limit: int = 50, cursor: str | None = None
    ) -> Page[KeyRecord]:
        table = tables.keys
        query = select(table).where(table.c.organization_id == organization_id)
        if cursor is not None:
            made, last = decode_cursor(cursor, int, str)
            older = and_(table.c.created_at == made, table.c.id < last)
            query = query.where(or_(table.c.created_at < made, older))
        query = query.order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit + 1)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        found = [_key(row) for row in rows[:limit]]
        if len(rows) <= limit:
            return Page(found)
        return Page(found, encode_cursor(micros(found[-1].created_at), found[-1].id))

    async def revoke(self, organization_id: str, key_id: str) -> KeyRecord | None:
        table = tables.keys
        mine = and_(table.c.organization_id == organization_id, table.c.id == key_id)
        revoke = (
            update(table)
            .where(mine, table.c.revoked_at.is_(None))
            .values(revoked_at=micros(self._clock()))
        )
        async with self._database.write() as connection:
            await connection.execute(revoke)
            row = (await connection.execute(select(table).where(mine))).mappings().first()
        return None if row is None else _key(row)


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

    async def _get(self, name: str) -> bytes | None:
        query = select(tables.secrets.c.value).where(tables.secrets.c.name == name)
        async with self._database.read() as connection:
            value = (await connection.execute(query)).scalar()
        return None if value is None else bytes(value)


def _organization(row: RowMapping) -> Organization:
    return Organization(row["id"], row["name"], seconds(row["created_at"]))


def _key(row: RowMapping) -> KeyRecord:
    return KeyRecord(
        id=row["id"],
        organization_id=row["organization_id"],
        name=row["name"],
        hash=row["hash"],
        scopes=frozenset(row["scopes"]),
        created_at=seconds(row["created_at"]),
        expires_at=seconds_or_none(row["expires_at"]),
        revoked_at=seconds_or_none(row["revoked_at"]),
        is_bootstrap=row["is_bootstrap"],
        is_admin=row["is_admin"],
    )
