"""The usage of turns: rows that follow the log's `billing.usage.recorded` events, and reports.

The log is the truth. The guarantees are those of `base`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from typing import Any, Literal, NamedTuple, TypeAlias

from sqlalchemy import (
    CTE,
    ColumnElement,
    Insert,
    RowMapping,
    Select,
    Table,
    bindparam,
    delete,
    exists,
    func,
    select,
    true,
    update,
)
from sqlalchemy.sql.dml import ReturningInsert, ReturningUpdate

from ..model.errors import InvalidRequest
from . import tables
from .base import UNSET, ListPage, Unset
from .database import RecordsDatabase, few_at_once
from .files import Owner
from .paging import behind, decode_cursor, encode_cursor
from .sessions import DELETED
from .tables import micros, seconds

GroupBy = Literal["day", "agent", "key", "subject", "session", "turn"]


@dataclass(frozen=True, slots=True)
class UsageRow:
    """The usage of one turn. `key_id` is the API key that started it, `status` how it ended (None:
    unknown), `ended_at` the time at which its `done` was committed."""

    organization_id: str
    session_id: str
    turn: int
    agent_id: str
    key_id: str
    subject: str | None
    status: str | None
    input_tokens: int
    output_tokens: int
    steps: int
    duration_ms: int
    ended_at: float


@dataclass(frozen=True, slots=True)
class UsagePlace:
    """How far the rows of an organization follow its events: up to `position` of the log's `epoch`.

    `limit_month` is the newest month (`2026-02`) with a billing.limit.reached among the events.
    """

    epoch: str
    position: int
    limit_month: str | None = None


class PlaceMove(NamedTuple):
    """`behind`: see `UsageRepository.take_in`."""

    organization_id: str
    behind: UsagePlace | None
    place: UsagePlace


class PlaceMoved(Exception):
    """Another process has taken usage in meanwhile."""


@dataclass(frozen=True, slots=True)
class UsageSums:
    """The sums over a number of turns; times in milliseconds."""

    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    steps: int = 0
    duration_ms: int = 0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class UsageGroup:
    """The sums over the turns with the same `names`, e.g. `{"agent_id": "guide"}`."""

    names: Mapping[str, Any]
    sums: UsageSums


@dataclass(frozen=True, slots=True)
class UsageReport:
    """One page of groups, and the sums over all groups, from one snapshot of the rows."""

    page: ListPage[UsageGroup]
    totals: UsageSums


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """The turns that ended from `since` (inclusive) to `until` (exclusive), seconds since 1970, and
    have these fields. A field that is None lets every turn through."""

    since: float
    until: float | None = None
    fields: Mapping[str, str | None] = field(default_factory=dict)


#: The names that `UsageFilter.fields` may have.
FIELDS = ("agent_id", "key_id", "subject", "session_id")


#: Turns that `UsageRepository.ended` counts at most.
MOST_COUNTED = 10_000


@dataclass(frozen=True, slots=True)
class EndedTurns:
    """Turns by their sort keys: when each ended, in microseconds since 1970, its session, its
    number; and how many there are, up to MOST_COUNTED."""

    keys: Sequence[tuple[int, str, int]]
    count: int


_SUMS = ("turns", "input_tokens", "output_tokens", "steps", "duration_ms")
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class _Group:
    """`order`: the columns that name a group and sort the groups, with their types. `more`: columns
    with one value per group. `names` makes the names that callers see."""

    order: Mapping[str, type]
    names: Callable[[RowMapping], dict[str, Any]]
    more: Sequence[str] = ()
    newest_first: bool = False


def _by_id(column: str) -> _Group:
    return _Group({column: str}, lambda row: {column: row[column] or None})


def _day(row: RowMapping) -> dict[str, Any]:
    return {"day": (_EPOCH + timedelta(days=row["day"])).isoformat()}


def _session(row: RowMapping) -> dict[str, Any]:
    names = {name: row[name] for name in ("session_id", "agent_id")}
    return names | {"subject": row["subject"] or None}


def _turn(row: RowMapping) -> dict[str, Any]:
    return _session(row) | {
        "turn": row["turn"],
        "key_id": row["key_id"],
        "status": row["status"] or None,
        "ended_at": seconds(row["ended_at"]),
    }


_GROUPS: Mapping[GroupBy, _Group] = {
    "day": _Group({"day": int}, _day, newest_first=True),
    "agent": _by_id("agent_id"),
    "key": _by_id("key_id"),
    "subject": _by_id("subject"),
    "session": _Group({"session_id": str}, _session, more=("agent_id", "subject")),
    "turn": _Group(
        {"ended_at": int, "session_id": str, "turn": int},
        _turn,
        more=("agent_id", "key_id", "subject", "status"),
        newest_first=True,
    ),
}


def report_query(
    seen_by: Owner, wanted: UsageFilter, group_by: GroupBy, *, limit: int, cursor: str | None
) -> Select[Any]:
    """Rows of a group beside the totals; one row of totals alone where no group is left.

    Raises InvalidRequest for a cursor of another grouping.
    """
    group = _GROUPS[group_by]
    groups = _grouped(group, seen_by, wanted)
    totals = select(
        *(func.coalesce(func.sum(groups.c[name]), 0).label(f"all_{name}") for name in _SUMS)
    ).subquery("totals")
    order = [groups.c[name] for name in group.order]
    after: ColumnElement[bool] = true()
    if cursor is not None:
        after = behind(order, _place(group_by, group, cursor), group.newest_first)
    return (
        select(totals, groups)
        .select_from(totals.outerjoin(groups, after))
        .order_by(*(column.desc() if group.newest_first else column for column in order))
        .limit(limit + 1)
    )


def _grouped(group: _Group, seen_by: Owner, wanted: UsageFilter) -> CTE:
    table = tables.usage
    order = [table.c[name] for name in group.order]
    return (
        select(
            *order,
            *(func.min(table.c[name]).label(name) for name in group.more),
            func.count().label(_SUMS[0]),
            *(func.sum(table.c[name]).label(name) for name in _SUMS[1:]),
        )
        .where(*_conditions(seen_by, wanted))
        .group_by(*order)
        .cte("groups")
    )


def _conditions(seen_by: Owner, wanted: UsageFilter) -> list[ColumnElement[bool]]:
    columns = tables.usage.c
    found = [
        columns.organization_id == seen_by.organization_id,
        columns.ended_at >= micros(wanted.since),
    ]
    if wanted.until is not None:
        found.append(columns.ended_at < micros(wanted.until))
    # Both the caller's own bounds and the filter: who asks for another's turns finds nothing.
    bound = {name: getattr(seen_by, name, None) for name in FIELDS}
    for fields in (bound, wanted.fields):
        found += [columns[name] == value for name, value in fields.items() if value is not None]
    return found


def _place(group_by: GroupBy, group: _Group, cursor: str) -> tuple[Any, ...]:
    named, *place = decode_cursor(cursor, str, *group.order.values())
    if named != group_by:
        raise InvalidRequest.field("cursor", "is of another group_by")
    return tuple(place)


def report_of(rows: Sequence[RowMapping], group_by: GroupBy, limit: int) -> UsageReport:
    """The report in the rows of `report_query`."""
    group = _GROUPS[group_by]
    totals = _sums(rows[0], "all_")
    found = [row for row in rows if row["turns"] is not None]
    groups = [UsageGroup(group.names(row), _sums(row)) for row in found[:limit]]
    if len(found) <= limit:
        return UsageReport(ListPage(groups), totals)
    last = found[limit - 1]
    cursor = encode_cursor(group_by, *(last[name] for name in group.order))
    return UsageReport(ListPage(groups, cursor), totals)


def _sums(row: RowMapping, prefix: str = "") -> UsageSums:
    # PostgreSQL's sums of integers are decimals.
    return UsageSums(*(int(row[prefix + name]) for name in _SUMS))


_DAY = 86_400_000_000
_KEY = ("organization_id", "session_id", "turn")


#: Tokens, and how far the rows follow the events; None: not begun.
Standing: TypeAlias = tuple[int, UsagePlace | None]


class UsageRepository:
    def __init__(self, database: RecordsDatabase) -> None:
        self._database = database

    async def place(self, organization_id: str) -> UsagePlace | None:
        """How far the organization's rows follow its events; None: not begun."""
        columns = tables.usage_places.c
        query = select(columns.epoch, columns.position, columns.limit_month).where(
            columns.organization_id == organization_id
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else UsagePlace(*row)

    async def take_in(
        self,
        organization_id: str,
        rows: Sequence[UsageRow],
        place: UsagePlace,
        *,
        behind: UsagePlace | Unset | None = UNSET,
    ) -> None:
        """Keep the rows and the place that they reach, in one transaction. A row replaces that of
        the same turn, so that events which are read again double nothing.

        With `behind` the rows follow that place (None: none yet). Raises `PlaceMoved`, and keeps
        nothing, where another process has written another place since.
        """
        if any(row.organization_id != organization_id for row in rows):
            raise ValueError("rows of another organization")
        reached = {
            "organization_id": organization_id,
            "epoch": place.epoch,
            "position": place.position,
            "limit_month": place.limit_month,
        }
        async with self._database.write() as connection:
            # The place first: its row is the lock that makes processes take turns.
            if isinstance(behind, Unset):
                await connection.execute(self._upsert(tables.usage_places, _KEY[:1]), reached)
            elif (await connection.execute(self._move(behind, reached), reached)).first() is None:
                raise PlaceMoved(organization_id)
            if rows:
                turns = self._upsert(tables.usage, _KEY)
                await connection.execute(turns, [_row(row) for row in rows])

    async def reach(self, moves: Sequence[PlaceMove]) -> None:
        """Keep places that the rows reach already. Where another process has written a place since
        nothing changes."""
        table = tables.usage_places
        begin = tables.insert_place(self._database.dialect, table).on_conflict_do_nothing()
        move = (
            update(table)
            .where(
                table.c.organization_id == bindparam("of"),
                table.c.epoch == bindparam("from_epoch"),
                table.c.position == bindparam("from_position"),
            )
            .values({name: bindparam(name) for name in ("epoch", "position", "limit_month")})
        )
        begun, moved = list[dict[str, Any]](), list[dict[str, Any]]()
        for name, former, place in sorted(moves, key=lambda each: each.organization_id):
            if former is None:
                begun.append({"organization_id": name, **asdict(place)})
            else:
                known = {"of": name, "from_epoch": former.epoch, "from_position": former.position}
                moved.append(known | asdict(place))
        for query, rows in ((begin, begun), (move, moved)):
            if rows:
                async with self._database.write() as connection:
                    await connection.execute(query, rows)

    def _move(
        self, behind: UsagePlace | None, reached: Mapping[str, Any]
    ) -> ReturningInsert[Any] | ReturningUpdate[Any]:
        """One row comes back where the place was `behind`."""
        table = tables.usage_places
        if behind is None:
            query = tables.insert_place(self._database.dialect, table)
            return query.on_conflict_do_nothing().returning(table.c.epoch)
        return (
            update(table)
            .where(
                table.c.organization_id == reached["organization_id"],
                table.c.epoch == behind.epoch,
                table.c.position == behind.position,
            )
            .values(reached)
            .returning(table.c.epoch)
        )

    def _upsert(self, table: Table, key: Sequence[str]) -> Insert:
        is_place = table is tables.usage_places
        make = tables.insert_place if is_place else tables.insert_into
        query = make(self._database.dialect, table)
        others = {c.name: query.excluded[c.name] for c in table.c if c.name not in key}
        return query.on_conflict_do_update(index_elements=list(key), set_=others)

    async def report(
        self,
        seen_by: Owner,
        wanted: UsageFilter,
        group_by: GroupBy,
        *,
        limit: int = 50,
        cursor: str | None = None,
    ) -> UsageReport:
        """Grouped sums of what the caller sees. Days and turns newest first, the others by id."""
        query = report_query(seen_by, wanted, group_by, limit=limit, cursor=cursor)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return report_of(rows, group_by, limit)

    async def ended(
        self,
        seen_by: Owner,
        wanted: UsageFilter,
        *,
        statuses: Sequence[str] = (),
        after: tuple[int, str, int] | None = None,
        limit: int = 50,
    ) -> EndedTurns:
        """Turns that have ended, of sessions that are there, the last first. `statuses`: only
        those that ended so; `after`: behind this turn's sort key."""
        columns, sessions = tables.usage.c, tables.sessions.c
        there = exists().where(sessions.id == columns.session_id, sessions.status != DELETED)
        conditions = [*_conditions(seen_by, wanted), there]
        if statuses:
            conditions.append(columns.status.in_(statuses))
        order = (columns.ended_at, columns.session_id, columns.turn)
        counted = select(columns.turn).where(*conditions).limit(MOST_COUNTED).subquery()
        query = select(*order).where(*conditions)
        if after is not None:
            query = query.where(behind(order, after, True))
        query = query.order_by(*(column.desc() for column in order)).limit(limit)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
            count = await connection.scalar(select(func.count()).select_from(counted))
        return EndedTurns([(at, name, turn) for at, name, turn in rows], int(count or 0))

    async def standing(self, organization_id: str, since: float) -> Standing:
        """That of one organization; see `standings`."""
        return (await self.standings([organization_id], since)).get(organization_id, (0, None))

    async def standings(self, organization_ids: Sequence[str], since: float) -> dict[str, Standing]:
        """Input and output tokens of the turns that ended since `since`, and the organization's
        place: both of one moment, whatever other processes take in. None of an organization that
        has not begun."""
        columns, places = tables.usage.c, tables.usage_places.c
        found: dict[str, Standing] = {}
        for part in few_at_once(organization_ids):
            tokens = (
                select(
                    columns.organization_id,
                    func.sum(columns.input_tokens + columns.output_tokens).label("tokens"),
                )
                .where(columns.organization_id.in_(part), columns.ended_at >= micros(since))
                .group_by(columns.organization_id)
                .subquery()
            )
            query = (
                select(
                    places.organization_id,
                    tokens.c.tokens,
                    places.epoch,
                    places.position,
                    places.limit_month,
                )
                .outerjoin_from(
                    tables.usage_places, tokens, places.organization_id == tokens.c.organization_id
                )
                .where(places.organization_id.in_(part))
            )
            async with self._database.read() as connection:
                rows = (await connection.execute(query)).all()
            found |= {row[0]: (int(row[1] or 0), UsagePlace(*row[2:])) for row in rows}
        return found

    async def purge(self, before: float, limit: int = 1_000) -> int:
        """Delete up to `limit` rows of turns that ended before `before`; return their number."""
        table = tables.usage
        old = select(*(table.c[name] for name in _KEY)).where(table.c.ended_at < micros(before))
        async with self._database.write() as connection:
            rows = (await connection.execute(old.order_by(table.c.ended_at).limit(limit))).all()
            for row in rows:
                named = (table.c[name] == value for name, value in zip(_KEY, row, strict=True))
                await connection.execute(delete(table).where(*named))
        return len(rows)


def _row(row: UsageRow) -> dict[str, Any]:
    ended_at = micros(row.ended_at)
    return {
        "organization_id": row.organization_id,
        "session_id": row.session_id,
        "turn": row.turn,
        "agent_id": row.agent_id,
        "key_id": row.key_id,
        "subject": row.subject or "",
        "status": row.status or "",
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "steps": row.steps,
        "duration_ms": row.duration_ms,
        "ended_at": ended_at,
        "day": ended_at // _DAY,
    }
