"""The database dies, the way to it breaks, answers are lost, others take what was ours."""

from __future__ import annotations

import asyncio
import random

import asyncpg
import pytest
from resonantgenesis_server.log.base import Append, LogUnavailable, StaleWriter
from resonantgenesis_server.log.postgres import log as log_module
from resonantgenesis_server.log.postgres import writer_connection
from resonantgenesis_server.log.postgres.connection import Database, HistoryLost, Standing
from resonantgenesis_server.log.postgres.log import PostgresLog
from support.postgres import PostgresServer

from .proxy import Proxy
from .support import Announced, Load, connection, entries, new, put, texts

pytestmark = pytest.mark.anyio


async def test_kill_9_of_postgresql_under_load_loses_nothing_and_fails_nobody(
    own_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "_READ_PATIENCE", 60.0)
    announced = Announced()
    log = await PostgresLog.open(own_server.database(), on_commit=announced)
    load = Load(log)
    async with load.running():
        for _ in range(3):
            await load.more(300)
            await asyncio.to_thread(own_server.kill)
            reading = asyncio.create_task(log.read("s1", 0))
            own_server.launch()
            await asyncio.to_thread(own_server.wait)
            assert (await reading).entries, "a read waits as well"
            await load.more(300)
    assert load.errors == []
    await load.check(log, announced.seen)
    await log.close()


async def test_a_stop_of_postgresql_is_a_pause(
    own_server: PostgresServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = await PostgresLog.open(own_server.database())
    load = Load(log)
    tries = 0
    connect = Database.connect

    async def counted(self: Database, purpose: str) -> tuple[asyncpg.Connection, Standing]:
        nonlocal tries
        tries += 1
        return await connect(self, purpose)

    monkeypatch.setattr(Database, "connect", counted)
    async with load.running():
        await load.more(100)
        await asyncio.to_thread(own_server.stop)
        before, enough = load.count, tries + 5
        async with asyncio.timeout(60):
            while tries < enough:
                await asyncio.sleep(0.01)
        assert load.count == before
        own_server.launch()
        await asyncio.to_thread(own_server.wait)
        await load.more(100)
    printed = capsys.readouterr().out
    assert printed.count("the database is away, appends wait") == 1
    assert printed.count("the database is back") == 1
    assert load.errors == []
    await load.check(log, {})
    await log.close()


async def test_patience_has_an_end_and_the_log_comes_back_by_itself(
    own_server: PostgresServer,
) -> None:
    log = await PostgresLog.open(own_server.database(), patience=0.5)
    assert await put(log, "s", "1") == 1
    own_server.stop()
    async with asyncio.timeout(10):
        known = log.append(Append("s", new("known")))
        unknown = log.append(Append("t", new("unknown")))
        for refused in (known, unknown):
            with pytest.raises(LogUnavailable, match="database"):
                await refused
    own_server.start()
    assert await put(log, "s", "2") == 2
    assert await put(log, "t", "1") == 1
    await log.close()


async def test_closing_is_bounded_while_the_database_is_away(own_server: PostgresServer) -> None:
    log = await PostgresLog.open(own_server.database())
    await put(log, "s", "1")
    own_server.stop()
    pending = [log.append(Append("s", new("2"))), log.append(Append("t", new("1")))]
    async with asyncio.timeout(5):
        with pytest.raises(LogUnavailable):
            await log.close(timeout=0.3)
    for each in pending:
        with pytest.raises(LogUnavailable):
            await each


async def test_connections_that_break_under_load_double_and_lose_nothing(
    postgres: str, proxy: Proxy
) -> None:
    announced = Announced()
    log = await PostgresLog.open(proxy.url(postgres), on_commit=announced)
    load = Load(log)
    async with load.running():
        for _ in range(25):
            await load.more(random.randrange(20, 60))
            proxy.cut()
    assert load.errors == []
    await load.check(log, announced.seen)
    await log.close()


async def test_an_answer_that_is_lost_is_found_in_the_database(postgres: str, proxy: Proxy) -> None:
    announced = Announced()
    log = await PostgresLog.open(proxy.url(postgres), on_commit=announced)
    await put(log, "s", "0")
    for n in range(1, 11):
        proxy.answers = False
        swallowed = proxy.swallowed
        append = log.append(Append("s", new(f"{n}")))
        async with asyncio.timeout(10):
            while proxy.swallowed == swallowed:  # committed, and nobody knows
                await asyncio.sleep(0.001)
        proxy.answers = True
        proxy.cut()
        assert await append == [n + 1]
    assert await texts(log, "s") == [f"{n}" for n in range(11)]
    assert announced.seen["s"] == await entries(log, "s"), "with the dates that were committed"
    await log.close()


async def test_a_commit_that_comes_late_is_not_doubled(postgres: str, proxy: Proxy) -> None:
    log = await PostgresLog.open(proxy.url(postgres))
    await put(log, "s", "1")
    async with connection(postgres) as db:
        # The statement waits in the server; its connection breaks; another one sends it again.
        async with db.transaction():
            await db.fetch("SELECT 1 FROM writers FOR UPDATE")
            append = log.append(Append("s", new("2")))
            await until_waiting(db, 1)
            proxy.cut()
            await until_waiting(db, 2)
        assert await append == [2]
    assert await put(log, "s", "3") == 3
    assert await texts(log, "s") == ["1", "2", "3"]
    await log.close()


async def test_a_group_that_was_given_up_and_comes_late_is_noticed(
    postgres: str, proxy: Proxy
) -> None:
    log = await PostgresLog.open(proxy.url(postgres), patience=0.3)
    await put(log, "s", "1")
    async with connection(postgres) as db:
        async with db.transaction():
            await db.fetch("SELECT 1 FROM writers FOR UPDATE")
            append = log.append(Append("s", new("perhaps")))
            await until_waiting(db, 1)
            proxy.open = False
            proxy.cut()
            with pytest.raises(LogUnavailable):
                await append
        proxy.open = True
        for n in range(2, 6):
            assert await put(log, "s", f"{n}") > 1
    found = await texts(log, "s")
    assert [text for text in found if text != "perhaps"] == ["1", "2", "3", "4", "5"]
    assert found.count("perhaps") <= 1
    await log.close()


async def until_waiting(db: asyncpg.Connection, count: int) -> None:
    """Until so many statements of the log wait for a lock."""
    async with asyncio.timeout(20):
        while True:
            await db.execute("SELECT pg_stat_clear_snapshot()")
            waiting = await db.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type='Lock'"
                " AND datname=current_database()"
            )
            if waiting >= count:
                return
            await asyncio.sleep(0.01)


