"""Files on this machine: sources of uploads and targets of downloads. Blocking calls."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable

#: Called with the bytes that are through and their total; None if the total is unknown.
Progress = Callable[[int, int | None], Any]
#: Bytes read and sent at once.
BLOCK = 256 * 1024
#: Names that a file cannot have.
_NO_NAMES = frozenset({"", ".", ".."})


@runtime_checkable
class ReadsBytes(Protocol):
    """A binary file that is open for reading."""

    def read(self, size: int = ..., /) -> bytes: ...


@runtime_checkable
class BinaryFile(Protocol):
    """A binary file that can be read again."""

    def read(self, size: int = ..., /) -> bytes: ...

    def seekable(self) -> bool: ...

    def seek(self, offset: int, whence: int = ..., /) -> int: ...

    def tell(self) -> int: ...


#: A path, the content itself, an open binary file, or pieces of it.
SyncSource = str | os.PathLike[str] | bytes | ReadsBytes | Iterable[bytes]


@dataclass(frozen=True, slots=True)
class Readable:
    """A source: its name and size, as far as they are known; `blocks` reads it
    from its beginning, more than once only where it `rewinds`."""

    name: str | None
    size: int | None
    rewinds: bool
    blocks: Callable[[], Iterator[bytes]]


def readable(source: SyncSource) -> Readable:
    """Raises OSError for a path that cannot be looked at, TypeError for what is no source."""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        return Readable(path.name, path.stat().st_size, True, lambda: _of_path(path))
    if isinstance(source, bytes | bytearray | memoryview):
        content = bytes(source)
        return Readable(None, len(content), True, lambda: _of_bytes(content))
    if isinstance(source, BinaryFile) and source.seekable():
        start = source.tell()
        size = source.seek(0, os.SEEK_END) - start
        return Readable(_name_of(source), size, True, lambda: _of_file(source, start))
    if isinstance(source, ReadsBytes):
        return Readable(_name_of(source), None, False, lambda: _read(source))
    if isinstance(source, Iterable):
        return Readable(None, None, False, lambda: iter(source))
    raise TypeError(
        f"the source is a path, bytes, a file or an iterable, not {type(source).__name__}"
    )


class Content:
    """The content of an upload: counted, hashed and reported while it is sent.

    `size`: in bytes, None if nobody knows before the end. Raises ValueError without a name.
    """

    def __init__(
        self, name: str | None, size: int | None, rewinds: bool, on_progress: Progress | None
    ) -> None:
        if not name:
            raise ValueError("name= is needed: the content has no name of its own")
        self.name = name
        self.size = size
        self._rewinds = rewinds
        self._begun = False
        self._on_progress = on_progress
        self._sent = 0
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """The SHA-256 of the last attempt's bytes, in hexadecimal."""
        return self._hash.hexdigest()

    def can_repeat(self) -> bool:
        """Whether an attempt can begin."""
        return self._rewinds or not self._begun

    def begin(self) -> None:
        """Begin an attempt."""
        self._begun = True
        self._sent = 0
        self._hash = hashlib.sha256()

    def take(self, block: bytes) -> bytes:
        """Count a block that is about to be sent. Raises ValueError when the size was wrong."""
        self._sent += len(block)
        if self.size is not None and self._sent > self.size:
            raise self._changed()
        self._hash.update(block)
        if self._on_progress is not None:
            self._on_progress(self._sent, self.size)
        return block

    def end(self) -> None:
        """End an attempt. Raises ValueError when the size was wrong."""
        if self.size is not None and self._sent != self.size:
            raise self._changed()

    def blocks(self, source: Iterator[bytes]) -> Iterator[bytes]:
        """One attempt. Raises OSError, ValueError."""
        self.begin()
        for block in source:
            if block:
                yield self.take(block)
        self.end()

    def _changed(self) -> ValueError:
        return ValueError(f"{self.name} has changed its size while it was sent")


class Target:
    """Where a download goes: into a file beside `path`, which takes its place when it is whole.

    Threads may use it one after the other. Raises OSError for a place that cannot be written,
    FileExistsError for one that is taken, unless it may `replace`.
    """

    def __init__(self, to: str | os.PathLike[str], name: str, replace: bool = True) -> None:
        path = Path(to)
        self.path = path / _local_name(name) if path.is_dir() else path
        if not replace and self.path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self.path))
        self._part = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.part")
        self._lock = threading.Lock()
        self._file: BinaryIO | None = self._part.open("xb")

    def write(self, offset: int, data: bytes) -> None:
        """Raises OSError."""
        with self._lock:
            if self._file is not None:
                if offset != self._file.tell():
                    self._file.seek(offset)
                    self._file.truncate()
                self._file.write(data)

    def keep(self) -> None:
        """Put it in its place, whole. Raises OSError."""
        with self._lock:
            if self._file is not None:
                self._file.flush()
                os.fsync(self._file.fileno())
                self._close()
                self._part.replace(self.path)

    def discard(self) -> None:
        """Remove what was not kept."""
        with self._lock:
            if self._close():
                self._part.unlink(missing_ok=True)

    def _close(self) -> bool:
        file, self._file = self._file, None
        if file is not None:
            file.close()
        return file is not None


def _of_path(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from _read(file)


def _of_bytes(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), BLOCK):
        yield content[start : start + BLOCK]


def _of_file(file: BinaryFile, start: int) -> Iterator[bytes]:
    file.seek(start)
    yield from _read(file)


def _read(file: ReadsBytes) -> Iterator[bytes]:
    while block := file.read(BLOCK):
        yield block


def _name_of(file: object) -> str | None:
    name = getattr(file, "name", None)
    return Path(name).name if isinstance(name, str) else None


def _local_name(name: str) -> str:
    """The file's name on this machine: never a path, whatever the server sends."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1].replace("\0", "")
    return "download" if last in _NO_NAMES else last
