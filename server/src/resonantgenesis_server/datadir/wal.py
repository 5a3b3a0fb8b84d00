"""Whether SQLite dropped committed transactions when it opened a store.

SQLite reads a write-ahead log up to the first frame with a wrong checksum, and drops the rest
silently. After a crash that is right: some frames of the last transaction may never have reached
the disk, and no commit was reported. But a transaction begins only once the one before it is
synced. Where a frame behind the end continues one that ended a transaction, that transaction was
on stable storage, and somebody may have seen its data.

The format is that of https://www.sqlite.org/fileformat2.html#walformat, and of the index beside it
https://www.sqlite.org/walformat.html.
"""

from __future__ import annotations

import contextlib
import sqlite3
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_HEADER, _FRAME = 32, 24
#: Its first byte gives the byte order of the words of a checksum.
_MAGIC = 0x377F0682
#: In the index: the number of valid frames.
_INDEX_FRAMES = struct.Struct("=16xI")


def has_wal(path: Path) -> bool:
    """Whether the store was not closed in order. To be called before it is opened."""
    try:
        return wal_of(path).stat().st_size > _HEADER
    except OSError:
        return False


def wal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def has_lost_commits(db: sqlite3.Connection, path: Path) -> bool:
    """Whether committed transactions are gone. To be called with the first connection, which stays
    open meanwhile, before anything is written. False where it is unknown. Raises sqlite3.Error."""
    (page,) = db.execute("PRAGMA page_size").fetchone()
    db.execute("SELECT count(*) FROM sqlite_master").fetchone()  # now the end is known
    try:
        with path.with_name(f"{path.name}-shm").open("rb") as index:
            (end,) = _INDEX_FRAMES.unpack(index.read(_INDEX_FRAMES.size))
        with wal_of(path).open("rb") as file:
            return _Wal(file, page).has_commit_behind(end)
    except (OSError, struct.error):
        return False


def lost_commits(path: Path) -> bool:
    """`has_lost_commits` of a store that nobody has open; closes the store in order."""
    if not has_wal(path):
        return False
    try:
        with contextlib.closing(sqlite3.connect(path)) as db:
            return has_lost_commits(db, path)
    except sqlite3.Error:
        return False  # opening the store will say why


@dataclass(frozen=True, slots=True)
class _Frame:
    """`commit`: the frame ends a transaction. The checksum is over `start` and `content`."""

    commit: bool
    salt: bytes
    checksum: tuple[int, int]
    start: bytes
    content: bytes


class _Wal:
    def __init__(self, file: BinaryIO, page: int) -> None:
        self._file = file
        self._page = page
        header = file.read(_HEADER)
        magic, *_, first, second = struct.unpack(">8I", header)
        self._words = ">" if magic & 1 else "<"
        self._salt = header[16:24]
        if magic & ~1 != _MAGIC or self._sum((0, 0), header[:24]) != (first, second):
            # All is dropped. A log that was written whole has frames of its own salt.
            frame = self._read(1)
            if frame is not None and frame.salt != self._salt:
                mended = header[:16] + frame.salt
                if self._sum((0, 0), mended) == (first, second):
                    self._salt = frame.salt

    def has_commit_behind(self, end: int) -> bool:
        """Whether a transaction behind frame `end` was synced."""
        before: _Frame | None = None
        number = end
        while (frame := self._read(number := number + 1)) is not None:
            if before is not None and before.commit and self._follows(before, frame):
                return True
            before = frame if frame.salt == self._salt else None
        return False

    def _follows(self, before: _Frame, frame: _Frame) -> bool:
        if frame.salt != self._salt:
            return False
        return self._sum(before.checksum, frame.start + frame.content) == frame.checksum

    def _read(self, number: int) -> _Frame | None:
        """None behind the last whole frame; the first is 1."""
        self._file.seek(_HEADER + (number - 1) * (_FRAME + self._page))
        data = self._file.read(_FRAME + self._page)
        if len(data) < _FRAME + self._page:
            return None
        _, pages, _, _, first, second = struct.unpack(">6I", data[:_FRAME])
        return _Frame(pages > 0, data[8:16], (first, second), data[:8], data[_FRAME:])

    def _sum(self, so_far: tuple[int, int], data: bytes) -> tuple[int, int]:
        first, second = so_far
        words = struct.unpack(f"{self._words}{len(data) // 4}I", data)
        for even, odd in zip(words[::2], words[1::2], strict=True):
            first = first + even + second & 0xFFFFFFFF
            second = second + odd + first & 0xFFFFFFFF
        return first, second