async def test_a_statement_that_never_ends_is_given_up(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_connection, "STATEMENT_SECONDS", 0.2)
    log = await PostgresLog.open(postgres, patience=0.6)
    await put(log, "s", "1")
    async with connection(postgres) as db, db.transaction():
        await db.fetch("SELECT 1 FROM writers FOR UPDATE")
        async with asyncio.timeout(10):
            with pytest.raises(LogUnavailable, match="database"):
                await log.append(Append("s", new("2")))
    assert await put(log, "t", "1") == 1
    await log.close()


async def test_a_node_that_was_declared_dead_never_writes_again(postgres: str) -> None:
    broken: list[bool] = []
    announced = Announced()
    log = await PostgresLog.open(
        postgres, on_commit=announced, on_broken=lambda _reason: broken.append(True)
    )
    await put(log, "s", "1")
    async with connection(postgres) as db:
        await db.execute("UPDATE writers SET alive=false")
    for stream in ("s", "t", "s"):
        with pytest.raises(StaleWriter, match="declared dead"):
            await put(log, stream, "zombie")
    heir = await PostgresLog.open(postgres)
    assert await put(heir, "s", "heir") == 2
    assert await texts(heir, "s") == ["1", "heir"]
    assert list(announced.seen) == ["s"] and len(announced.seen["s"]) == 1
    assert broken == [True]
    await heir.close()
    await log.close()


async def cut_off(url: str) -> None:
    """Break the log's connections at the server."""
    async with connection(url) as db:
        await db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname=current_database() AND pid<>pg_backend_pid()"
        )


