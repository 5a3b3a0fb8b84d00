"""A data directory as a loss of power may leave it: every call on it recorded, then made again up
to some moment, with what was not synced dropped, torn, or kept in another order.

What is assumed of a disk and its file system is no more than POSIX says. Bytes are there for
certain once a sync of their file has returned, names once a sync of their directory has; anything
else may be there or not, in pieces of a sector, whatever came later. Changes of one directory are
kept in their order, as journals do.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_WRITES = ("write", "pwrite64", "ftruncate")
_SYNCS = ("fsync", "fdatasync")
_NAMES = (
    "openat",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "link",
    "linkat",
    "mkdir",
)
_SECTOR = 512
_START = re.compile(r"^(\d+) +(\d+\.\d+) +(?:(\w+)\((.*)|<\.\.\. (\w+) resumed>(.*))$")
_FD = re.compile(r"^(?:AT_FDCWD|\d+)(?:<((?:[^>\\]|\\.)*)>)?(?:, )?(.*)$")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_UNFINISHED = " <unfinished ...>"


def command(output: Path) -> list[str]:
    """What to put before the server's own command."""
    which = ",".join([*_WRITES, *_SYNCS, *_NAMES])
    options = ["-f", "-y", "-ttt", "-xx", "-s", "1000000", "--seccomp-bpf", "-e", f"trace={which}"]
    return ["strace", *options, "-e", "signal=none", "-o", str(output)]


@dataclass(slots=True)
class Call:
    """One call that has succeeded; `began` and `ended` are line numbers, `at` is when it began."""

    name: str
    began: int
    ended: int
    at: float
    path: str
    strings: list[bytes]
    numbers: list[int]
    flags: str


def calls_on(trace: Path, data: Path) -> list[Call]:
    """Those on what lies below `data`, in the order in which they ended."""
    return sorted(_calls(trace, str(data)), key=lambda call: call.ended)


def _calls(trace: Path, data: str) -> Iterator[Call]:
    open_calls: dict[str, tuple[int, float, str, str]] = {}
    with trace.open(encoding="ascii", errors="replace") as lines:
        for number, line in enumerate(lines):
            match = _START.match(line.rstrip("\n"))
            if match is None:
                continue
            pid, at, name, rest, resumed, end = match.groups()
            if resumed is not None:
                if pid not in open_calls:
                    continue
                began, begun_at, name, start = open_calls.pop(pid)
                call = _call(name, start + end, began, number, begun_at, data)
            elif rest.endswith(_UNFINISHED):
                open_calls[pid] = number, float(at), name, rest.removesuffix(_UNFINISHED)
                continue
            else:
                call = _call(name, rest, number, number, float(at), data)
            if call is not None:
                yield call


def _call(name: str, text: str, began: int, ended: int, at: float, data: str) -> Call | None:
    arguments, _, result = text.rpartition(") = ")
    if not arguments or result.startswith("-"):
        return None
    strings = [bytes.fromhex(found[0].replace("\\x", "")) for found in _STRING.findall(arguments)]
    path = ""
    rest = arguments
    if name in (*_WRITES, *_SYNCS):
        match = _FD.match(arguments)
        if match is None:
            return None
        path, rest = match[1] or "", match[2]
        # A descriptor's name is shown as it is, or in hexadecimal.
        if path.startswith("\\x"):
            path = bytes.fromhex(path.replace("\\x", "")).decode()
    paths = [path] if path else [each.decode(errors="replace") for each in strings]
    if not any(each == data or each.startswith(f"{data}/") for each in paths):
        return None
    numbers = [int(each) for each in re.findall(r"(?<![\w\\])\d+(?!\w)", _STRING.sub("", rest))]
    return Call(name, began, ended, at, path, strings, numbers, rest)


@dataclass(slots=True)
class _Write:
    began: int
    ended: int
    offset: int
    data: bytes | None  # None: cut off at `offset`


@dataclass(slots=True)
class _File:
    durable: bytearray = field(default_factory=bytearray)
    waiting: list[_Write] = field(default_factory=list)
    size: int = 0

    def synced(self, began: int) -> None:
        """What had been written when the sync began is there."""
        for write in [each for each in self.waiting if each.ended <= began]:
            _apply(self.durable, write)
            self.waiting.remove(write)


@dataclass(slots=True)
class _Change:
    """Of a directory: the name and what it stands for from then on; None: nothing."""

    ended: int
    path: str
    file: _File | None


