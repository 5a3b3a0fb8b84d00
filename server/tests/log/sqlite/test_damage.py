"""A write-ahead log that the disk has changed: what SQLite drops without a word is told."""

from __future__ import annotations

import shutil
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from resonantgenesis_server.datadir.wal import has_wal, lost_commits, wal_of
from resonantgenesis_server.log.base import Append, NewEntry
from resonantgenesis_server.log.sqlite.log import SqliteLog
from resonantgenesis_server.metrics import METERS
from resonantgenesis_server.records.store import Records
from structlog.testing import capture_logs

from .support import entries

pytestmark = pytest.mark.anyio

HEADER, FRAME = 32, 24
Damage = Callable[[bytearray, int, int], None]


def flip_content(wal: bytearray, at: int, page: int) -> None:
    wal[at + FRAME + page // 3] ^= 0x10


def flip_checksum(wal: bytearray, at: int, page: int) -> None:
    wal[at + 17] ^= 0x01


def flip_salt(wal: bytearray, at: int, page: int) -> None:
    wal[at + 9] ^= 0x80


def lose_all(wal: bytearray, at: int, page: int) -> None:
    wal[at : at + FRAME + page] = bytes(FRAME + page)


class Crashed:
    """A store as a process that was killed has left it, with the frames of its WAL."""

    def __init__(self, path: Path, folder: Path) -> None:
        folder.mkdir()
        self.path = folder / path.name
        for each in path.parent.glob(f"{path.name}*"):
            if not each.name.endswith("-shm"):
                shutil.copy(each, folder / each.name)
        self.whole = wal_of(self.path).read_bytes()
        self.page = struct.unpack(">I", self.whole[8:12])[0]
        size = FRAME + self.page
        self.frames = range(HEADER, len(self.whole) - size + 1, size)
        #: Those that end a transaction, by their number from 0.
        self.commits = [
            number
            for number, at in enumerate(self.frames)
            if struct.unpack(">I", self.whole[at + 4 : at + 8])[0]
        ]
        self.store = self.path.read_bytes()

    def damage(self, number: int, how: Damage) -> None:
        wal = bytearray(self.whole)
        how(wal, self.frames[number], self.page)
        self.put(bytes(wal))

    def put(self, wal: bytes) -> None:
        self.path.write_bytes(self.store)
        wal_of(self.path).write_bytes(wal)
        self.path.with_name(f"{self.path.name}-shm").unlink(missing_ok=True)


async def fill(log: SqliteLog, appends: int) -> None:
    for number in range(appends):
        # Some transactions have one frame, some several.
        rows = [NewEntry("k", b"%d" % number * 300)] * (1 + 20 * (number % 2))
        await log.append(Append("s", rows))


@pytest.fixture
async def crashed(path: Path, tmp_path: Path) -> Crashed:
    log = await SqliteLog.open(path)
    await fill(log, 6)
    copied = Crashed(path, tmp_path / "crashed")
    await log.close()
    return copied


async def opened(crashed: Crashed) -> tuple[str, int, int]:
    """The epoch, how many entries there are, and how many lines tell of a loss."""
    with capture_logs() as told:
        log = await SqliteLog.open(crashed.path)
        found = len(await entries(log, "s"))
        epoch = log.epoch
        await log.close()
    return epoch, found, sum("lost" in line["event"] for line in told)


@pytest.mark.parametrize("how", [flip_content, flip_checksum, flip_salt, lose_all])
async def test_a_damaged_frame_before_the_last_transaction_gives_a_new_epoch(
    crashed: Crashed, how: Damage
) -> None:
    crashed.put(crashed.whole)
    before, whole, _ = await opened(crashed)
    last = crashed.commits[-2] + 1  # where the last transaction begins
    for number in range(len(crashed.frames)):
        crashed.damage(number, how)
        counted = METERS.damaged.counts["log"]
        epoch, found, told = await opened(crashed)
        # A damaged end of the last but one, before a last of one frame, cannot be told from a
        # last transaction that never got there whole.
        sure = number < last and not (number == last - 1 and how is not flip_content)
        if how is flip_content or number < crashed.commits[-3] or number >= last:
            assert (epoch != before) == sure, f"frame {number}"
        assert (told == 1) == (epoch != before)
        assert METERS.damaged.counts["log"] == counted + told
        assert found < whole


async def test_a_last_transaction_that_is_not_whole_changes_nothing(crashed: Crashed) -> None:
    """As every crash leaves it."""
    crashed.put(crashed.whole)
    before, *_ = await opened(crashed)
    size = FRAME + crashed.page
    for cut in (1, size // 2, size, size + 1):
        crashed.put(crashed.whole[:-cut])
        assert (await opened(crashed))[0] == before
    # Nor do frames of an earlier round of the same file, which were all copied.
    old = bytearray(crashed.whole)
    for at in crashed.frames:
        old[at + 8] ^= 0xFF
    crashed.put(crashed.whole + bytes(old[HEADER:]))
    assert (await opened(crashed))[0] == before


@pytest.mark.parametrize("byte", [0, 5, 17, 21, 25, 30])
async def test_a_damaged_header_gives_a_new_epoch(crashed: Crashed, byte: int) -> None:
    crashed.put(crashed.whole)
    before, *_ = await opened(crashed)
    wal = bytearray(crashed.whole)
    wal[byte] ^= 0x04
    crashed.put(bytes(wal))
    epoch, found, told = await opened(crashed)
    assert (epoch != before, found, told) == (True, 0, 1)


async def test_a_new_epoch_stays(crashed: Crashed) -> None:
    crashed.damage(0, flip_content)
    epoch, *_ = await opened(crashed)
    assert (await opened(crashed))[0] == epoch
    log = await SqliteLog.open(crashed.path)
    await fill(log, 2)
    assert log.epoch == epoch
    await log.close()


async def test_damaged_records_are_told(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    records = await Records.open(f"sqlite:///{path}")
    for number in range(5):
        await records.organizations.create(f"{number}")
    crashed = Crashed(path, tmp_path / "crashed")
    await records.close()
    assert not has_wal(path)
    crashed.damage(crashed.commits[-3], flip_content)
    before = METERS.damaged.counts["records"]
    with capture_logs() as told:
        after = await Records.open(f"sqlite:///{crashed.path}")
    assert METERS.damaged.counts["records"] == before + 1
    assert [line["event"].split(":")[0] for line in told] == [
        "the records have lost what was committed"
    ]
    assert len((await after.organizations.all()).items) < 5
    await after.close()


def test_what_is_no_store_is_no_loss(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    assert not lost_commits(path)
    path.write_bytes(b"no database" * 100)
    wal_of(path).write_bytes(b"\0" * 100)
    assert not lost_commits(path)
    with sqlite3.connect(tmp_path / "y.db") as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    wal_of(tmp_path / "y.db").write_bytes(b"\1" * 5_000)
    assert not lost_commits(tmp_path / "y.db")
