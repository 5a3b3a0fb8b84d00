"""Opening, refusing: what an operator sees when the store cannot be used."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import anyio
import pytest
from resonantgenesis_server.records.base import RecordsTooNew, StoreUnusable
from resonantgenesis_server.records.database import RecordsDatabase
from resonantgenesis_server.records.store import Records

from .records_support import run_sql_at

pytestmark = pytest.mark.anyio


async def test_what_was_committed_is_there_after_reopening(url: str) -> None:
    first = await Records.open(url)
    made = await first.organizations.create("kept")
    await first.close()

    second = await Records.open(url)
    assert await second.organizations.get(made.id) == made
    assert await second.organizations.first() == made
    await second.close()


async def test_the_file_is_the_owners_only(sqlite_url: str, tmp_path: Path) -> None:
    await (await Records.open(sqlite_url)).close()
    assert stat.S_IMODE((tmp_path / "records.db").stat().st_mode) == 0o600


async def test_the_connection_is_durable_and_checks_references(sqlite_url: str) -> None:
    database = await RecordsDatabase.open(sqlite_url)
    found = {}
    async with database.read() as connection:
        for pragma in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout"):
            found[pragma] = (await connection.exec_driver_sql(f"PRAGMA {pragma}")).scalar()
    await database.close()
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 5_000,
    }


async def test_a_store_of_a_newer_version_is_refused_and_left_alone(url: str) -> None:
    await (await Records.open(url)).close()
    await run_sql_at(url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(RecordsTooNew, match="newer version") as caught:
        await Records.open(url)
    assert "\n" not in str(caught.value)
    found = await run_sql_at(url, "SELECT version_num FROM alembic_version")
    assert found == [("9999",)]


async def test_a_damaged_file_is_refused(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "records.db").write_bytes(b"this is no database at all\n" * 100)
    with pytest.raises(StoreUnusable, match="not a database") as caught:
        await Records.open(sqlite_url)
    assert "\n" not in str(caught.value)


async def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file" / "records.db", tmp_path / "missing" / "records.db", tmp_path):
        with pytest.raises(StoreUnusable) as caught:
            await Records.open(f"sqlite:///{place}")
        assert "\n" not in str(caught.value)


async def test_a_locked_store_is_refused(sqlite_url: str, tmp_path: Path) -> None:
    await (await Records.open(sqlite_url)).close()
    holder = sqlite3.connect(tmp_path / "records.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreUnusable, match="locked"):
        await Records.open(sqlite_url, busy_timeout=0.05)
    holder.execute("ROLLBACK")
    holder.close()
    await (await Records.open(sqlite_url)).close()


async def test_a_lock_taken_later_fails_writes_and_leaves_reads(
    sqlite_url: str, tmp_path: Path
) -> None:
    records = await Records.open(sqlite_url, busy_timeout=0.05)
    made = await records.organizations.create("kept")
    holder = sqlite3.connect(tmp_path / "records.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnusable, match="locked"):
        await records.organizations.create("refused")
    assert await records.organizations.get(made.id) == made
    holder.execute("ROLLBACK")
    holder.close()
    await records.organizations.create("accepted")
    await records.close()


@pytest.mark.parametrize(
    "url", ["", "no url", "mysql://host/name", "sqlite://", "postgresql://127.0.0.1:1/none"]
)
async def test_an_address_that_cannot_work_is_refused(url: str) -> None:
    with pytest.raises(StoreUnusable) as caught:
        await Records.open(url)
    assert "\n" not in str(caught.value)


async def test_a_cancelled_write_is_undone_and_holds_nothing(url: str) -> None:
    await (await Records.open(url)).close()
    database = await RecordsDatabase.open(url, busy_timeout=1.0)
    inside, never = anyio.Event(), anyio.Event()

    async def write() -> None:
        async with database.write() as connection:
            await connection.exec_driver_sql(
                "INSERT INTO organizations VALUES ('org_x', 'undone', 0, NULL)"
            )
            inside.set()
            await never.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        await inside.wait()
        group.cancel_scope.cancel()
    async with database.write() as connection:
        kept = await connection.exec_driver_sql("SELECT count(*) FROM organizations")
        assert kept.scalar() == 0
    await database.close()


async def test_writers_of_one_process_take_turns(url: str) -> None:
    records = await Records.open(url, busy_timeout=5.0)

    async def make(number: int) -> None:
        await records.organizations.create(str(number))

    async with anyio.create_task_group() as group:
        for number in range(40):
            group.start_soon(make, number)
    await records.close()


async def test_a_writer_that_waits_too_long_is_told(sqlite_url: str) -> None:
    database = await RecordsDatabase.open(sqlite_url, busy_timeout=0.02)
    async with database.write():
        with pytest.raises(StoreUnusable, match="busy"):
            async with database.write():
                pass
    await database.close()


async def test_a_closed_store_says_so(url: str) -> None:
    records = await Records.open(url)
    await records.close()
    with pytest.raises(StoreUnusable):
        await records.ping()
