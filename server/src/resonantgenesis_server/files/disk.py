"""Blobs in a directory: `ab/abcd….ID` by digest, `tmp/` for uploads under way.

A name is used once, so whoever removes a blob cannot meet another one. A directory that belongs to
one process is tidied when it is opened: whatever lies in `tmp/` is of a process that died, as is
every older blob without a record. In one that several nodes share only age tells, by the clock of
the file system.

Calls that wait for the disk run in threads. A caller that is cancelled leaves its call running, so
each open file has a lock: nothing is closed while a thread uses it, and nothing is opened once it
was given up.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from ..datadir.private_file import sync_directory, write_private
from .base import BlobDamaged, BlobError, BlobGone, BlobsFull

T = TypeVar("T")

#: The file that names a directory; see `place_of`.
_PLACE = "place"
#: Files written and read at once; more would only make one disk's queue longer.
_THREADS = 4
#: Seconds that calls under way have when the store is closed.
_LAST_CALLS = 10.0
#: Names listed at once.
_LISTED = 500
#: Bytes after which the file is synced and the free space checked. The last sync is then short, and
#: an upload that is faster than the disk waits here and not at its end.
SYNC_EVERY = 32 * 1024 * 1024
#: A blob that an older version has written has no ID.
_NAME, _FOLDER = re.compile(r"([0-9a-f]{64})(\.[0-9a-f]{32})?"), re.compile(r"[0-9a-f]{2}")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def place_of(root: Path) -> str:
    """The directory's own name, which all nodes read that share it. Raises OSError."""
    path = root / _PLACE
    if not path.exists():
        with contextlib.suppress(FileExistsError):
            write_private(path, secrets.token_hex(16), replaces=False)
    return path.read_text("ascii")


class Disk:
    """Runs calls that may wait for the disk in threads, and translates their errors."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="files")

    async def run(self, work: Callable[[], T]) -> T:
        """Raises BlobError. Work that has begun goes on when the caller is cancelled."""
        try:
            job = asyncio.get_running_loop().run_in_executor(self._threads, work)
        except RuntimeError as error:
            raise BlobError("the files are closed") from error
        with _translated():
            return await job

    async def close(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_CALLS):
                await asyncio.to_thread(self._threads.shutdown)


class DiskBlobs:
    """The blobs in `root`; made by `open`. `reserve`: bytes of free space that stay free."""

    def __init__(self, root: Path, disk: Disk, reserve: int, opened: float) -> None:
        self._root = root
        self._folders = _Folders(root)
        self._disk = disk
        self._reserve = reserve
        # What was kept before is of a process that has ended.
        self._opened = opened

    @classmethod
    async def open(cls, root: Path, *, reserve: int = 0, shared: bool = False) -> DiskBlobs:
        """Make the directory on first use; remove what a process that died left half-written,
        unless other nodes share the directory."""
        disk = Disk()
        try:
            opened = await disk.run(lambda: _prepare(root, shared))
        except BaseException:
            await disk.close()
            raise
        return cls(root, disk, reserve, 0.0 if shared else opened)

    @classmethod
    def to_read(cls, root: Path) -> DiskBlobs:
        """The blobs of a directory in which nothing is written: it may be read-only."""
        return cls(root, Disk(), 0, 0.0)

    async def begin(self, expected: int = 0) -> DiskWriter:
        path = self._root / "tmp" / secrets.token_hex(16)
        target = _Target(path, self._root, self._folders, self._reserve)
        writer = DiskWriter(target, self._disk)
        try:
            await writer.start(expected)
        except BaseException:
            await writer.discard()
            raise
        return writer

    async def find(
        self, name: str, digest: str, *, start: int = 0, end: int | None = None
    ) -> DiskBlob:
        blob = DiskBlob(self._path(name), digest, self._disk)
        try:
            with _absence():
                await blob.start()
        except BaseException:
            await blob.close()
            raise
        return blob

    async def size(self, name: str) -> int:
        path = self._path(name)
        with _absence():
            return await self._disk.run(lambda: path.stat().st_size)

    async def remove(self, names: Sequence[str]) -> int:
        paths = [self._path(name) for name in names if _NAME.fullmatch(name)]
        return await self._disk.run(lambda: sum(map(_unlink, paths)))

    async def batches(self, older: float) -> AsyncIterator[list[str]]:
        now = await self._disk.run(lambda: _now(self._root))
        for folder in await self._disk.run(lambda: _folders(self._root)):
            names = await self._disk.run(partial(_names, folder, now - older, self._opened))
            for start in range(0, len(names), _LISTED):
                yield names[start : start + _LISTED]

    async def clear(self, older: float) -> int:
        def clear() -> int:
            before = _now(self._root) - older
            left = (self._root / "tmp").iterdir()
            return sum(_unlink(path) for path in left if _changed(path, before) <= before)

        return await self._disk.run(clear)

    async def close(self) -> None:
        await self._disk.close()

    def _path(self, name: str) -> Path:
        """Raises BlobGone for a name of another store: the settings have changed."""
        if _NAME.fullmatch(name) is None:
            raise BlobGone(f"{name[:80]!r} is no blob's name on disk")
        return self._root / name[:2] / name


class _Folders:
    """The folders of a store, by the first characters of the digests in them.

    A folder counts as known once its own entry is on stable storage. That it can be seen proves
    nothing: the process that made it may have failed to sync it, or have died before.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: set[str] = set()

    def of(self, digest: str) -> Path:
        """The folder for this blob, durably there."""
        name = digest[:2]
        folder = self._root / name
        if name not in self._known:
            folder.mkdir(mode=0o700, exist_ok=True)
            sync_directory(self._root)
            self._known.add(name)
        return folder


