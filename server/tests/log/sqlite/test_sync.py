"""By tracing system calls: no append is answered before its bytes are on the disk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from resonantgenesis_server.log.sqlite.log import SqliteLog

from .support import run_writer

pytestmark = pytest.mark.anyio

#: `PID call(FD</path>, …) = RESULT`, or one of the halves of a call that another thread's
#: call came between.
WHOLE = re.compile(r"^(\d+) +(\w+)\(\d+<([^>]*)>(.*)\) += (-?\d+)")
BEGUN = re.compile(r"^(\d+) +(\w+)\(\d+<([^>]*)>(.*) <unfinished \.\.\.>")
ENDED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>.*\) += (-?\d+)")


@dataclass
class Call:
    """A system call that has returned."""

    name: str
    file: str
    arguments: str


def returned_calls(trace: str) -> Iterator[Call]:
    begun: dict[str, Call] = {}
    for line in trace.splitlines():
        if match := BEGUN.match(line):
            begun[match[1]] = Call(match[2], match[3], match[4])
        elif match := ENDED.match(line):
            if int(match[3]) >= 0 and match[1] in begun:
                yield begun.pop(match[1])
        elif (match := WHOLE.match(line)) and int(match[5]) >= 0:
            yield Call(match[2], match[3], match[4])


@dataclass
class Findings:
    answers: int = 0
    early: int = 0  # answered before the bytes of its entry were synced
    syncs: int = 0
    writes: int = 0


#: What every body of the writing program begins with: process, producer, number.
BODY = re.compile(r"\d+\.\d+\.\d+(?=\D)")


def examine(trace: str, path: Path) -> Findings:
    found = Findings()
    written: set[str] = set()
    synced: set[str] = set()
    for call in returned_calls(trace):
        # The main file is written by a checkpoint, from what the synced log holds.
        of_the_log = call.file == f"{path}-wal"
        if of_the_log and call.name.startswith("pwrite"):
            written.update(BODY.findall(call.arguments))
            found.writes += 1
        elif of_the_log and call.name in ("fdatasync", "fsync"):
            synced |= written
            written = set()
            found.syncs += 1
        elif call.name == "write" and r"\"position\"" in call.arguments:
            found.answers += 1
            found.early += not synced.issuperset(BODY.findall(call.arguments))
    return found


async def trace(path: Path, *arguments: str) -> Findings:
    await (await SqliteLog.open(path)).close()
    output = path.with_name("trace")
    calls = "trace=pwrite64,pwritev,pwritev2,fdatasync,fsync,write"
    wrapper = ["strace", "-f", "-y", "-qq", "-s", "5000", "-e", calls, "-o", str(output)]
    said = await run_writer(path, *arguments, wrapper=wrapper)
    assert all(s.ok for s in said)
    found = examine(output.read_text(), path)
    assert found.answers == len(said)
    return found


async def test_each_append_is_synced_before_it_is_answered(path: Path) -> None:
    found = await trace(path, "--count", "30")
    assert (found.answers, found.early) == (30, 0)
    assert found.writes >= found.syncs >= 30, "one after another: each has a sync of its own"


async def test_a_burst_shares_syncs_and_still_waits_for_them(path: Path) -> None:
    found = await trace(path, "--count", "600", "--burst")
    assert (found.answers, found.early) == (600, 0)
    assert 1 <= found.syncs <= 60


@pytest.mark.parametrize("mode", ["NORMAL", "OFF"])
async def test_the_examination_finds_a_log_that_does_not_sync(path: Path, mode: str) -> None:
    found = await trace(path, "--count", "30", "--synchronous", mode)
    assert found.early >= 25
