"""What a crash, an old version or another process left in the tail; moves beside readers."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from resonantgenesis_server.log.base import Append, LogUnavailable, NewEntry, StaleWriter
from resonantgenesis_server.log.sqlite import tail as sqlite_tail
from resonantgenesis_server.log.sqlite import writer as sqlite_writer
from resonantgenesis_server.log.sqlite.log import SqliteLog
from resonantgenesis_server.log.sqlite.schema import SCHEMA_VERSION

from .support import connection, entries, new, put, said, texts, writer_process
from .tail_store import TailStore

pytestmark = pytest.mark.anyio


def counts(path: Path) -> tuple[int, int]:
    """Rows of `entries` and of `tail`, from one snapshot."""
    with connection(path) as db:
        sql = "SELECT (SELECT count(*) FROM entries), (SELECT count(*) FROM tail)"
        found: tuple[int, int] = db.execute(sql).fetchone()
        return found


async def tail_empty(path: Path) -> None:
    async with asyncio.timeout(10):
        while counts(path)[1]:
            await asyncio.sleep(0.01)


# -- crashes -------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 1, 2, 4, 6])
async def test_a_crash_in_the_middle_of_a_move(
    path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr(sqlite_tail, "_STEP_ROWS", 3)
    store = TailStore(path)
    for n in range(1, 4):
        for name in "abc":
            store.put(name, f"{n}")
    for _ in range(steps):
        store.step()
    copy = path.with_name("copy.db")
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
    assert counts(copy) == {0: (0, 9), 1: (3, 9), 2: (6, 9), 4: (9, 6), 6: (9, 0)}[steps]
    store.close()
    log = await SqliteLog.open(copy)
    for name in "abc":
        assert await texts(log, name) == ["1", "2", "3"]
        assert len((await log.read(name, 2)).entries) == 1
    assert await put(log, "b", "4") == 4  # and now it has taken over
    assert counts(copy) == (9, 1)
    await log.trim("a", 3)
    assert await texts(log, "b") == ["1", "2", "3", "4"]
    assert [e.position for e in (await log.read("a", 0)).entries] == [3]
    await log.close()
    assert counts(copy) == (8, 0)


async def test_kill_9_with_rows_in_the_tail(path: Path) -> None:
    """Steps of ten rows, so that a kill is nearly always between two."""
    expected: dict[tuple[str, int], bytes] = {}
    left = 0
    for lines in (20, 250, 333, 480):
        arguments = ("--producers", "12", "--move", "60,10")
        async with asyncio.timeout(30), writer_process(path, *arguments) as process:
            assert process.stdout is not None
            told = [await process.stdout.readline() for _ in range(lines)]
            process.kill()
            told += (await process.stdout.read()).splitlines()
            await process.wait()
        for line in told:
            if line.strip().endswith(b"}"):
                each = said(line.decode())
                expected[each.stream, each.position] = each.body.encode()
        left += counts(path)[1]
        log = await SqliteLog.open(path)
        found: dict[tuple[str, int], bytes] = {}
        for name in ("s0", "s1", "s2", "s3"):
            there = await entries(log, name)
            assert [e.position for e in there] == list(range(1, len(there) + 1))
            found |= {(name, e.position): e.body for e in there}
        assert {place: found.get(place) for place in expected} == expected
        assert sorted(await texts(log, "beside")) == sorted(b.decode() for b in found.values())
        await log.close()
    assert left > 0


async def test_two_writers_of_one_file_take_turns(path: Path) -> None:
    first, second = await SqliteLog.open(path), await SqliteLog.open(path)
    for n in range(1, 13, 2):
        assert await put(first, "s", f"{n}") == n
        assert await texts(second, "s") == [f"{k}" for k in range(1, n + 1)]
        assert await put(second, "s", f"{n + 1}") == n + 1
        assert await texts(first, "s") == [f"{k}" for k in range(1, n + 2)]
    await first.close()
    await second.close()
    assert counts(path) == (12, 0)


def test_a_move_ends_where_another_writer_began(path: Path) -> None:
    first, second = TailStore(path), TailStore(path)
    for name in "ab":
        first.put(name, "1", "2")
    first.step()
    second.put("b", "3", "4")  # moves what is there, and gives numbers from 1 again
    first.step()
    first.step()
    assert first.tail.moving is False
    for store in (first, second):
        assert [e.position for e in store.read("a").entries] == [1, 2]
        assert [e.position for e in store.read("b").entries] == [1, 2, 3, 4]
        store.close()


# -- moving beside everything else ---------------------------------------------------------


async def test_moves_while_readers_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_tail, "_MOVE_ROWS", 40)
    monkeypatch.setattr(sqlite_tail, "_STEP_ROWS", 10)
    log = await SqliteLog.open(path)
    names = [f"s{n}" for n in range(8)]
    durable = dict.fromkeys(names, 0)
    ended = asyncio.Event()
    reads = 0

    async def produce(name: str) -> None:
        for n in range(1, 151):
            durable[name] = await put(log, name, f"{n}")
        durable[name] = (await log.append(Append(name, new("151"), close=True)))[0]

    async def read(name: str) -> None:
        nonlocal reads
        while not ended.is_set():
            known, after = durable[name], max(0, durable[name] - reads % 60)
            page = await log.read(name, after, limit=80)
            reads += 1
            if page.info is None:
                assert known == 0
                continue
            positions = [e.position for e in page.entries]
            assert positions == list(range(after + 1, page.info.head + 1))
            assert page.info.head >= known
            assert page.info.closed == (page.info.head == 151)
            assert [e.body.decode() for e in page.entries] == [f"{p}" for p in positions]

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(read(name))
        await asyncio.gather(*(produce(name) for name in names))
        ended.set()
    assert counts(path)[0] > 1000, "it was moved meanwhile"
    await log.close()
    assert counts(path) == (151 * 8, 0)


async def test_a_store_at_rest_has_an_empty_tail(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "_IDLE", 0.02)
    log = await SqliteLog.open(path)
    for n in range(3):
        await put(log, f"s{n}", "1", "2")
    await tail_empty(path)
    assert counts(path) == (6, 0)
    assert await put(log, "s1", "3") == 3
    await tail_empty(path)
    assert await texts(log, "s1") == ["1", "2", "3"]
    await log.close()


async def test_a_move_that_fails_hurts_nobody(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_tail, "_MOVE_ROWS", 1)
    log = await SqliteLog.open(path)
    await put(log, "s", "1")
    with connection(path) as db:
        db.execute(
            "CREATE TRIGGER full BEFORE INSERT ON entries BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    for n in range(2, 20):
        assert await put(log, "s", f"{n}") == n
    assert await texts(log, "s") == [f"{n}" for n in range(1, 20)]
    with connection(path) as db:
        db.execute("DROP TRIGGER full")
    assert await put(log, "s", "20") == 20
    await log.close()
    assert counts(path) == (20, 0)


async def test_large_bodies_are_written_once(log: SqliteLog, path: Path) -> None:
    large = "x" * 3000
    await put(log, "s", large)
    assert counts(path) == (1, 0)
    await put(log, "s", "small", large)
    assert counts(path) == (1, 2), "what follows a row of the tail goes there"
    assert await texts(log, "s") == [large, "small", large]


@pytest.mark.parametrize("moved", [False, True])
async def test_removing_a_stream_that_has_rows_in_both_tables(path: Path, moved: bool) -> None:
    store = TailStore(path)
    for name in ("gone", "kept"):
        store.put(name, *"123")
    store.step()  # copied, and not deleted yet
    if moved:
        store.move()
    for name in ("gone", "kept"):
        store.put(name, *"45")
    store.trim("gone", 5)
    assert [e.position for e in store.read("gone").entries] == [5]
    store.delete("gone")
    assert store.read("gone").info is None
    assert [e.position for e in store.read("kept").entries] == [1, 2, 3, 4, 5]
    store.move()
    store.move()
    assert (store.count("entries"), store.count("tail")) == (5, 0)
    store.close()


# -- version 1 -----------------------------------------------------------------------------

#: The statements of version 1, as they were.
VERSION_1 = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE streams (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE,
  head INTEGER NOT NULL DEFAULT 0,
  last_at INTEGER NOT NULL DEFAULT 0,
  earliest INTEGER NOT NULL DEFAULT 1,
  fence INTEGER NOT NULL DEFAULT 0,
  closed INTEGER NOT NULL DEFAULT 0,
  pending INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX streams_pending ON streams (name) WHERE pending;
CREATE TABLE entries (
  id INTEGER PRIMARY KEY, kind TEXT NOT NULL, body BLOB NOT NULL, at INTEGER NOT NULL
);
CREATE TABLE entry_keys (
  stream INTEGER NOT NULL, key TEXT NOT NULL, position INTEGER NOT NULL,
  PRIMARY KEY (stream, key)
) WITHOUT ROWID;
CREATE INDEX entry_keys_position ON entry_keys (stream, position);
CREATE TABLE idempotency (
  scope TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, expires REAL NOT NULL,
  PRIMARY KEY (scope, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_expires ON idempotency (expires);
INSERT INTO meta VALUES ('fence', 7);
INSERT INTO meta VALUES ('epoch', 'of version 1');
INSERT INTO streams VALUES (1, 's', 0, 0, 1, 5, 0, 1), (2, 'trimmed', 9, 1234, 10, 0, 0, 0);
INSERT INTO entries VALUES ((1 << 32) + 1, 'message', x'31', 1000);
INSERT INTO entries VALUES ((1 << 32) + 2, 'message', x'32', 1001);
INSERT INTO entry_keys VALUES (1, 'k', 2);
INSERT INTO idempotency VALUES ('o', 'k', x'76', 1e12);
PRAGMA user_version = 1;
"""


