"""kill -9 in the middle of writing, several times on one store."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from resonantgenesis_server.log.sqlite.log import SqliteLog

from .support import Said, entries, said, texts, writer_process

pytestmark = pytest.mark.anyio
STREAMS = [f"s{n}" for n in range(4)]


async def watch(path: Path, until: asyncio.Event) -> dict[tuple[str, int], bytes]:
    """Read along from another process; everything that was ever visible."""
    seen: dict[tuple[str, int], bytes] = {}
    places = dict.fromkeys(STREAMS, 0)
    log = await SqliteLog.open(path)
    while not until.is_set():
        for stream in STREAMS:
            for entry in (await log.read(stream, places[stream])).entries:
                seen[stream, entry.position] = entry.body
                places[stream] = entry.position
    await log.close()
    return seen


async def write_and_kill(path: Path, lines: int) -> tuple[list[Said], dict[tuple[str, int], bytes]]:
    killed = asyncio.Event()
    told: list[Said] = []
    async with asyncio.timeout(30), writer_process(path, "--producers", "12") as process:
        assert process.stdout is not None
        told.append(said((await process.stdout.readline()).decode()))
        watching = asyncio.create_task(watch(path, killed))
        for _ in range(lines):
            told.append(said((await process.stdout.readline()).decode()))
        process.kill()
        rest = (await process.stdout.read()).decode()
        told += [said(line) for line in rest.splitlines() if line.endswith("}")]
        await process.wait()
        killed.set()
        return told, await watching


async def test_what_was_announced_or_seen_survives_kill_9(path: Path) -> None:
    expected: dict[tuple[str, int], bytes] = {}
    for lines in (0, 37, 150, 301, 600):
        told, seen = await write_and_kill(path, lines)
        assert all(t.ok for t in told)
        announced = {(t.stream, t.position): t.body.encode() for t in told}
        assert len(announced) == len(told)
        assert not announced.keys() & expected.keys(), "positions are never given twice"
        expected |= seen | announced
        log = await SqliteLog.open(path)
        found: dict[tuple[str, int], bytes] = {}
        for stream in STREAMS:
            there = await entries(log, stream)
            assert [e.position for e in there] == list(range(1, len(there) + 1))
            found |= {(stream, e.position): e.body for e in there}
        assert {place: found.get(place) for place in expected} == expected
        # Each append went to two streams: all or nothing, also of those that never were answered.
        assert sorted(await texts(log, "beside")) == sorted(b.decode() for b in found.values())
        await log.close()
