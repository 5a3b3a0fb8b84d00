"""Blobs in a directory: `ab/abcd…` by digest, `tmp/` for what is on its way in.

The directory belongs to one process: whatever lies in `tmp/` when it starts is of one that died.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..datadir.private_file import sync_directory
from .base import BlobError, BlobGone, BlobsFull
from .disk_io import DiskBlob, DiskWriter, Folders, Place

T = TypeVar("T")

#: Files written and read at once; more would only make one disk's queue longer.
_THREADS = 4
#: Seconds that calls under way have when the store is closed.
_LAST_CALLS = 10.0
_BATCH = 500
_DIGEST, _FOLDER = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{2}")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Disk:
    """Runs what may wait for the disk in threads, and turns its errors into ours."""

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
    """The blobs in `root`; made by `open`. `reserve`: bytes of free space that are left alone."""

    def __init__(self, root: Path, disk: Disk, reserve: int) -> None:
        self._root = root
        self._folders = Folders(root)
        self._disk = disk
        self._reserve = reserve

    @classmethod
    async def open(cls, root: Path, *, reserve: int = 0) -> DiskBlobs:
        """Made on first use; what a process that died left half-written is removed."""
        disk = Disk()
        try:
            await disk.run(lambda: _prepare(root))
        except BaseException:
            await disk.close()
            raise
        return cls(root, disk, reserve)

    async def begin(self, expected: int = 0) -> DiskWriter:
        path = self._root / "tmp" / secrets.token_hex(16)
        writer = DiskWriter(Place(path, self._root, self._folders, self._reserve), self._disk.run)
        try:
            await writer.start(expected)
        except BaseException:
            await writer.discard()
            raise
        return writer

    async def find(self, digest: str) -> DiskBlob:
        blob = DiskBlob(self._path(digest), self._disk.run)
        try:
            await blob.start()
        except BlobError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise BlobGone(str(error)) from error
            raise
        except BaseException:
            await blob.close()
            raise
        return blob

    async def remove(self, digests: Sequence[str]) -> int:
        paths = [self._path(digest) for digest in digests]
        return await self._disk.run(lambda: sum(map(_unlink, paths)))

    async def batches(self) -> AsyncIterator[list[str]]:
        for folder in await self._disk.run(lambda: _folders(self._root)):
            found = await self._disk.run(partial(_digests, folder))
            for start in range(0, len(found), _BATCH):
                yield found[start : start + _BATCH]

    async def close(self) -> None:
        await self._disk.close()

    def _path(self, digest: str) -> Path:
        if _DIGEST.fullmatch(digest) is None:
            raise ValueError(f"{digest[:80]!r} is not a digest")
        return self._root / digest[:2] / digest


def _prepare(root: Path) -> None:
    temporary = root / "tmp"
    for folder in (root, temporary):  # parents would follow the umask
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in temporary.iterdir():
        left.unlink()
    sync_directory(root)
    sync_directory(root.parent)


def _unlink(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _folders(root: Path) -> list[Path]:
    return sorted(folder for folder in root.iterdir() if _FOLDER.fullmatch(folder.name))


def _digests(folder: Path) -> list[str]:
    names = [entry.name for entry in folder.iterdir()]
    return sorted(n for n in names if n.startswith(folder.name) and _DIGEST.fullmatch(n))


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        told = f"{where}{error.strerror or error}"
        if error.errno in _FULL:
            raise BlobsFull(told) from error
        raise BlobError(told) from error