async def test_a_store_of_version_1_is_kept_and_goes_on(path: Path) -> None:
    with connection(path) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(VERSION_1)
    for _ in range(2):
        await (await SqliteLog.open(path)).close()
    log = await SqliteLog.open(path)
    assert log.epoch == "of version 1"
    assert await texts(log, "s") == ["1", "2"]
    assert [e.at for e in (await log.read("s", 0)).entries] == [1000, 1001]
    assert await log.pending() == ["s"]
    assert await log.lookup("o", "k") == b"v"
    assert await log.locate("s", key="k") == 2
    assert await log.next_fence() == 8
    with pytest.raises(StaleWriter):
        await log.append(Append("s", new("no"), fence=4))
    assert await log.append(Append("s", [NewEntry("message", b"2", key="k"), *new("3")])) == [3]
    assert await put(log, "trimmed", "10") == 10
    assert await texts(log, "s") == ["1", "2", "3"]
    await log.close()
    with connection(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


async def test_an_upgrade_that_fails_leaves_version_1(path: Path) -> None:
    with connection(path) as db:
        db.executescript(VERSION_1)
        db.execute("INSERT INTO meta VALUES ('tail', 'in the way')")
    with pytest.raises(LogUnavailable):
        await SqliteLog.open(path)
    with connection(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert db.execute("SELECT count(*) FROM sqlite_master WHERE name='tail'").fetchone() == (0,)
        db.execute("DELETE FROM meta WHERE name='tail'")
    log = await SqliteLog.open(path)
    assert await texts(log, "s") == ["1", "2"]
    await log.close()
