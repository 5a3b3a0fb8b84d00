"""What an administrator, a full disk or a full house does to the log: it goes on by itself."""

from __future__ import annotations

import asyncio
import random

import pytest
from resonantgenesis_server.log.base import LogUnavailable
from resonantgenesis_server.log.postgres.log import PostgresLog
from support.postgres import PostgresServer

from .support import Announced, Load, connection, put, texts

pytestmark = pytest.mark.anyio

_ONE_OF_OURS = """
SELECT {does}(pid) FROM pg_stat_activity WHERE datname=current_database()
AND application_name LIKE 'resonantgenesis/%' ORDER BY random() LIMIT 1
"""
_END_ALL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname=current_database() AND pid <> pg_backend_pid()
"""
_FULL = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
  $$BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE='disk_full'; END$$;
CREATE TRIGGER full_disk BEFORE INSERT ON entries FOR EACH ROW EXECUTE FUNCTION full_disk();
"""


async def test_sessions_and_statements_that_an_administrator_ends_at_random(postgres: str) -> None:
    announced = Announced()
    log = await PostgresLog.open(postgres, on_commit=announced, beat_seconds=0.1)
    load = Load(log)
    async with connection(postgres) as db, load.running():
        await load.more(50)
        for number in range(100):
            does = "pg_cancel_backend" if number % 4 == 0 else "pg_terminate_backend"
            await db.fetch(_ONE_OF_OURS.format(does=does))
            await load.more(random.randrange(1, 10))
            await log.read("s1", 0, limit=5)
        await load.more(100)
    assert load.errors == []
    await load.check(log, announced.seen)
    await log.close()


async def test_a_database_without_a_connection_left_is_waited_for(
    postgres_server: PostgresServer, postgres: str
) -> None:
    name = postgres.partition("?")[0].rpartition("/")[2]
    async with connection(postgres) as db:
        await db.execute("DROP ROLE IF EXISTS tenant")
        await db.execute("CREATE ROLE tenant LOGIN")  # limits do not hold for a superuser
        await db.execute(f"GRANT CREATE ON DATABASE {name} TO tenant")
        log = await PostgresLog.open(postgres_server.url(name, "tenant"))
        assert await put(log, "s", "1") == 1
        try:
            await db.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 0")
            await db.fetch(_END_ALL)
            append = asyncio.create_task(put(log, "s", "2"))
            await asyncio.wait({append}, timeout=0.5)
            assert not append.done()
        finally:
            await db.execute(f"ALTER DATABASE {name} CONNECTION LIMIT -1")
        async with asyncio.timeout(20):
            assert await append == 2
        assert await texts(log, "s") == ["1", "2"]
        await log.close()
        await db.execute("DROP OWNED BY tenant CASCADE; DROP ROLE tenant")


async def test_a_full_disk_refuses_appends_until_there_is_space(postgres: str) -> None:
    announced = Announced()
    log = await PostgresLog.open(postgres, on_commit=announced)
    assert await put(log, "s", "1") == 1
    async with connection(postgres) as db:
        await db.execute(_FULL)
        for stream in ("s", "t"):
            with pytest.raises(LogUnavailable, match="disk is full"):
                await put(log, stream, "refused")
        assert await texts(log, "s") == ["1"], "what is there can be read"
        await db.execute("DROP FUNCTION full_disk CASCADE")
    assert await put(log, "s", "2") == 2
    assert await put(log, "t", "1") == 1
    assert await texts(log, "s") == ["1", "2"]
    assert [entry.body for entry in announced.seen["s"]] == [b"1", b"2"]
    await log.close()