@pytest.mark.parametrize("first", ["append", "read"])
async def test_what_the_database_lost_is_noticed_and_never_shown(postgres: str, first: str) -> None:
    """As after a failover to a standby that had not everything."""
    broken: list[bool] = []
    log = await PostgresLog.open(postgres, on_broken=lambda _reason: broken.append(True))
    for n in range(5):
        await put(log, "s", f"{n}")
    epoch = log.epoch
    async with connection(postgres) as db:
        await db.execute("UPDATE writers SET committed=committed-2")
        await db.execute("DELETE FROM entries WHERE position>3")
    await cut_off(postgres)
    calls = {"append": lambda: put(log, "s", "other"), "read": lambda: log.read("s", 0)}
    for _ in range(2):
        with pytest.raises(LogUnavailable, match="lost"):
            await calls[first]()
    with pytest.raises(LogUnavailable, match="lost"):
        await put(log, "t", "other")
    assert broken == [True]
    assert log.epoch != epoch
    after = await PostgresLog.open(postgres)
    assert after.epoch == log.epoch, "the same for all that open it"
    assert await texts(after, "s") == ["0", "1", "2"]
    await after.close()
    await log.close()


async def test_connections_that_find_a_loss_at_once_change_the_epoch_once(
    postgres: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log = await PostgresLog.open(postgres)
    for n in range(5):
        await put(log, "s", f"{n}")
    async with connection(postgres) as db:
        await db.execute("UPDATE writers SET committed=committed-2")
    found = await asyncio.gather(
        *(log._database.connect("test") for _ in range(20)), return_exceptions=True
    )
    assert [type(each) for each in found] == [HistoryLost] * 20
    async with connection(postgres) as db:
        assert await db.fetchval("SELECT value FROM meta WHERE name='epoch'") == log.epoch
    assert capsys.readouterr().out.count("the database's history is another") == 1
    await log.close()


async def test_an_append_that_is_under_way_when_a_loss_is_found_hears_of_it(
    postgres: str, proxy: Proxy
) -> None:
    log = await PostgresLog.open(proxy.url(postgres))
    await put(log, "s", "1")
    proxy.answers = False
    swallowed = proxy.swallowed
    append = log.append(Append("s", new("2")))
    async with asyncio.timeout(60):
        while proxy.swallowed == swallowed:
            await asyncio.sleep(0.001)
    log._database.lost("another epoch")  # as another connection finds it
    proxy.cut()
    with pytest.raises(LogUnavailable, match="lost"):
        await append
    proxy.answers = True
    await log.close()


async def test_dates_do_not_go_back_with_the_database_s_clock(postgres: str) -> None:
    log = await PostgresLog.open(postgres)
    await put(log, "s", "1")
    hour = 3_600_000_000
    async with connection(postgres) as db:
        await db.execute("UPDATE entries SET at=at+$1", hour)
    other = await PostgresLog.open(postgres)
    await put(other, "s", "2")
    await put(other, "s", "3", "4")
    first, *later = [entry.at for entry in await entries(other, "s")]
    assert later == [first] * 3
    await other.trim("s", 5)
    await other.close()
    assert await put(log, "s", "5") == 5
    assert [entry.at for entry in await entries(log, "s")] == [first]
    await log.close()


async def test_another_history_without_a_witness_has_another_epoch(postgres: str) -> None:
    """As after a restored backup: nobody who lives knows whether something is missing."""
    log = await PostgresLog.open(postgres)
    epoch = log.epoch
    await log.close()
    async with connection(postgres) as db:
        await db.execute("UPDATE meta SET value='another' WHERE name='history'")
    for _ in range(2):
        log = await PostgresLog.open(postgres)
        assert log.epoch != epoch
        epochs = {log.epoch}
        await log.close()
    assert len(epochs) == 1


async def test_a_witness_of_another_history_keeps_the_epoch(postgres: str) -> None:
    """As after a failover to a standby that had everything: who was there can vouch for it."""
    log = await PostgresLog.open(postgres)
    await put(log, "s", "1")
    async with connection(postgres) as db:
        await db.execute("UPDATE meta SET value='another' WHERE name='history'")
    await cut_off(postgres)
    assert await put(log, "s", "2") == 2
    other = await PostgresLog.open(postgres)
    assert other.epoch == log.epoch
    await other.close()
    await log.close()
