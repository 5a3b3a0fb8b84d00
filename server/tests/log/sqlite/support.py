"""Real obstacles for a real file: other connections, other processes, traced system calls."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from resonantgenesis_server.log.base import Append, Entry, NewEntry
from resonantgenesis_server.log.sqlite.log import SqliteLog

WRITER = Path(__file__).with_name("writer_process.py")


def new(*bodies: str, kind: str = "message") -> list[NewEntry]:
    return [NewEntry(kind, body.encode()) for body in bodies]


async def put(log: SqliteLog, stream: str, *bodies: str) -> int:
    return (await log.append(Append(stream, new(*bodies))))[0]


async def texts(log: SqliteLog, stream: str) -> list[str]:
    return [e.body.decode() for e in await entries(log, stream)]


async def entries(log: SqliteLog, stream: str) -> list[Entry]:
    found: list[Entry] = []
    while True:
        page = await log.read(stream, len(found))
        found.extend(page.entries)
        if page.at_end:
            return found


@contextlib.contextmanager
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        yield db


@contextlib.asynccontextmanager
async def one_group(log: SqliteLog, path: Path) -> AsyncIterator[None]:
    """What is appended inside is committed as one group when the block ends."""
    with connection(path) as db:
        db.execute("BEGIN IMMEDIATE")
        plug = log.append(Append("plug", new("plug")))
        while not log._writer._queue.empty():  # taken, and now waiting for our lock
            await asyncio.sleep(0)
        yield
        db.execute("ROLLBACK")
    await plug


@dataclass(frozen=True)
class Said:
    """A line of the writer process: what became of one append."""

    ok: bool
    stream: str
    position: int
    body: str
    error: str


def said(line: str) -> Said:
    return Said(**json.loads(line))


@contextlib.asynccontextmanager
async def writer_process(
    path: Path, *arguments: str, wrapper: Sequence[str] = ()
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *wrapper,
        sys.executable,
        str(WRITER),
        str(path),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def run_writer(path: Path, *arguments: str, wrapper: Sequence[str] = ()) -> list[Said]:
    """Run it to its end; what it said."""
    async with asyncio.timeout(30), writer_process(path, *arguments, wrapper=wrapper) as process:
        output, _ = await process.communicate()
        assert process.returncode == 0
    return [said(line) for line in output.decode().splitlines()]
