"""Reading strace: what was written to the log's file and to sockets, and what was synced between.

Lines are of `strace -f -y`: `PID call(FD<path>, …) = result`; a call that others overtake is
split into `… <unfinished ...>` and `<... call resumed> …`. strace stops the process at both ends
of every call, so the order of lines is the order of things.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

#: What a server may use to write, to sync and to send.
CALLS = ("pwrite64", "write", "writev", "sendto", "sendmsg", "fdatasync", "fsync")
_LINE = re.compile(r"^(\d+)\s+(\w+)\((\d+)<((?:[^>\\]|\\.|->)*)>(.*)$", re.DOTALL)
_RESUMED = re.compile(r"^(\d+)\s+<\.\.\. (\w+) resumed>(.*)$", re.DOTALL)
_UNFINISHED = "<unfinished ...>"


@dataclass(slots=True)
class Call:
    """One system call; `began` and `ended` are line numbers."""

    name: str
    path: str
    text: str
    began: int
    ended: int

    @property
    def is_send(self) -> bool:
        return "socket:" in self.path or self.path.startswith("TCP")


def command(output: Path) -> list[str]:
    """What to put before the server's own command."""
    which = ",".join(CALLS)
    options = ["-f", "-y", "-s", "131072", "--seccomp-bpf", "-e", f"trace={which}"]
    return ["strace", *options, "-e", "signal=none", "-o", str(output)]


def parse(lines: Iterable[str]) -> list[Call]:
    """The calls in the order in which they began."""
    calls: list[Call] = []
    open_calls: dict[str, Call] = {}
    for number, line in enumerate(lines):
        resumed = _RESUMED.match(line)
        if resumed is not None:
            call = open_calls.pop(resumed[1], None)
            if call is not None:
                call.ended = number
            continue
        match = _LINE.match(line)
        if match is None:
            continue
        pid, name, _, path, rest = match.groups()
        call = Call(name, path, rest, number, number)
        calls.append(call)
        if line.rstrip().endswith(_UNFINISHED):
            call.ended = 1 << 60
            open_calls[pid] = call
    return calls


def unsynced(calls: Sequence[Call], marks: Iterable[str], wal: str) -> list[str]:
    """The marks that were sent to a socket before a sync of the file that they were written to.

    Raises AssertionError for a mark that was never written or never sent: then nothing is shown.
    """
    syncs = [call for call in calls if call.name in {"fdatasync", "fsync"} and call.path == wal]
    writes = [call for call in calls if call.name == "pwrite64" and call.path == wal]
    sends = [call for call in calls if call.is_send]
    bad = []
    for mark in marks:
        written = next((call for call in writes if mark in call.text), None)
        sent = next((call for call in sends if mark in call.text), None)
        if written is None or sent is None:
            raise AssertionError(f"{mark}: written {written is not None}, sent {sent is not None}")
        if not any(written.ended < sync.began and sync.ended < sent.began for sync in syncs):
            bad.append(mark)
    return bad
