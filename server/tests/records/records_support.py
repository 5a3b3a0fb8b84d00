"""Statements past the repositories, on either backend."""

from __future__ import annotations

from typing import Any

from resonantgenesis_server.records.database import RecordsDatabase
from sqlalchemy import text


async def run_sql(
    database: RecordsDatabase, *statements: str, **values: Any
) -> list[tuple[Any, ...]]:
    """The rows of the last statement."""
    rows: list[tuple[Any, ...]] = []
    async with database.write() as connection:
        for statement in statements:
            result = await connection.execute(text(statement), values)
            rows = [tuple(row) for row in result.all()] if result.returns_rows else []
    return rows


async def run_sql_at(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """The same for a store that is not open."""
    database = await RecordsDatabase.open(url)
    try:
        return await run_sql(database, *statements)
    finally:
        await database.close()
