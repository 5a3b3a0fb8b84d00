"""Grouped sums as one statement: a page of the groups and the totals of all are of one view."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy import CTE, ColumnElement, RowMapping, Select, func, literal, select, tuple_

from ..model.errors import InvalidRequest
from . import tables
from .base import Page
from .files import Owner
from .paging import decode_cursor, encode_cursor
from .tables import micros, seconds
from .usage import FIELDS, GroupBy, UsageGroup, UsageReport, UsageSums, UsageWanted

_SUMS = ("turns", "input_tokens", "output_tokens", "steps", "duration_ms")
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class _Group:
    """`order` are the columns that name a group and sort the groups, of these types; `more` are
    the same for all rows of a group; `names` is what callers see of them."""

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
    seen_by: Owner, wanted: UsageWanted, group_by: GroupBy, *, limit: int, cursor: str | None
) -> Select[Any]:
    """Rows of groups beside the totals; one row of totals alone where no group is left.

    Raises InvalidRequest for a cursor that is none of this grouping.
    """
    group = _GROUPS[group_by]
    groups = _grouped(group, seen_by, wanted)
    totals = select(
        *(func.coalesce(func.sum(groups.c[name]), 0).label(f"all_{name}") for name in _SUMS)
    ).subquery("totals")
    order = [groups.c[name] for name in group.order]
    after: ColumnElement[bool] = literal(True)
    if cursor is not None:
        place = tuple_(*(literal(part) for part in _place(group_by, group, cursor)))
        here = tuple_(*order)
        after = here < place if group.newest_first else here > place
    return (
        select(totals, groups)
        .select_from(totals.outerjoin(groups, after))
        .order_by(*(column.desc() if group.newest_first else column for column in order))
        .limit(limit + 1)
    )


def _grouped(group: _Group, seen_by: Owner, wanted: UsageWanted) -> CTE:
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


def _conditions(seen_by: Owner, wanted: UsageWanted) -> list[ColumnElement[bool]]:
    columns = tables.usage.c
    found = [
        columns.organization_id == seen_by.organization_id,
        columns.ended_at >= micros(wanted.since),
    ]
    if wanted.until is not None:
        found.append(columns.ended_at < micros(wanted.until))
    # Both what the caller is bound to and what it asks for: asking for another's finds nothing.
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
    """What the rows of `report_query` say."""
    group = _GROUPS[group_by]
    totals = _sums(rows[0], "all_")
    found = [row for row in rows if row["turns"] is not None]
    groups = [UsageGroup(group.names(row), _sums(row)) for row in found[:limit]]
    if len(found) <= limit:
        return UsageReport(Page(groups), totals)
    last = found[limit - 1]
    cursor = encode_cursor(group_by, *(last[name] for name in group.order))
    return UsageReport(Page(groups, cursor), totals)


def _sums(row: RowMapping, prefix: str = "") -> UsageSums:
    # PostgreSQL's sums of integers are decimals.
    return UsageSums(*(int(row[prefix + name]) for name in _SUMS))
