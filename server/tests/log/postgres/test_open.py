"""What is looked at before a log is opened, each with one clear line where it is not right."""

from __future__ import annotations

import asyncio

import pytest
from resonantgenesis_server.log.base import LogUnavailable, StoreIsNewer
from resonantgenesis_server.log.postgres import schema
from resonantgenesis_server.log.postgres.log import PostgresLog
from support.postgres import PostgresServer

from .support import connection, put, texts

pytestmark = pytest.mark.anyio


async def refusal(url: str) -> str:
    with pytest.raises(LogUnavailable) as caught:
        await PostgresLog.open(url)
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_many_that_open_an_empty_database_at_once_make_one_store(postgres: str) -> None:
    logs = await asyncio.gather(*(PostgresLog.open(postgres) for _ in range(6)))
    assert len({log.epoch for log in logs}) == 1
    assert len({log.node for log in logs}) == 6
    for n, log in enumerate(logs):
        assert await put(log, "s", f"{n}") == n + 1
    await asyncio.gather(*(log.close() for log in logs))


async def test_a_postgresql_that_is_too_old(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "_OLDEST", 99)
    assert "is too old for the log; 99 is the oldest" in await refusal(postgres)


async def test_a_store_of_a_later_version_is_left_alone(postgres: str) -> None:
    await (await PostgresLog.open(postgres)).close()
    async with connection(postgres) as db:
        await db.execute("UPDATE meta SET value='99' WHERE name='version'")
    with pytest.raises(StoreIsNewer, match="version 99; this program reads up to"):
        await PostgresLog.open(postgres)


async def test_a_database_that_cannot_be_written(
    postgres: str, postgres_server: PostgresServer
) -> None:
    name = postgres.partition("?")[0].rpartition("/")[2]
    postgres_server.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        assert "a standby or read-only" in await refusal(postgres)
    finally:
        postgres_server.sql(f"ALTER DATABASE {name} RESET default_transaction_read_only")


async def test_a_user_without_rights(postgres: str, postgres_server: PostgresServer) -> None:
    name = postgres.partition("?")[0].rpartition("/")[2]
    postgres_server.sql("DROP ROLE IF EXISTS poor; CREATE ROLE poor LOGIN")
    poor = postgres_server.url(name, "poor")
    assert "lacks rights" in await refusal(poor)  # to make the store
    log = await PostgresLog.open(postgres)
    assert "lacks rights" in await refusal(poor)  # to see it
    everything = f"ALL ON ALL TABLES IN SCHEMA {schema.SCHEMA}"
    postgres_server.sql(
        f"GRANT USAGE ON SCHEMA {schema.SCHEMA} TO poor; GRANT {everything} TO poor;"
        f" GRANT ALL ON ALL SEQUENCES IN SCHEMA {schema.SCHEMA} TO poor;"
        f" REVOKE DELETE ON {schema.SCHEMA}.entries FROM poor",
        name,
    )
    assert "lacks rights: DELETE on entries" in await refusal(poor)
    postgres_server.sql(f"GRANT {everything} TO poor", name)
    other = await PostgresLog.open(poor)
    assert await put(other, "s", "1") == 1
    await other.close()
    await log.close()


async def test_a_database_that_is_not_there(postgres: str, postgres_server: PostgresServer) -> None:
    assert "does not exist" in await refusal(postgres_server.url("nowhere"))
    assert "refuses the user" in await refusal(postgres_server.url("postgres", "nobody"))
    assert "cannot be reached" in await refusal("postgresql://u@/d?host=/nowhere")
    assert "cannot be reached" in await refusal("postgresql://u@127.0.0.1:1/d")
    assert "cannot be understood" in await refusal("postgresql://u@127.0.0.1:port/d")


async def test_a_weaker_synchronous_commit_of_the_server_does_not_weaken_the_log(
    postgres: str, postgres_server: PostgresServer, capsys: pytest.CaptureFixture[str]
) -> None:
    name = postgres.partition("?")[0].rpartition("/")[2]
    postgres_server.sql(f"ALTER DATABASE {name} SET synchronous_commit = off")
    try:
        log = await PostgresLog.open(postgres)
        assert "synchronous_commit is off; the log's connections use on" in capsys.readouterr().out
        await put(log, "s", "1")
        assert await log._writer._connection.db.fetchval("SHOW synchronous_commit") == "on"
        await log.close()
    finally:
        postgres_server.sql(f"ALTER DATABASE {name} RESET synchronous_commit")


async def test_durability_is_told_in_words(log: PostgresLog, own_server: PostgresServer) -> None:
    assert log.durability.startswith("none")  # the tests' shared server does not sync
    careful = await PostgresLog.open(own_server.database())
    assert careful.durability.startswith("on the primary's disk")
    await careful.close()


async def test_other_tables_of_the_database_are_left_alone(postgres: str) -> None:
    async with connection(postgres) as db:
        await db.execute("CREATE TABLE public.streams (x int); CREATE TABLE public.meta (x int)")
    for n in range(2):
        log = await PostgresLog.open(postgres)
        assert await put(log, "s", f"{n}") == n + 1
        assert await texts(log, "s") == [f"{m}" for m in range(n + 1)]
        await log.close()
    async with connection(postgres) as db:
        assert await db.fetchval("SELECT count(*) FROM public.streams") == 0
