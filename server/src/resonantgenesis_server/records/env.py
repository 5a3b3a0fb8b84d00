"""Run by Alembic to migrate the connection that `migrate` hands over; never imported."""

from __future__ import annotations

from alembic import context

from resonantgenesis_server.records.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite can roll a schema change back; the caller has begun the transaction.
    transactional_ddl=True,
)
context.run_migrations()
