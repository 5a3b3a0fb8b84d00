"""Organizations and their API keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import replace

from sqlalchemy import (
    ColumnElement,
    Insert,
    RowMapping,
    Select,
    and_,
    func,
    insert,
    or_,
    select,
    update,
)

from ..model.errors import Conflict
from ..model.ids import new_id
from . import tables
from .audit import keep_audit
from .base import UNSET, Actor, KeyRecord, ListPage, Once, Organization, Unset
from .database import Duplicate, RecordsDatabase, few_at_once
from .idempotency import use_key
from .paging import by_creation, read_page
from .tables import micros, micros_or_none, seconds, seconds_or_none


class OrganizationRepository:
    def __init__(self, database: RecordsDatabase, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def create(self, name: str) -> Organization:
        async with self._database.write() as connection:
            row = (await connection.execute(self._insert(name))).mappings().one()
        return _organization(row)

    async def create_with_key(
        self,
        name: str,
        *,
        key_name: str,
        hash: str,
        scopes: frozenset[str],
        hashed_with: str | None = None,
        once: Once[Organization] | None = None,
        actor: Actor | None = None,
    ) -> tuple[Organization, KeyRecord]:
        """Both or neither. Raises `Conflict` when a key with this hash exists."""
        try:
            async with self._database.write() as connection:
                row = (await connection.execute(self._insert(name))).mappings().one()
                made = _organization(row)
                query = _insert_key(
                    made.id,
                    made.created_at,
                    name=key_name,
                    hash=hash,
                    scopes=scopes,
                    hashed_with=hashed_with,
                )
                key = _key((await connection.execute(query)).mappings().one())
                now, details = micros(made.created_at), {"name": name, "first_key": key.id}
                await keep_audit(connection, actor, "organization.created", made.id, now, **details)
                await use_key(connection, once, made, self._database.passed())
        except Duplicate:
            raise _taken() from None
        return made, key

    async def get(self, organization_id: str) -> Organization | None:
        query = select(tables.organizations).where(tables.organizations.c.id == organization_id)
        return await self._one(query)

    async def first(self) -> Organization | None:
        """The oldest one, which the bootstrap key belongs to."""
        table = tables.organizations
        return await self._one(select(table).order_by(table.c.created_at, table.c.id).limit(1))

    async def update(
        self,
        organization_id: str,
        *,
        name: str | Unset = UNSET,
        disabled: bool | Unset = UNSET,
        actor: Actor | None = None,
        act: str = "organization.updated",
    ) -> Organization | None:
        """The changed organization; None if there is none. Disabling twice keeps `disabled_at`."""
        table = tables.organizations
        changed: dict[str, object] = {"id": organization_id}
        if not isinstance(name, Unset):
            changed["name"] = name
        if not isinstance(disabled, Unset):
            now = micros(self._clock())
            changed["disabled_at"] = func.coalesce(table.c.disabled_at, now) if disabled else None
        query = update(table).where(table.c.id == organization_id).values(changed)
        async with self._database.write() as connection:
            row = (await connection.execute(query.returning(table))).mappings().first()
            if row is not None:
                given = {"name": name, "disabled": disabled}
                changes = {of: to for of, to in given.items() if not isinstance(to, Unset)}
                now = micros(self._clock())
                await keep_audit(connection, actor, act, organization_id, now, changes=changes)
        return None if row is None else _organization(row)

    async def all(self, *, limit: int = 200, cursor: str | None = None) -> ListPage[Organization]:
        """All organizations, oldest first."""
        query = by_creation(
            select(tables.organizations), tables.organizations, cursor, newest_first=False
        )
        async with self._database.read() as connection:
            return await read_page(connection, query, limit, _organization, _place)

    def _insert(self, name: str) -> Insert:
        table = tables.organizations
        values = {"id": new_id("org"), "name": name, "created_at": micros(self._clock())}
        return insert(table).values(values).returning(table)

    async def _one(self, query: Select[tuple[object, ...]]) -> Organization | None:
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return None if row is None else _organization(row)


async def each_organization(
    organizations: OrganizationRepository,
) -> AsyncIterator[list[Organization]]:
    """All organizations, page by page. Raises StoreError."""
    cursor: str | None = None
    while True:
        page = await organizations.all(cursor=cursor)
        yield list(page.items)
        cursor = page.next_cursor
        if cursor is None:
            return


class KeyRepository:
    def __init__(self, database: RecordsDatabase, clock: Callable[[], float]) -> None:
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
        hashed_with: str | None = None,
        once: Once[KeyRecord] | None = None,
        actor: Actor | None = None,
    ) -> KeyRecord:
        """A new key; `hashed_with` is the id of the server's secret. Raises `Conflict` when a key
        with this hash exists."""
        now = self._clock()
        query = _insert_key(
            organization_id,
            now,
            name=name,
            hash=hash,
            scopes=scopes,
            expires_at=expires_at,
            is_bootstrap=is_bootstrap,
            hashed_with=hashed_with,
        )
        try:
            async with self._database.write() as connection:
                made = _key((await connection.execute(query)).mappings().one())
                details = {
                    "name": name,
                    "scopes": sorted(scopes),
                    "organization_id": organization_id,
                }
                await keep_audit(connection, actor, "key.created", made.id, micros(now), **details)
                await use_key(connection, once, made, self._database.passed())
        except Duplicate:
            raise _taken() from None
        return made

    async def find_by_hash(self, hash: str) -> KeyRecord | None:
        """The key of this hash in any organization, revoked and expired ones included."""
        return await self._find(tables.keys.c.hash == hash)

    async def rehash(self, key: KeyRecord, hash: str, hashed_with: str) -> KeyRecord:
        """The key with a hash under the server's current secret in the place of the one it has."""
        table = tables.keys
        changed = update(table).where(table.c.id == key.id, table.c.hash == key.hash)
        values = {"hash": hash, "hashed_with": hashed_with}
        async with self._database.write() as connection:
            await connection.execute(changed.values(values))
        return replace(key, hash=hash)

    async def count_live(self, organization_id: str) -> int:
        """The number of keys that are neither revoked nor expired."""
        columns, now = tables.keys.c, micros(self._clock())
        query = select(func.count()).where(
            columns.organization_id == organization_id,
            columns.revoked_at.is_(None),
            or_(columns.expires_at.is_(None), columns.expires_at > now),
        )
        async with self._database.read() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def find(self, key_id: str) -> KeyRecord | None:
        """The key of this id in any organization, e.g. the maker of a client token."""
        return await self._find(tables.keys.c.id == key_id)

    async def find_all(self, key_ids: Collection[str]) -> Sequence[KeyRecord]:
        """The keys of these ids, as `find` finds them, in any order."""
        found: list[KeyRecord] = []
        for few in few_at_once(list(key_ids)):
            found += await self._find_where(tables.keys.c.id.in_(few))
        return found

    async def _find(self, where: ColumnElement[bool]) -> KeyRecord | None:
        found = await self._find_where(where)
        return found[0] if found else None

    async def _find_where(self, where: ColumnElement[bool]) -> Sequence[KeyRecord]:
        disabled = tables.organizations.c.disabled_at.label("organization_disabled_at")
        query = select(tables.keys, disabled).join(tables.organizations).where(where)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [_key(row) for row in rows]

    async def list(
        self, organization_id: str, *, limit: int = 50, cursor: str | None = None
    ) -> ListPage[KeyRecord]:
        """Newest first, revoked and expired ones included."""
        table = tables.keys
        query = select(table).where(table.c.organization_id == organization_id)
        query = by_creation(query, table, cursor)
        async with self._database.read() as connection:
            return await read_page(connection, query, limit, _key, _place)

    async def revoke(
        self, organization_id: str, key_id: str, actor: Actor | None = None
    ) -> KeyRecord | None:
        """The key, revoked now or before; None if the organization has no such key."""
        table, now = tables.keys, micros(self._clock())
        mine = and_(table.c.organization_id == organization_id, table.c.id == key_id)
        revoke = update(table).where(mine, table.c.revoked_at.is_(None)).values(revoked_at=now)
        async with self._database.write() as connection:
            if (await connection.execute(revoke)).rowcount:
                await keep_audit(connection, actor, "key.revoked", key_id, now)
            row = (await connection.execute(select(table).where(mine))).mappings().first()
        return None if row is None else _key(row)


def _insert_key(
    organization_id: str,
    created_at: float,
    *,
    name: str,
    hash: str,
    scopes: frozenset[str],
    expires_at: float | None = None,
    is_bootstrap: bool = False,
    hashed_with: str | None = None,
) -> Insert:
    row = {
        "id": new_id("key"),
        "organization_id": organization_id,
        "name": name,
        "hash": hash,
        "scopes": sorted(scopes),
        "created_at": micros(created_at),
        "expires_at": micros_or_none(expires_at),
        "revoked_at": None,
        "is_bootstrap": is_bootstrap,
        "hashed_with": hashed_with,
    }
    return insert(tables.keys).values(row).returning(tables.keys)


def _taken() -> Conflict:
    return Conflict("this key exists already")


def _place(item: Organization | KeyRecord) -> tuple[int, str]:
    return micros(item.created_at), item.id


def _organization(row: RowMapping) -> Organization:
    return Organization(
        id=row["id"],
        name=row["name"],
        created_at=seconds(row["created_at"]),
        disabled_at=seconds_or_none(row["disabled_at"]),
    )


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
        is_suspended=row.get("organization_disabled_at") is not None,
    )
