"""A standby takes over, with all that was acknowledged or without."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from resonantgenesis_server.log.base import Append, LogUnavailable
from resonantgenesis_server.log.postgres.log import PostgresLog
from support.postgres import PostgresServer

from .support import Announced, Load, entries, new, put, texts

pytestmark = pytest.mark.anyio


@pytest.fixture
def standby(own_server: PostgresServer) -> Iterator[PostgresServer]:
    """One that follows `own_server`, and holds nobody up."""
    server = PostgresServer({}, primary=own_server)
    try:
        yield server.start()
    finally:
        server.close()


def both(url: str, primary: PostgresServer, standby: PostgresServer) -> str:
    folder = str(primary.folder)
    return url.replace(folder, f"{folder},{standby.folder}")


async def made_synchronous(primary: PostgresServer) -> None:
    primary.set("synchronous_standby_names", "*")
    async with asyncio.timeout(30):
        while primary.sql("SELECT sync_state FROM pg_stat_replication") != "sync":
            await asyncio.sleep(0.02)


async def test_a_failover_to_a_synchronous_standby_is_a_pause(
    own_server: PostgresServer, standby: PostgresServer
) -> None:
    url = both(own_server.database(), own_server, standby)
    await made_synchronous(own_server)
    announced = Announced()
    log = await PostgresLog.open(url, on_commit=announced)
    assert log.durability == "on the disks of the primary and of a synchronous standby"
    load = Load(log)
    async with load.running():
        await load.more(300)
        await asyncio.to_thread(own_server.kill)
        await asyncio.to_thread(standby.sql, "SELECT pg_promote()")
        await load.more(300)
    assert load.errors == []
    await load.check(log, announced.seen)
    after = await PostgresLog.open(url)
    assert after.epoch == log.epoch, "a node that lived has vouched for it"
    await after.close()
    await log.close()


async def test_a_failover_that_loses_what_was_acknowledged_is_noticed(
    own_server: PostgresServer, standby: PostgresServer
) -> None:
    broken: list[bool] = []
    url = both(own_server.database(), own_server, standby)
    log = await PostgresLog.open(url, on_broken=lambda _reason: broken.append(True))
    assert "a failover may lose" in log.durability
    epoch = log.epoch
    load = Load(log)
    async with load.running():
        await load.more(100)
        await asyncio.to_thread(standby.set, "primary_conninfo", "")
        async with asyncio.timeout(30):
            while own_server.sql("SELECT count(*) FROM pg_stat_replication") != "0":
                await asyncio.sleep(0.02)
        await load.more(200)
        load.stopping = True
        await asyncio.to_thread(own_server.kill)
        await asyncio.to_thread(standby.sql, "SELECT pg_promote()")
        with pytest.raises(LogUnavailable, match="lost"):
            await log.read("s0", 0)
    with pytest.raises(LogUnavailable, match="lost"):
        await put(log, "s0", "other")
    assert broken == [True]
    assert log.epoch != epoch
    after = await PostgresLog.open(url)
    assert after.epoch == log.epoch
    there = await entries(after, "s0")
    assert [e.position for e in there] == list(range(1, len(there) + 1))
    await after.close()
    await log.close()


async def test_what_no_standby_has_confirmed_is_not_shown(
    own_server: PostgresServer, standby: PostgresServer
) -> None:
    """A primary that starts anew shows commits that waited for a standby; the log does not."""
    log = await PostgresLog.open(own_server.database())
    await put(log, "s", "1")
    await made_synchronous(own_server)
    await asyncio.to_thread(standby.stop)
    append = log.append(Append("s", new("2")))
    await asyncio.wait({append}, timeout=0.5)
    assert not append.done()
    await asyncio.to_thread(own_server.kill)
    own_server.launch()
    await asyncio.to_thread(own_server.wait)
    with pytest.raises(LogUnavailable):
        await log.read("s", 0)
    assert not append.done()
    standby.launch()
    await asyncio.to_thread(standby.wait)
    assert await append == [2]
    assert await texts(log, "s") == ["1", "2"]
    await log.close()
