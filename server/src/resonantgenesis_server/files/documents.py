"""Small named documents beside blobs: what a place for backups knows of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from ..datadir.private_file import write_private
from .base import BlobError

T = TypeVar("T")
_SUFFIX = ".json"


class Documents(Protocol):
    """Documents in ASCII. A crash leaves a document as it was or as it is to be. Raises
    BlobError."""

    async def names(self) -> Sequence[str]: ...

    async def read(self, name: str) -> bytes | None:
        """None: there is no such document."""
        ...

    async def write(self, name: str, content: bytes) -> None: ...

    async def remove(self, name: str) -> None:
        """One that is not there is no error."""
        ...


class DiskDocuments:
    """Documents as files in one folder, for their owner alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def names(self) -> Sequence[str]:
        return await self._run(
            lambda: sorted(path.name.removesuffix(_SUFFIX) for path in self._found())
        )

    async def read(self, name: str) -> bytes | None:
        def read() -> bytes | None:
            try:
                return self._path(name).read_bytes()
            except FileNotFoundError:
                return None

        return await self._run(read)

    async def write(self, name: str, content: bytes) -> None:
        await self._run(lambda: write_private(self._path(name), content.decode("ascii")))

    async def remove(self, name: str) -> None:
        await self._run(lambda: self._path(name).unlink(missing_ok=True))

    def _found(self) -> Sequence[Path]:
        return [path for path in self._folder.iterdir() if path.suffix == _SUFFIX]

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{_SUFFIX}"

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(work)
        except OSError as error:
            raise BlobError(f"{self._folder}: {error.strerror or error}") from error
