"""A new store is as one that came through every version, and an older one is brought up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from resonantgenesis_server.records import migrate
from resonantgenesis_server.records.base import ListPlace
from resonantgenesis_server.records.database import RecordsDatabase
from resonantgenesis_server.records.files import Content, Owner
from resonantgenesis_server.records.store import Records
from resonantgenesis_server.records.tables import metadata
from resonantgenesis_server.records.upgrade import upgrade
from sqlalchemy import Connection, inspect
from sqlalchemy.schema import CreateSchema

from .records_support import run_sql, run_sql_at

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sqlite", "postgresql"])
async def stores(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[RecordsDatabase, RecordsDatabase]]:
    """A new store, and one that went through every version there was."""
    urls = [f"sqlite:///{tmp_path / name}" for name in ("new.db", "steps.db")]
    if request.param == "postgresql":
        server = request.getfixturevalue("postgres_server")
        urls = [server.database() for _ in range(2)]
    await (await Records.open(urls[0])).close()
    new, stepped = [await RecordsDatabase.open(url) for url in urls]
    async with stepped.write() as connection:
        if request.param == "postgresql":
            await connection.execute(CreateSchema("resonantgenesis_records"))
        await connection.run_sync(upgrade)
    yield new, stepped
    await new.close()
    await stepped.close()


async def described(database: RecordsDatabase) -> dict[str, Any]:
    async with database.read() as connection:
        return await connection.run_sync(_described)


def _described(connection: Connection) -> dict[str, Any]:
    """What a database tells of its tables, in an order of ours."""
    found: dict[str, Any] = {}
    inspector = inspect(connection)
    for table in inspector.get_table_names():
        columns = [
            {**column, "type": str(column["type"])} for column in inspector.get_columns(table)
        ]
        named = (
            inspector.get_indexes(table),
            inspector.get_foreign_keys(table),
            inspector.get_unique_constraints(table),
        )
        # An INSERT without names goes by the columns' own order.
        found[table] = [
            columns,
            inspector.get_pk_constraint(table),
            *(sorted(one, key=lambda each: str(each["name"])) for one in named),
        ]
    numbered = "SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'"
    if connection.dialect.name == "postgresql":
        numbered = (
            "SELECT table_name FROM information_schema.columns"
            " WHERE table_schema = current_schema() AND column_default LIKE 'nextval%'"
        )
    found["numbered"] = connection.exec_driver_sql(numbered).scalars().all()
    version = "SELECT version_num FROM alembic_version"
    found["version"] = connection.exec_driver_sql(version).scalars().all()
    return found


async def test_the_steps_lead_to_the_tables(
    stores: tuple[RecordsDatabase, RecordsDatabase],
) -> None:
    def differences(connection: Connection) -> Any:
        return compare_metadata(MigrationContext.configure(connection), metadata)

    async with stores[1].read() as connection:
        assert await connection.run_sync(differences) == []


async def test_a_new_store_is_as_one_that_came_through_every_version(
    stores: tuple[RecordsDatabase, RecordsDatabase],
) -> None:
    new, stepped = stores
    assert await described(new) == await described(stepped)
    assert (await described(new))["numbered"] == ["outbox"]
    assert (await described(new)).keys() > {str(table) for table in metadata.tables.values()}


def test_the_revisions_are_those_of_the_steps() -> None:
    steps = ScriptDirectory(str(Path(migrate.__file__).parent)).walk_revisions()
    assert [step.revision for step in steps] == migrate.REVISIONS[::-1]


def test_a_store_of_this_version_is_made_and_opened_without_alembic(tmp_path: Path) -> None:
    program = """\
import asyncio, sys
from resonantgenesis_server.records.database import RecordsDatabase
from resonantgenesis_server.records.store import Records

async def main():
    for _ in "made", "opened":
        await (await Records.open(sys.argv[1])).close()

asyncio.run(main())
assert "alembic" not in sys.modules
"""
    url = f"sqlite:///{tmp_path / 'records.db'}"
    subprocess.run([sys.executable, "-c", program, url], check=True, timeout=60)


_WITHOUT_ASKS = (
    "DROP INDEX ix_sessions_wakes_at",
    "ALTER TABLE sessions DROP COLUMN wakes_at",
    "ALTER TABLE sessions DROP COLUMN waiting",
)
_WITHOUT_ENDPOINTS = (
    "ALTER TABLE agents DROP COLUMN endpoint",
    "ALTER TABLE agents DROP COLUMN team",
)
_WITHOUT_WEBHOOKS = ("DROP TABLE webhooks", "DROP TABLE webhook_deliveries")
_WITHOUT_SECRETS = ("ALTER TABLE api_keys DROP COLUMN hashed_with",)
_WITHOUT_SEARCH = (
    "ALTER TABLE sessions DROP COLUMN first_goal",
    "ALTER TABLE sessions DROP COLUMN search_text",
)


async def test_a_store_of_an_older_version_is_brought_up(url: str) -> None:
    first = await Records.open(url)
    made = await first.organizations.create("kept")
    new = await described(first._database)
    await run_sql(
        first._database,
        "DROP TABLE outbox",
        "DROP TABLE files",
        "DROP TABLE blobs",
        "DROP TABLE usage",
        "DROP TABLE usage_places",
        "DROP TABLE session_places",
        *_WITHOUT_ASKS,
        *_WITHOUT_ENDPOINTS,
        *_WITHOUT_WEBHOOKS,
        *_WITHOUT_SEARCH,
        *_WITHOUT_SECRETS,
        "ALTER TABLE idempotency DROP COLUMN thing",
        "ALTER TABLE organizations DROP COLUMN disabled_at",
        "ALTER TABLE api_keys ADD COLUMN is_admin BOOLEAN",
        "UPDATE alembic_version SET version_num = '0001'",
    )
    await first.close()
    second = await Records.open(url)
    assert await second.organizations.first() == made
    assert await second.outbox.pending() == []
    assert await described(second._database) == new
    await second.close()


async def test_files_of_an_older_version_have_their_blobs(url: str) -> None:
    first = await Records.open(url)
    organization = await first.organizations.create("kept")
    content = Content("a", "x/y", 7, "ab" * 32)
    for _ in range(2):
        await first.files.create(Owner(organization.id), content, blob="b")
    await first.close()
    older = "UPDATE alembic_version SET version_num = '0007'"
    since = (
        *_WITHOUT_ASKS,
        *_WITHOUT_ENDPOINTS,
        *_WITHOUT_WEBHOOKS,
        *_WITHOUT_SEARCH,
        *_WITHOUT_SECRETS,
    )
    await run_sql_at(url, "DROP TABLE blobs", *since, older)
    second = await Records.open(url)
    assert await second.files.blob_of("ab" * 32) == "ab" * 32
    assert await second.files.release(["ab" * 32]) == []
    await second.close()


async def test_the_list_of_sessions_of_an_older_version_is_written_anew(url: str) -> None:
    first = await Records.open(url)
    organization = await first.organizations.create("kept")
    await first.sessions.upsert_many([], [ListPlace(organization.id, "epoch", 7)])
    await first.close()
    older = "UPDATE alembic_version SET version_num = '0013'"
    await run_sql_at(url, *_WITHOUT_SEARCH, *_WITHOUT_SECRETS, older)
    second = await Records.open(url)
    assert await second.sessions.places() == []
    await second.close()
