"""Events on their way from a transaction of the records to the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import RowMapping, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..model.events import NewEvent
from . import tables
from .database import RecordsDatabase


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """An event that the log does not have yet; rows are in the order of their ids."""

    id: int
    organization_id: str
    event: NewEvent


async def keep_event(
    connection: AsyncConnection, organization_id: str, event: NewEvent, now: int
) -> None:
    """Keep an event within the caller's transaction, at `now` (microseconds since 1970).

    To be called after the change that the event is about. The next change of the row, by any
    process, then gets the later number.
    """
    await keep_events(connection, [(organization_id, event)], now)


async def keep_events(
    connection: AsyncConnection, events: Sequence[tuple[str, NewEvent]], now: int
) -> None:
    """Like `keep_event`, for events of several organizations, in this order; for none as well."""
    rows = [
        {
            "organization_id": organization_id,
            "event_id": event.id,
            "type": event.type,
            "body": {"data": event.data, "metadata": event.metadata},
            "created_at": now,
        }
        for organization_id, event in events
    ]
    if rows:
        await connection.execute(insert(tables.outbox), rows)


class OutboxRepository:
    """Events that wait for the log. Each gets there exactly once: a row stays until the log has the
    event, and the log drops an event whose id it has."""

    def __init__(self, database: RecordsDatabase) -> None:
        self._database = database

    async def pending(self, limit: int = 32) -> Sequence[OutboxRow]:
        """The oldest rows, in order; those of one agent are in the order of its changes."""
        query = select(tables.outbox).order_by(tables.outbox.c.id).limit(limit)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [_row(row) for row in rows]

    async def done(self, ids: Sequence[int]) -> None:
        """Remove these rows: the log has their events."""
        if not ids:
            return
        query = delete(tables.outbox).where(tables.outbox.c.id.in_(ids))
        async with self._database.write() as connection:
            await connection.execute(query)


def _row(row: RowMapping) -> OutboxRow:
    body = row["body"]
    event = NewEvent(row["event_id"], row["type"], body["data"], body["metadata"])
    return OutboxRow(row["id"], row["organization_id"], event)
