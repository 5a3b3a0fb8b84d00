"""A new store is as one that came through every version, and an older one is brought up."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from resonantgenesis_server.records import migrate
from resonantgenesis_server.records.files import Content, Owner
from resonantgenesis_server.records.store import Records
from resonantgenesis_server.records.tables import metadata
from resonantgenesis_server.records.upgrade import upgrade
from sqlalchemy import Engine, create_engine, inspect

pytestmark = pytest.mark.anyio


@pytest.fixture
def stepped(tmp_path: Path) -> Engine:
    """A store that went through every version there was."""
    engine = create_engine(f"sqlite:///{tmp_path / 'steps.db'}")
    with engine.begin() as connection:
        upgrade(connection)
    return engine


def described(engine: Engine) -> dict[str, Any]:
    """What a database tells of its tables, in an order of ours."""
    found: dict[str, Any] = {}
    with engine.connect() as connection:
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
        found["numbered"] = connection.exec_driver_sql(numbered).scalars().all()
        version = "SELECT version_num FROM alembic_version"
        found["version"] = connection.exec_driver_sql(version).scalars().all()
    engine.dispose()
    return found


async def test_the_steps_lead_to_the_tables(stepped: Engine) -> None:
    with stepped.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    stepped.dispose()


async def test_a_new_store_is_as_one_that_came_through_every_version(
    records: Records, stepped: Engine, tmp_path: Path
) -> None:
    new = described(create_engine(f"sqlite:///{tmp_path / 'records.db'}"))
    assert new == described(stepped)
    assert new["numbered"] == ["outbox"]
    assert new.keys() > {str(table) for table in metadata.tables.values()}


def test_the_revisions_are_those_of_the_steps() -> None:
    steps = ScriptDirectory(str(Path(migrate.__file__).parent)).walk_revisions()
    assert [step.revision for step in steps] == migrate.REVISIONS[::-1]


def test_a_store_of_this_version_is_made_and_opened_without_alembic(tmp_path: Path) -> None:
    program = """\
import asyncio, sys
from resonantgenesis_server.records.store import Records

async def main():
    for _ in "made", "opened":
        await (await Records.open(sys.argv[1])).close()

asyncio.run(main())
assert "alembic" not in sys.modules
"""
    url = f"sqlite:///{tmp_path / 'records.db'}"
    subprocess.run([sys.executable, "-c", program, url], check=True, timeout=60)


async def test_a_store_of_an_older_version_is_brought_up(url: str, tmp_path: Path) -> None:
    first = await Records.open(url)
    made = await first.organizations.create("kept")
    await first.close()
    new = described(create_engine(url))
    with sqlite3.connect(tmp_path / "records.db") as connection:
        connection.execute("DROP TABLE outbox")
        connection.execute("DROP TABLE files")
        connection.execute("DROP TABLE blobs")
        connection.execute("DROP TABLE usage")
        connection.execute("DROP TABLE usage_places")
        connection.execute("DROP TABLE session_places")
        connection.execute("ALTER TABLE idempotency DROP COLUMN thing")
        connection.execute("ALTER TABLE organizations DROP COLUMN disabled_at")
        connection.execute("ALTER TABLE api_keys ADD COLUMN is_admin BOOLEAN")
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    second = await Records.open(url)
    assert await second.organizations.first() == made
    assert await second.outbox.pending() == []
    await second.close()
    assert described(create_engine(url)) == new


async def test_files_of_an_older_version_have_their_blobs(url: str, tmp_path: Path) -> None:
    first = await Records.open(url)
    organization = await first.organizations.create("kept")
    content = Content("a", "x/y", 7, "ab" * 32)
    for _ in range(2):
        await first.files.create(Owner(organization.id), content, blob="b")
    await first.close()
    with sqlite3.connect(tmp_path / "records.db") as connection:
        connection.execute("DROP TABLE blobs")
        connection.execute("UPDATE alembic_version SET version_num = '0007'")
    second = await Records.open(url)
    assert await second.files.blob_of("ab" * 32) == "ab" * 32
    assert await second.files.release(["ab" * 32]) == []
    await second.close()
