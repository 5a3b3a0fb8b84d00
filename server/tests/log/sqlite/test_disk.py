"""What the file and the disk can do to us: full, locked, damaged, not writable, too new."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from resonantgenesis_server.log.base import Append, LogUnavailable, StoreIsNewer
from resonantgenesis_server.log.sqlite import schema as sqlite_schema
from resonantgenesis_server.log.sqlite.log import SqliteLog
from resonantgenesis_server.log.sqlite.schema import SCHEMA_VERSION

from .support import connection, new, put, run_writer, texts

pytestmark = pytest.mark.anyio
NOBODY = 65534


async def set_page_limit(log: SqliteLog, pages: int) -> None:
    await log._write(lambda db: db.execute(f"PRAGMA max_page_count={pages}").fetchone())


async def test_a_full_disk_is_told_and_when_there_is_space_again_it_goes_on(
    log: SqliteLog, path: Path
) -> None:
    kept = [f"{n}" for n in range(10)]
    await put(log, "s", *kept)
    with connection(path) as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
    await set_page_limit(log, pages + 20)
    refused = 0
    for n in range(40):
        try:
            await put(log, "s", f"{n}".ljust(10_000))
            kept.append(f"{n}".ljust(10_000))
        except LogUnavailable as error:
            assert "disk is full" in str(error)
            assert "\n" not in str(error)
            refused += 1
    assert refused > 20
    assert await texts(log, "s") == kept
    await set_page_limit(log, 1 << 30)
    assert await put(log, "s", "space is back") == len(kept) + 1
    assert await texts(log, "s") == [*kept, "space is back"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("pwrite64:error=ENOSPC:when=25..45", "disk is full"),
        ("pwrite64:error=EIO:when=30+7", "check the disk"),
        ("fdatasync:error=EIO:when=6+5", "check the disk"),
    ],
)
async def test_system_calls_that_fail_are_told_and_nothing_of_them_is_kept(
    path: Path, fault: str, words: str
) -> None:
    await (await SqliteLog.open(path)).close()
    call = fault.partition(":")[0]
    wrapper = ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={call}", "-e"]
    said = await run_writer(path, "--count", "40", wrapper=[*wrapper, f"inject={fault}"])
    assert len(said) == 40
    failed = [s for s in said if not s.ok]
    assert failed
    assert any(s.ok for s in said[said.index(failed[0]) :]), "it goes on after a failure"
    assert all(words in s.error for s in failed)
    log = await SqliteLog.open(path)
    good = [s for s in said if s.ok]
    assert [s.position for s in good] == list(range(1, len(good) + 1))
    expected = [s.body for s in good]
    assert (await texts(log, "s0"))[: len(expected)] == expected
    assert (await texts(log, "beside"))[: len(expected)] == expected
    # A commit that was written but could not be synced has no known outcome; only the very last
    # append may be such a one after a restart.
    assert len(await texts(log, "s0")) - len(expected) <= (0 if said[-1].ok else 1)
    await log.close()


async def held_by_another_process(path: Path, statements: str) -> asyncio.subprocess.Process:
    code = (
        "import sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "for statement in sys.argv[2].split(';'): db.execute(statement).fetchall()\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(path), statements, stdin=pipe, stdout=pipe
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 10) == b"held\n"
    return process


async def release(process: asyncio.subprocess.Process) -> None:
    await asyncio.wait_for(process.communicate(b""), 10)


async def test_a_file_locked_by_another_process(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_schema, "BUSY_TIMEOUT_MS", 60)
    log = await SqliteLog.open(path)
    await put(log, "s", "1")
    other = await held_by_another_process(path, "BEGIN IMMEDIATE")
    with pytest.raises(LogUnavailable, match="locked by another process"):
        await put(log, "s", "2")
    with pytest.raises(LogUnavailable, match="locked by another process"):
        await log.next_fence()
    assert await texts(log, "s") == ["1"]
    await release(other)
    assert await put(log, "s", "3") == 2
    assert await texts(log, "s") == ["1", "3"]
    await log.close()


async def test_a_lock_that_ends_soon_is_waited_for(log: SqliteLog, path: Path) -> None:
    other = await held_by_another_process(path, "BEGIN IMMEDIATE")
    future = log.append(Append("s", new("1")))
    await release(other)
    assert await future == [1]


async def test_opening_a_file_that_another_process_keeps_for_itself(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_schema, "BUSY_TIMEOUT_MS", 60)
    await (await SqliteLog.open(path)).close()
    other = await held_by_another_process(
        path, "PRAGMA locking_mode=EXCLUSIVE;BEGIN EXCLUSIVE;UPDATE meta SET value=value"
    )
    with pytest.raises(LogUnavailable, match="locked by another process"):
        await SqliteLog.open(path)
    await release(other)
    await (await SqliteLog.open(path)).close()


GARBAGE = random.Random(1).randbytes(200_000)


@pytest.mark.parametrize("content", [GARBAGE, b"not a database", b"SQLite format 3\0" + GARBAGE])
async def test_a_file_that_is_no_store(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(LogUnavailable, match=r"log\.db: .*damaged"):
        await SqliteLog.open(path)
    assert path.read_bytes() == content


async def test_a_store_that_lost_its_epoch(path: Path) -> None:
    await (await SqliteLog.open(path)).close()
    with connection(path) as db:
        db.execute("DELETE FROM meta WHERE name='epoch'")
    with pytest.raises(LogUnavailable, match="damaged"):
        await SqliteLog.open(path)


async def test_damage_in_one_place_leaves_the_rest_usable(path: Path) -> None:
    log = await SqliteLog.open(path)
    for n in range(20):
        await put(log, "first", f"{n}".ljust(3000))
    for n in range(60):
        await put(log, "second", f"{n}".ljust(3000))
    await log.close()
    with path.open("r+b") as file:
        file.seek(-30 * 4096, os.SEEK_END)
        file.write(GARBAGE[: 30 * 4096])
    log = await SqliteLog.open(path)
    with pytest.raises(LogUnavailable, match="damaged"):
        await texts(log, "second")
    with pytest.raises(LogUnavailable, match="damaged"):
        await put(log, "second", "more")
    assert len(await texts(log, "first")) == 20
    assert await put(log, "first", "more") == 21
    await log.close()


async def test_a_file_cut_short(path: Path) -> None:
    log = await SqliteLog.open(path)
    for n in range(60):
        await put(log, "s", f"{n}".ljust(3000))
    await log.close()
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(LogUnavailable, match="damaged"):
        log = await SqliteLog.open(path)
        try:
            await texts(log, "s")
        finally:
            await log.close()


@contextmanager
def as_nobody() -> Iterator[None]:
    """File modes bind us: root gives up its rights, others have none to give up."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def readable_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory
        directory.chmod(0o755)


