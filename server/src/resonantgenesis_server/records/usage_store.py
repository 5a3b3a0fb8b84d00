"""The rows of what turns took: taken in once, added up in the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Table, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql.dml import Insert as PostgresInsert
from sqlalchemy.dialects.sqlite.dml import Insert as SqliteInsert

from . import tables
from .database import Database
from .files import Owner
from .tables import micros
from .usage import GroupBy, UsagePlace, UsageReport, UsageRow, UsageWanted
from .usage_report import report_of, report_query

_DAY = 86_400_000_000
_KEY = ("organization_id", "session_id", "turn")


class UsageRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def place(self, organization_id: str) -> UsagePlace | None:
        columns = tables.usage_places.c
        query = select(columns.epoch, columns.position, columns.limit_month).where(
            columns.organization_id == organization_id
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else UsagePlace(*row)

    async def take_in(
        self, organization_id: str, rows: Sequence[UsageRow], place: UsagePlace
    ) -> None:
        if any(row.organization_id != organization_id for row in rows):
            raise ValueError("rows of another organization")
        reached = {
            "organization_id": organization_id,
            "epoch": place.epoch,
            "position": place.position,
            "limit_month": place.limit_month,
        }
        async with self._database.write() as connection:
            if rows:
                turns = self._upsert(tables.usage, _KEY)
                await connection.execute(turns, [_row(row) for row in rows])
            places = self._upsert(tables.usage_places, _KEY[:1])
            await connection.execute(places, [reached])

    def _upsert(self, table: Table, key: Sequence[str]) -> SqliteInsert | PostgresInsert:
        make = postgresql.insert if self._database.dialect == "postgresql" else sqlite.insert
        query = make(table)
        others = {c.name: query.excluded[c.name] for c in table.c if c.name not in key}
        return query.on_conflict_do_update(index_elements=list(key), set_=others)

    async def report(
        self,
        seen_by: Owner,
        wanted: UsageWanted,
        group_by: GroupBy,
        *,
        limit: int = 50,
        cursor: str | None = None,
    ) -> UsageReport:
        query = report_query(seen_by, wanted, group_by, limit=limit, cursor=cursor)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return report_of(rows, group_by, limit)

    async def tokens(self, organization_id: str, since: float) -> int:
        columns = tables.usage.c
        query = select(func.sum(columns.input_tokens + columns.output_tokens)).where(
            columns.organization_id == organization_id, columns.ended_at >= micros(since)
        )
        async with self._database.read() as connection:
            return int((await connection.execute(query)).scalar() or 0)

    async def purge(self, before: float, limit: int = 1_000) -> int:
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