class Disk:
    """The data directory as calls leave it."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._names: dict[str, _File] = {}
        self._folders: list[str] = []
        self._durable: dict[str, _File] = {}
        self._waiting: dict[str, list[_Change]] = {}

    def take(self, call: Call) -> None:
        match call.name:
            case "openat" if "O_CREAT" in call.flags or "O_TRUNC" in call.flags:
                path = call.strings[0].decode()
                file = self._names.get(path)
                if file is None:
                    self._name(call, path, _File())
                elif "O_TRUNC" in call.flags:
                    file.waiting.append(_Write(call.began, call.ended, 0, None))
                    file.size = 0
            case "mkdir":
                self._folders.append(call.strings[0].decode())
            case "rename" | "renameat" | "renameat2":
                old, new = (each.decode() for each in call.strings[:2])
                file = self._names[old]
                self._name(call, old, None)
                self._name(call, new, file)
            case "link" | "linkat":
                old, new = (each.decode() for each in call.strings[:2])
                self._name(call, new, self._names[old])
            case "unlink" | "unlinkat":
                self._name(call, call.strings[0].decode(), None)
            case "fsync" | "fdatasync":
                self._sync(call)
            case "write" | "pwrite64" | "ftruncate":
                self._write(call)

    def _name(self, call: Call, path: str, file: _File | None) -> None:
        if file is None:
            self._names.pop(path, None)
        else:
            self._names[path] = file
        folder = str(Path(path).parent)
        self._waiting.setdefault(folder, []).append(_Change(call.ended, path, file))

    def _sync(self, call: Call) -> None:
        file = self._names.get(call.path)
        if file is not None:
            file.synced(call.began)
            return
        waiting = self._waiting.get(call.path, [])
        for change in [each for each in waiting if each.ended <= call.began]:
            _rename(self._durable, change)
            waiting.remove(change)

    def _write(self, call: Call) -> None:
        file = self._names.get(call.path)
        if file is None:
            return
        if call.name == "ftruncate":
            file.waiting.append(_Write(call.began, call.ended, call.numbers[0], None))
            file.size = call.numbers[0]
            return
        data = call.strings[0]
        offset = call.numbers[-1] if call.name == "pwrite64" else file.size
        file.waiting.append(_Write(call.began, call.ended, offset, data))
        file.size = max(file.size, offset + len(data))

    def put(self, target: Path, chosen: random.Random, keeps: float) -> None:
        """An image below `target`: of what waits, each thing is there with this probability (1:
        all, as a kill leaves it; 0: nothing)."""
        names = dict(self._durable)
        for waiting in self._waiting.values():
            kept = len(waiting) if keeps == 1 else chosen.randint(0, round(len(waiting) * keeps))
            for change in waiting[:kept]:
                _rename(names, change)
        target.mkdir(mode=0o700)
        for folder in self._folders:  # what is empty says nothing
            (target / Path(folder).relative_to(self._data)).mkdir(parents=True, exist_ok=True)
        for path, file in names.items():
            if path.endswith("-shm"):  # is mapped, and made anew
                continue
            content = bytearray(file.durable)
            for write in file.waiting:
                if keeps == 1 or chosen.random() < keeps:
                    _apply(content, _torn(write, chosen) if keeps < 1 else write)
            place = target / Path(path).relative_to(self._data)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            place.chmod(0o600)


def _torn(write: _Write, chosen: random.Random) -> _Write:
    """Most are whole; of some only the first sectors got there."""
    if write.data is None or len(write.data) <= _SECTOR or chosen.random() < 0.7:
        return write
    sectors = chosen.randrange(1, -(-len(write.data) // _SECTOR))
    return _Write(write.began, write.ended, write.offset, write.data[: sectors * _SECTOR])


def _apply(content: bytearray, write: _Write) -> None:
    if write.data is None:
        if len(content) > write.offset:
            del content[write.offset :]
        else:
            content.extend(bytes(write.offset - len(content)))
        return
    if len(content) < write.offset:
        content.extend(bytes(write.offset - len(content)))
    content[write.offset : write.offset + len(write.data)] = write.data


def _rename(names: dict[str, _File], change: _Change) -> None:
    if change.file is None:
        names.pop(change.path, None)
    else:
        names[change.path] = change.file


def disk_after(calls: Iterable[Call], data: Path) -> Disk:
    disk = Disk(data)
    for call in calls:
        disk.take(call)
    return disk