async def test_a_directory_that_cannot_be_written(readable_directory: Path) -> None:
    readable_directory.chmod(0o555)
    with as_nobody(), pytest.raises(LogUnavailable, match="cannot be written"):
        await SqliteLog.open(readable_directory / "log.db")
    assert list(readable_directory.iterdir()) == []


async def test_a_store_that_cannot_be_written(readable_directory: Path) -> None:
    path = readable_directory / "log.db"
    log = await SqliteLog.open(path)
    await put(log, "s", "1")
    await log.close()
    path.chmod(0o444)
    readable_directory.chmod(0o555)
    with as_nobody(), pytest.raises(LogUnavailable, match="cannot be written"):
        await SqliteLog.open(path)


async def test_paths_that_can_be_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path, tmp_path / "file" / "log.db", tmp_path / "missing" / "log.db"):
        with pytest.raises(LogUnavailable, match="cannot be written"):
            await SqliteLog.open(path)


async def test_a_store_of_a_newer_version_is_left_as_it_is(path: Path) -> None:
    await (await SqliteLog.open(path)).close()
    with connection(path) as db:
        db.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(StoreIsNewer, match=f"version {SCHEMA_VERSION + 1}"):
        await SqliteLog.open(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


async def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()
    log = await SqliteLog.open(path)
    assert await put(log, "s", "1") == 1
    await log.close()
