"""Streams that change hands: in one order of locks, without rounds that lead nowhere."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from resonantgenesis_server.log.base import Append, NewEntry
from resonantgenesis_server.log.postgres import known, statements
from resonantgenesis_server.log.postgres import writer as writer_module
from resonantgenesis_server.log.postgres.log import PostgresLog
from resonantgenesis_server.log.postgres.placing import Batch
from resonantgenesis_server.log.queue import Job

from .support import connection, counted, entries, new, put, texts

pytestmark = pytest.mark.anyio


async def deadlocks(db: asyncpg.Connection) -> int:
    await counted(db)
    await db.execute("SELECT pg_stat_clear_snapshot()")
    count: int = await db.fetchval(
        "SELECT deadlocks FROM pg_stat_database WHERE datname=current_database()"
    )
    return count


async def test_nodes_that_fight_for_streams_never_lock_one_another_out(postgres: str) -> None:
    logs = [await PostgresLog.open(postgres) for _ in range(3)]

    async def produce(log: PostgresLog, name: int) -> None:
        for n in range(60):
            one, two = f"s{(n + name) % 4}", f"s{(n + name) % 4}/x"
            await log.append(
                Append(one, new(f"{name}.{n}"), pending=n % 2 == 0), Append(two, new(f"{name}.{n}"))
            )

    async with connection(postgres) as db:
        before = await deadlocks(db)
        async with asyncio.timeout(60):
            await asyncio.gather(*(produce(log, n) for n, log in enumerate(logs * 2)))
        assert await deadlocks(db) == before
    total = 0
    for n in range(4):
        there = await entries(logs[0], f"s{n}")
        assert [e.position for e in there] == list(range(1, len(there) + 1))
        assert await texts(logs[1], f"s{n}/x") == [e.body.decode() for e in there]
        total += len(there)
    assert total == 6 * 60
    for log in logs:
        await log.close()


async def test_who_is_robbed_time_after_time_holds_what_it_writes(log: PostgresLog) -> None:
    async def robbed(_group: list[Job]) -> Batch:
        raise writer_module._Refused

    log._writer._commit_owned = robbed  # type: ignore[method-assign]
    assert await log.append(Append("s", new("1")), Append("t", [NewEntry("m", b"1", "k")])) == [
        1,
        1,
    ]
    futures = [log.append(Append("s", new(f"{n}"))) for n in range(2, 9)]
    assert [await future for future in futures] == [[n] for n in range(2, 9)]
    await log.trim("s", 8)
    assert await texts(log, "s") == ["8"]
    await log.delete("t", appends=[Append("u", [NewEntry("m", b"gone", "k")])])
    assert await texts(log, "u") == ["gone"]
    assert (await log.read("t", 0)).info is None


async def test_streams_that_are_taken_over_keep_nobody_else_waiting(postgres: str) -> None:
    """What holds a stream up holds only that stream up."""
    owner, log = await PostgresLog.open(postgres), await PostgresLog.open(postgres)
    await put(owner, "slow", "1")
    await put(log, "fast", "1")
    async with connection(postgres) as db:
        async with db.transaction():
            await db.fetch("SELECT 1 FROM streams WHERE name='slow' FOR UPDATE")
            slow = [log.append(Append("slow", new(f"{n}"))) for n in (2, 3)]
            async with asyncio.timeout(10):
                for n in range(2, 30):
                    assert await put(log, "fast", f"{n}") == n
            both = log.append(Append("fast", new("both")), Append("fast/x", new("x")))
            assert await both == [30, 1]
            assert not any(future.done() for future in slow)
        assert await asyncio.gather(*slow) == [[2], [3]]
    await owner.close()
    await log.close()


async def test_what_falls_out_of_memory_is_asked_for_again(
    log: PostgresLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "_MAX_STATES", 3)
    for round_ in range(3):
        for n in range(10):
            assert await put(log, f"s{n}", "x") == round_ + 1
    assert len(log._writer._known.streams) <= 4
    futures = [log.append(Append(f"s{n}", new("y"))) for n in range(10) for _ in range(2)]
    assert [(await future)[0] for future in futures] == [4, 5] * 10


async def test_a_new_session_is_one_round_trip(log: PostgresLog) -> None:
    """What says that its stream is new is believed, and so are streams beside it."""
    await put(log, "warm", "1")

    async def asked() -> None:
        raise AssertionError("the database was asked for what is new")

    log._writer._take_over = asked  # type: ignore[method-assign]
    assert await log.append(Append("s", new("1"), expect=0), Append("s/x", new("1"))) == [1, 1]
    assert await log.append(Append("s", new("2")), Append("s/y", new("1"))) == [2, 1]


async def test_of_a_stream_that_was_taken_time_after_time_the_last_counts(
    log: PostgresLog, postgres: str
) -> None:
    async with connection(postgres) as db:
        await db.execute("INSERT INTO taken VALUES (7, 5, 1), (7, 9, 1), (7, 6, 1), (7, 8, 2)")
        found = await db.fetch(statements.TAKEN, 7, 100)
    assert {row["stream"]: row["generation"] for row in found} == {1: 9, 2: 8}
