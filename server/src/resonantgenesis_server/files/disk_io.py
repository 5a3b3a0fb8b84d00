"""One blob being written, one being read; the calls that wait for the disk run in threads.

A caller that is cancelled leaves its call running in a thread, so each object has a lock: nothing
is closed while a thread uses it, and nothing is opened once it was given up.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

from ..datadir.private_file import sync_directory
from .base import BlobDamaged, BlobsFull

T = TypeVar("T")

#: Bytes after which what was written is synced and the room looked at: so the last sync is short,
#: and whoever writes faster than the disk waits here and not there.
SYNC_EVERY = 32 * 1024 * 1024


class Run(Protocol):
    """Runs a call in a thread; see `Disk.run`."""

    async def __call__(self, work: Callable[[], T]) -> T: ...


class Folders:
    """The folders of a store, by the first characters of what is in them. One is known once its
    own entry is on stable storage: that it can be seen says nothing of that, since whoever made it
    may have failed to sync it, or have died before."""

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
class Place:
    """Where a blob is written (`path`), where it is to be kept (below `root`), and how many bytes
    of free space are to be left."""

    path: Path
    root: Path
    folders: Folders
    reserve: int

    def open(self) -> int:
        """A descriptor of the new file."""
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def check_room(self, wanted: int = 0) -> None:
        """Raises BlobsFull where these bytes would go into what is to be left."""
        found = os.statvfs(self.root)
        if found.f_bavail * found.f_frsize - wanted < self.reserve:
            raise BlobsFull(f"{self.root}: less than {self.reserve} bytes would stay free")

    def keep(self, digest: str) -> None:
        """Move it to where it is found, durably."""
        folder = self.folders.of(digest)
        self.path.replace(folder / digest)
        sync_directory(folder)


class _Open:
    """A descriptor that is opened once and closed once, used by one thread at a time."""

    def __init__(self, run: Run) -> None:
        self._run = run
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


class DiskWriter(_Open):
    """A BlobWriter over a temporary file."""

    def __init__(self, place: Place, run: Run) -> None:
        super().__init__(run)
        self._place = place
        self._hash = hashlib.sha256()
        self._unsynced = 0
        self._digest: str | None = None
        self._kept = False

    async def start(self, expected: int) -> None:
        """To be called first."""

        def start() -> None:
            self._place.check_room(expected)
            self._start(self._place.open)

        await self._run(start)

    async def write(self, data: bytes) -> None:
        await self._run(lambda: self._write(data))

    async def finish(self) -> str:
        await self._run(self._finish)
        self._digest = self._hash.hexdigest()
        return self._digest

    async def keep(self) -> None:
        digest = self._digest
        if digest is None:
            raise ValueError("keep before finish")
        await self._run(lambda: self._keep(digest))

    async def discard(self) -> None:
        await self._run(self._discard)

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
                self._place.check_room()

    def _finish(self) -> None:
        with self._lock:
            os.fsync(self._fd)

    def _keep(self, digest: str) -> None:
        with self._lock:
            self._place.keep(digest)
            self._kept = True

    def _discard(self) -> None:
        with self._lock:
            if self._close() and not self._kept:
                self._place.path.unlink(missing_ok=True)


class DiskBlob(_Open):
    """A Blob over a file, whose name is its digest."""

    def __init__(self, path: Path, run: Run) -> None:
        super().__init__(run)
        self._path = path
        self.size = 0
        #: Of what was read from the beginning on, without a gap: so many bytes.
        self._hash = hashlib.sha256()
        self._hashed = 0

    async def start(self) -> None:
        """To be called first."""

        def start() -> None:
            self._start(lambda: os.open(self._path, os.O_RDONLY | os.O_CLOEXEC))
            with self._lock:
                if not self._closed:
                    self.size = os.fstat(self._fd).st_size

        await self._run(start)

    async def read(self, offset: int, size: int) -> bytes:
        return await self._run(lambda: self._read(offset, size))

    async def close(self) -> None:
        await self._run(self._shut)

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
                if self._hashed == self.size and self._hash.hexdigest() != self._path.name:
                    raise BlobDamaged(f"{self._path}: is not what was written")
            return data

    def _shut(self) -> None:
        with self._lock:
            self._close()