@dataclass(frozen=True, slots=True)
class _Target:
    """A blob is written to `path` and kept below `root`; `reserve` bytes of space stay free."""

    path: Path
    root: Path
    folders: _Folders
    reserve: int

    def open(self) -> int:
        """A descriptor of the new file."""
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def check_room(self, size: int = 0) -> None:
        """Raises BlobsFull where `size` bytes more would go into the reserve."""
        space = os.statvfs(self.root)
        if space.f_bavail * space.f_frsize - size < self.reserve:
            reason = f"less than {self.reserve} bytes would stay free"
            if not self.reserve:
                reason = f"has no room for {size} bytes"
            raise BlobsFull(f"{self.root}: {reason}")

    def keep(self, digest: str) -> str:
        """Move the blob to its folder, durably; its name."""
        folder = self.folders.of(digest)
        name = f"{digest}.{self.path.name}"
        self.path.replace(folder / name)
        sync_directory(folder)
        return name


class _OpenFile:
    """A descriptor that is opened once and closed once, used by one thread at a time."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._closed = False

    @property
    def _fd(self) -> int:
        """With the lock held."""
        if self._descriptor is None:
            raise ValueError("the file is not open")
        return self._descriptor

    def _start(self, open_: Callable[[], int]) -> None:
        with self._lock:
            if not self._closed:
                self._descriptor = open_()

    def _close(self) -> bool:
        """Whether it was open until now; with the lock held."""
        descriptor, self._descriptor, self._closed = self._descriptor, None, True
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is not None


class DiskWriter(_OpenFile):
    """A BlobWriter over a temporary file."""

    def __init__(self, target: _Target, disk: Disk) -> None:
        super().__init__(disk)
        self._target = target
        self._hash = hashlib.sha256()
        self._unsynced = 0
        self._digest: str | None = None
        self._kept = False

    async def start(self, expected: int) -> None:
        """To be called first."""

        def start() -> None:
            self._target.check_room(expected)
            self._start(self._target.open)

        await self._disk.run(start)

    async def write(self, data: bytes) -> None:
        await self._disk.run(lambda: self._write(data))

    async def finish(self) -> str:
        await self._disk.run(self._finish)
        self._digest = self._hash.hexdigest()
        return self._digest

    async def keep(self) -> str:
        digest = self._digest
        if digest is None:
            raise ValueError("keep before finish")
        return await self._disk.run(lambda: self._keep(digest))

    async def discard(self) -> None:
        await self._disk.run(self._discard)

    def _write(self, data: bytes) -> None:
        with self._lock:
            left = memoryview(data)
            while left:
                left = left[os.write(self._fd, left) :]
            self._hash.update(data)
            self._unsynced += len(data)
            if self._unsynced >= SYNC_EVERY:
                self._unsynced = 0
                os.fdatasync(self._fd)
                self._target.check_room()

    def _finish(self) -> None:
        with self._lock:
            os.fsync(self._fd)

    def _keep(self, digest: str) -> str:
        with self._lock:
            name = self._target.keep(digest)
            self._kept = True
            return name

    def _discard(self) -> None:
        with self._lock:
            if self._close() and not self._kept:
                self._target.path.unlink(missing_ok=True)


class DiskBlob(_OpenFile):
    """A Blob over a file."""

    def __init__(self, path: Path, digest: str, disk: Disk) -> None:
        super().__init__(disk)
        self._path = path
        self._digest = digest
        self.size = 0
        # Of the first `_hashed` bytes, which were read in order and without a gap.
        self._hash = hashlib.sha256()
        self._hashed = 0

    async def start(self) -> None:
        """To be called first."""

        def start() -> None:
            self._start(lambda: os.open(self._path, os.O_RDONLY | os.O_CLOEXEC))
            with self._lock:
                if not self._closed:
                    self.size = os.fstat(self._fd).st_size

        await self._disk.run(start)

    async def read(self, offset: int, size: int) -> bytes:
        return await self._disk.run(lambda: self._read(offset, size))

    async def close(self) -> None:
        await self._disk.run(self._shut)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def _read(self, offset: int, size: int) -> bytes:
        with self._lock:
            data = os.pread(self._fd, size, offset)
            if data and offset == self._hashed:
                self._hash.update(data)
                self._hashed += len(data)
                if self._hashed == self.size and self._hash.hexdigest() != self._digest:
                    raise BlobDamaged(f"{self._path}: is not what was written")
            return data

    def _shut(self) -> None:
        with self._lock:
            self._close()


def _prepare(root: Path, shared: bool) -> float:
    """The time when it was done, by the clock of the file system."""
    temporary = root / "tmp"
    for folder in (root, temporary):  # parents would follow the umask
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in () if shared else temporary.iterdir():
        left.unlink()
    sync_directory(root)
    sync_directory(root.parent)
    return _now(root)


def _now(root: Path) -> float:
    """The time of the file system, which may be another machine's."""
    path = root / "tmp" / secrets.token_hex(16)
    path.touch(mode=0o600, exist_ok=False)
    try:
        return path.stat().st_mtime
    finally:
        path.unlink(missing_ok=True)


def _changed(path: Path, gone: float) -> float:
    """When it was written last; `gone` for what is no longer there."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return gone


def _unlink(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _folders(root: Path) -> list[Path]:
    return sorted(folder for folder in root.iterdir() if _FOLDER.fullmatch(folder.name))


def _names(folder: Path, before: float, opened: float) -> list[str]:
    """The blobs that were kept up to the time `before`, or earlier than `opened`."""
    found = sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
    times = [(path.name, _changed(path, before)) for path in found]
    return [
        name
        for name, kept in times
        if name.startswith(folder.name) and (kept <= before or kept < opened)
    ]


@contextlib.contextmanager
def _absence() -> Iterator[None]:
    """A file that is not there is a blob that is gone."""
    try:
        yield
    except BlobError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise BlobGone(str(error)) from error
        raise


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        message = f"{where}{error.strerror or error}"
        if error.errno in _FULL:
            raise BlobsFull(message) from error
        raise BlobError(message) from error
