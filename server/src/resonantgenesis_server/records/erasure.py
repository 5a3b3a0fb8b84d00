"""Removes what is kept of a person, or of a whole organization, across the tables."""

from __future__ import annotations

import json

from sqlalchemy import delete, func, or_, select, update

from . import tables
from .database import RecordsDatabase


class ErasureRepository:
    """The guarantees are those of `base`."""

    def __init__(self, database: RecordsDatabase) -> None:
        self._database = database

    async def forget_subject(self, organization_id: str, subject: str) -> tuple[int, int]:
        """Take the subject's name from its usage, and delete the answers that its Idempotency-Keys
        kept; how many rows of each. The numbers of the usage stay: they are the organization's."""
        usage, kept = tables.usage, tables.idempotency
        unnamed = update(usage).where(
            usage.c.organization_id == organization_id, usage.c.subject == subject
        )
        # A token that is bound to more than a subject has a scope that begins with it.
        bound = json.dumps([subject])[:-1] + ","
        own = delete(kept).where(
            kept.c.organization_id == organization_id,
            # Not LIKE: for SQLite `Ann` is like `ann`.
            or_(
                kept.c.subject == subject,
                func.substr(kept.c.subject, 1, len(bound)) == bound,
            ),
        )
        async with self._database.write() as connection:
            turns = (await connection.execute(unnamed.values(subject=""))).rowcount
            answers = (await connection.execute(own)).rowcount
        return turns, answers

    async def remove_organization(self, organization_id: str) -> None:
        """Delete every row of the organization, in one transaction. Content of its files is
        collected later."""
        hooks = select(tables.webhooks.c.id).where(
            tables.webhooks.c.organization_id == organization_id
        )
        deliveries = tables.webhook_deliveries
        async with self._database.write() as connection:
            await connection.execute(delete(deliveries).where(deliveries.c.webhook_id.in_(hooks)))
            for table in reversed(tables.metadata.sorted_tables):
                if table is tables.organizations:
                    query = delete(table).where(table.c.id == organization_id)
                elif "organization_id" in table.c:
                    query = delete(table).where(table.c.organization_id == organization_id)
                else:
                    continue
                await connection.execute(query)
