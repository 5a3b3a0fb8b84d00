"""The writer thread: groups that fail, what it remembers, readers beside it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from resonantgenesis_server.log.base import (
    Append,
    Entry,
    LogUnavailable,
    NewEntry,
    StaleWriter,
    StreamClosed,
)
from resonantgenesis_server.log.queue import Job
from resonantgenesis_server.log.sqlite import writer as sqlite_writer
from resonantgenesis_server.log.sqlite.log import SqliteLog
from resonantgenesis_server.model.clock import Clock

from .support import connection, entries, new, one_group, put, texts

pytestmark = pytest.mark.anyio
POISON = """
CREATE TRIGGER poison BEFORE INSERT ON tail WHEN NEW.kind = 'poison'
BEGIN SELECT RAISE(ABORT, 'poisoned'); END
"""


def defect(_db: sqlite3.Connection) -> None:
    raise RuntimeError("a defect")


def by_trigger(log: SqliteLog) -> asyncio.Future[list[int]]:
    return log.append(Append("bad", new("x", kind="poison")))


def by_defect(log: SqliteLog) -> asyncio.Future[None]:
    return asyncio.ensure_future(log._write(defect))


@pytest.mark.parametrize("fail", [by_trigger, by_defect])
async def test_a_group_that_fails_is_told_to_each_of_its_producers(
    path: Path, fail: Callable[[SqliteLog], asyncio.Future[Any]]
) -> None:
    announced: list[str] = []

    def on_commit(stream: str, _entries: Sequence[Entry]) -> None:
        announced.append(stream)

    log = await SqliteLog.open(path, on_commit=on_commit)
    low, high = await log.next_fence(), await log.next_fence()
    await log.append(Append("s", new("1"), fence=low))
    with connection(path) as db:
        db.execute(POISON)
    key = NewEntry("message", b"{}", key="k")
    async with one_group(log, path):
        futures: list[asyncio.Future[Any]] = [
            log.append(Append("s", new("lost"), fence=high, pending=True)),
            log.append(Append("s", new("stale"), fence=low)),
            log.append(Append("fresh", [key]), Append("fresh/x", new("lost"))),
            log.append(Append("shut", new("lost"), close=True)),
            log.append(Append("shut", new("late"))),
            fail(log),
            log.append(Append("s", new("lost too"))),
            asyncio.ensure_future(log.claim("o", "k", b"lost", ttl=60)),
        ]
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    # Also those that others of the group seemed to have made stale or too late: that is undone.
    assert [type(o) for o in outcomes] == [LogUnavailable] * len(outcomes)
    assert len({id(o) for o in outcomes}) == len(outcomes)
    assert announced == ["s", "plug"]
    assert await texts(log, "s") == ["1"]
    for stream in ("fresh", "fresh/x", "shut", "bad"):
        assert (await log.read(stream, 0)).info is None
    assert await log.pending() == []
    assert await log.lookup("o", "k") is None
    # It goes on as if nothing had been tried.
    assert await log.append(Append("s", new("2"), fence=low)) == [2]
    assert await log.append(Append("fresh", [key])) == [1]
    assert await put(log, "shut", "open") == 1
    await log.close()


async def test_a_refusal_in_a_group_hurts_no_other(log: SqliteLog, path: Path) -> None:
    async with one_group(log, path):
        futures = [
            log.append(Append("s", new("1"))),
            log.append(Append("s", new("no"), expect=9)),
            log.append(Append("s", new("2"), close=True)),
            log.append(Append("s", new("no"))),
            log.append(Append("t", new("1"))),
        ]
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert [outcomes[n] for n in (0, 2, 4)] == [[1], [2], [1]]
    assert isinstance(outcomes[3], StreamClosed)
    assert await texts(log, "s") == ["1", "2"]


async def test_everything_that_waits_is_committed_together(log: SqliteLog, path: Path) -> None:
    groups: list[int] = []
    announce = log._writer._announce

    def count(done: list[Job]) -> None:
        groups.append(len(done))
        announce(done)

    log._writer._announce = count
    async with one_group(log, path):
        futures = [log.append(Append(f"s{n % 7}", new(f"{n}"))) for n in range(500)]
    await asyncio.gather(*futures)
    assert groups == [1, 500]


async def test_streams_that_fell_out_of_memory_are_known_again(
    log: SqliteLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "_MAX_STATES", 3)
    low, high = await log.next_fence(), await log.next_fence()
    await log.append(Append("fenced", new("1"), fence=high))
    await log.append(Append("shut", new("1"), close=True))
    await log.append(Append("marked", new("1"), pending=True))
    await put(log, "emptied", "1", "2")
    await log.trim("emptied", 5)
    for n in range(1, 6):
        for name in range(10):
            assert await put(log, f"s{name}", f"{n}") == n
    async with one_group(log, path):
        futures = [log.append(Append(f"s{n % 10}", new(f"{6 + n // 10}"))) for n in range(100)]
    assert [await f for f in futures] == [[6 + n // 10] for n in range(100)]
    assert len(log._writer._streams) <= 3
    with pytest.raises(StaleWriter):
        await log.append(Append("fenced", new("2"), fence=low))
    with pytest.raises(StreamClosed):
        await put(log, "shut", "2")
    await log.append(Append("marked", new("2")))
    assert await log.pending() == ["marked"]
    assert await put(log, "emptied", "3") == 3


async def test_a_deleted_stream_leaves_no_row_behind(log: SqliteLog, path: Path) -> None:
    key = NewEntry("message", b"{}", key="k")
    for name in ("gone", "kept"):
        await log.append(Append(name, [key, *new("1")]), Append(f"{name}/x", [key]))
    await log.delete("gone", "gone/x")
    with connection(path) as db:
        for table, rows in [("streams", 2), ("entries", 0), ("tail", 3), ("entry_keys", 2)]:
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (rows,)


async def test_keys_do_not_outlive_their_trimmed_entries(log: SqliteLog, path: Path) -> None:
    await log.append(Append("s", [NewEntry("message", b"{}", key=f"k{n}") for n in range(9)]))
    await log.trim("s", 8)
    with connection(path) as db:
        assert db.execute("SELECT count(*) FROM entry_keys").fetchone() == (2,)


async def test_time_stands_still_when_the_clock_goes_back(path: Path) -> None:
    seconds = iter(range(10**6, 0, -1))
    clock = Clock(lambda: float(next(seconds)), lambda: 0.0)
    log = await SqliteLog.open(path, clock=clock)
    for n in range(5):
        await put(log, "s", f"{n}")
    (at,) = {e.at for e in await entries(log, "s")}
    assert at % 10**6 == 0 and at >= 10**12 - 10 * 10**6
    await log.close()
    log = await SqliteLog.open(path, clock=clock)
    await put(log, "s", "5")
    await log.trim("s", 100)
    await log.close()
    log = await SqliteLog.open(path, clock=clock)
    await put(log, "s", "6")
    assert [e.at for e in (await log.read("s", 0)).entries] == [at]
    await log.close()


async def test_a_snapshot_kept_open_does_not_stop_the_writer(log: SqliteLog, path: Path) -> None:
    await put(log, "s", "1")
    with connection(path) as db:
        db.execute("BEGIN")
        assert db.execute("SELECT count(*) FROM tail").fetchone() == (1,)
        async with asyncio.timeout(4):
            for n in range(50):
                await put(log, "s", f"{n}")
        assert db.execute("SELECT count(*) FROM tail").fetchone() == (1,)
        assert len(await texts(log, "s")) == 51
        db.execute("ROLLBACK")


async def test_an_open_transaction_does_not_stop_readers_nor_show(
    log: SqliteLog, path: Path
) -> None:
    await put(log, "s", "1")
    with connection(path) as db:
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO streams (name) VALUES ('half')")
        async with asyncio.timeout(4):
            for _ in range(20):
                assert await texts(log, "s") == ["1"]
            assert (await log.read("half", 0)).info is None
        db.execute("ROLLBACK")


async def test_a_writer_that_cannot_open_the_file_tells_all_and_ends(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await SqliteLog.open(path)
    await put(log, "s", "1")
    await log.close()

    def refuse(_db: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("no")

    monkeypatch.setattr(sqlite_writer, "configure_writer", refuse)
    log = await SqliteLog.open(path)
    futures = [log.append(Append("s", new("2"))) for _ in range(50)]
    await log.close()
    outcomes = await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), 5)
    assert [type(o) for o in outcomes] == [LogUnavailable] * 50


async def test_closing_is_bounded_when_the_disk_does_not_answer(log: SqliteLog, path: Path) -> None:
    with connection(path) as db:
        db.execute("BEGIN IMMEDIATE")
        future = log.append(Append("s", new("1")))
        with pytest.raises(LogUnavailable, match="did not finish"):
            await log.close(timeout=0.05)
        db.execute("ROLLBACK")
    assert await asyncio.wait_for(future, 6) == [1]
