"""What the records know of the server's secret: which one is in use, and what was made with it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    RowMapping,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from ..model.errors import Conflict
from . import tables
from .audit import keep_audit
from .base import Actor, StoreUnusable
from .credentials import CredentialHasher, ServerSecret
from .database import Duplicate, RecordsDatabase
from .tables import micros, seconds
from .webhooks import new_revision

#: Names of the check values in the table of secrets, before the number of the rotation.
_IN_USE, _RETIRED = "secret-check", "secret-retired"
_MARK = "/"
_PAGE = 200
#: Keys that a report names.
NAMED_KEYS = 100
#: Seconds after a rotation in which its former secret cannot be retired: some node may still use
#: it. Nodes look every second.
SETTLE_SECONDS = 3.0

#: An endpoint with its secrets sealed anew; see `EndpointRecords.resealed`.
Reseal = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class SecretState:
    """`checks` of the secrets that are in use, the newest first, and of those that are `retired`;
    the number of the newest one, and since when it is in use, in seconds since 1970."""

    checks: Sequence[bytes]
    retired: frozenset[bytes]
    number: int = 1
    since: float | None = None


@dataclass(frozen=True, slots=True)
class UnusedKey:
    """A live key that was not used since the rotation, so its hash is under a former secret."""

    id: str
    organization_id: str
    name: str


@dataclass(frozen=True, slots=True)
class UnusedKeys:
    """Their number, and the first of them."""

    count: int = 0
    first: Sequence[UnusedKey] = ()


class ServerSecretRepository:
    """The guarantees are those of `base`."""

    def __init__(self, database: RecordsDatabase, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def state(self) -> SecretState:
        async with self._database.read() as connection:
            return await _read(connection)

    async def claim(self, check: bytes) -> None:
        """Let this be the secret of a store that knows none."""
        values = {"name": _IN_USE, "value": check, "created_at": micros(self._clock())}
        with contextlib.suppress(Duplicate):
            async with self._database.write() as connection:
                if not (await _read(connection)).checks:
                    await connection.execute(insert(tables.secrets).values(values))

    async def forget(self) -> None:
        """Take the store for one that knows no secret: all of its secrets are lost."""
        async with self._database.write() as connection:
            await connection.execute(delete(tables.secrets).where(_named(_IN_USE)))

    async def rotate(
        self, new: ServerSecret, current: ServerSecret, reseal: Reseal, actor: Actor | None = None
    ) -> None:
        """Make `new` the secret in the place of `current`, and seal again what is sealed, in one
        transaction. Raises `Conflict` unless `current` is the only one in use."""
        table, now = tables.secrets, micros(self._clock())
        try:
            async with self._database.write() as connection:
                await self._lock(connection)
                state = await _read(connection)
                if not state.checks:  # an embedded store that was never asked
                    values = {"name": _IN_USE, "value": current.check, "created_at": now}
                    await connection.execute(insert(table).values(values))
                elif list(state.checks) != [current.check]:
                    raise _changed()
                name = f"{_IN_USE}{_MARK}{state.number + 1}"
                values = {"name": name, "value": new.check, "created_at": now}
                await connection.execute(insert(table).values(values))
                await _reseal(connection, reseal)
                await keep_audit(connection, actor, "secret.rotated", new.id, now)
        except Duplicate:
            raise _changed() from None

    async def retire(
        self, current: ServerSecret, reseal: Reseal, actor: Actor | None = None
    ) -> UnusedKeys:
        """End the former secret, and revoke the keys that were not used since. Raises `Conflict`
        where there is none, or when it was in use a moment ago."""
        table, now = tables.secrets, micros(self._clock())
        async with self._database.write() as connection:
            await self._lock(connection)
            state = await _read(connection)
            if len(state.checks) < 2 or state.checks[0] != current.check:
                raise Conflict("there is no former secret to retire")
            if state.since is not None and micros(state.since + SETTLE_SECONDS) > now:
                raise Conflict(
                    f"the rotation is less than {SETTLE_SECONDS:g} seconds old; try again"
                )
            await _reseal(connection, reseal)
            unused = await _unused(connection, current.id, now)
            where = _is_unused(current.id, now)
            await connection.execute(update(tables.keys).where(where).values(revoked_at=now))
            for check in state.checks[1:]:
                query = update(table).where(_named(_IN_USE), table.c.value == check)
                name = f"{_RETIRED}{_MARK}{check.hex()}"
                await connection.execute(query.values(name=name))
            keys = [key.id for key in unused.first]
            details = {"revoked": unused.count, "keys": keys}
            await keep_audit(connection, actor, "secret.retired", current.id, now, **details)
        return unused

    async def unused(self, current: ServerSecret) -> UnusedKeys:
        """The live keys whose hash is not under the current secret."""
        async with self._database.read() as connection:
            return await _unused(connection, current.id, micros(self._clock()))

    async def _lock(self, connection: AsyncConnection) -> None:
        """Let nobody else change endpoints until the end of the transaction: rows that two
        transactions lock in different orders would end one of them."""
        if self._database.dialect == "postgresql":
            await connection.exec_driver_sql(
                "LOCK TABLE secrets, agents, webhooks IN SHARE ROW EXCLUSIVE MODE"
            )


async def check_secret(
    secrets: ServerSecretRepository, hasher: CredentialHasher, made_with: ServerSecret | None = None
) -> None:
    """Let the hasher use the secret that the store names. A store that knows none takes
    `made_with`, or stays as it is.

    Raises `StoreUnusable` for a hasher that does not know the store's secret.
    """
    if made_with is not None:
        await secrets.claim(made_with.check)
    state = await secrets.state()
    if not hasher.choose(state.checks, state.retired):
        raise StoreUnusable(
            "the secret is not the one that this store was made with; no API key would work"
        )


async def _read(connection: AsyncConnection) -> SecretState:
    table = tables.secrets
    query = select(table).where(or_(_named(_IN_USE), _named(_RETIRED)))
    found = (await connection.execute(query)).mappings().all()
    ended = frozenset(row["value"] for row in found if row["name"].startswith(_RETIRED))
    in_use = [row for row in found if row["value"] not in ended]
    in_use.sort(key=lambda row: _number(row["name"]), reverse=True)
    checks = [row["value"] for row in in_use]
    if not in_use:
        return SecretState(checks, ended)
    newest = in_use[0]
    return SecretState(checks, ended, _number(newest["name"]), seconds(newest["created_at"]))


def _named(name: str) -> ColumnElement[bool]:
    column = tables.secrets.c.name
    return or_(column == name, column.startswith(name + _MARK, autoescape=True))


def _number(name: str) -> int:
    _, mark, number = name.rpartition(_MARK)
    return int(number) if mark else 1


def _changed() -> Conflict:
    return Conflict("the secret was changed meanwhile; look at its state")


async def _reseal(connection: AsyncConnection, reseal: Reseal) -> None:
    """Seal the secrets of all endpoints anew, a page in one statement: nobody else writes to SQLite
    meanwhile."""
    for table in (tables.agents, tables.webhooks):
        keys = list(table.primary_key)
        one = and_(*(key == bindparam(f"of_{key.name}", type_=key.type) for key in keys))
        async for rows in _endpoints(connection, table):
            changes: list[dict[str, Any]] = []
            for row in rows:
                endpoint = dict(reseal(row["endpoint"]))
                if endpoint == row["endpoint"]:
                    continue
                change = {f"of_{key.name}": row[key.name] for key in keys} | {"endpoint": endpoint}
                if table is tables.webhooks:
                    change["revision"] = new_revision()  # the node that delivers reads it again
                changes.append(change)
            if changes:
                await connection.execute(update(table).where(one), changes)


async def _endpoints(
    connection: AsyncConnection, table: Table
) -> AsyncIterator[Sequence[RowMapping]]:
    """The rows that have an endpoint, in pages."""
    keys = list(table.primary_key)
    query = select(*keys, table.c.endpoint).where(table.c.endpoint.is_not(None))
    query = query.order_by(*keys).limit(_PAGE)
    page = query
    while rows := (await connection.execute(page)).mappings().all():
        yield rows
        last = [rows[-1][key.name] for key in keys]
        page = query.where(tuple_(*keys) > tuple_(*last))


def _is_unused(secret_id: str, now: int) -> ColumnElement[bool]:
    columns = tables.keys.c
    return and_(
        columns.revoked_at.is_(None),
        or_(columns.expires_at.is_(None), columns.expires_at > now),
        or_(columns.hashed_with.is_(None), columns.hashed_with != secret_id),
    )


async def _unused(connection: AsyncConnection, secret_id: str, now: int) -> UnusedKeys:
    columns, where = tables.keys.c, _is_unused(secret_id, now)
    count = await connection.scalar(select(func.count()).select_from(tables.keys).where(where))
    query = (
        select(columns.id, columns.organization_id, columns.name)
        .where(where)
        .order_by(columns.created_at, columns.id)
        .limit(NAMED_KEYS)
    )
    rows = (await connection.execute(query)).mappings().all()
    return UnusedKeys(int(count or 0), [UnusedKey(**row) for row in rows])
