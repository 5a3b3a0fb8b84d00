"""A program that appends and says, with one write(2) each, what became of every append.

    writer_process.py PATH --count N [--producers N] [--burst] [--synchronous MODE]
                           [--move ROWS,ROWS]

`--count 0` goes on until killed. `--burst` submits all before awaiting any.
`--move`: the rows of the tail that begin a move, and the rows of a step.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
from pathlib import Path

from resonantgenesis_server.log.base import Append, LogUnavailable, NewEntry
from resonantgenesis_server.log.sqlite import tail as sqlite_tail
from resonantgenesis_server.log.sqlite import writer as sqlite_writer
from resonantgenesis_server.log.sqlite.log import SqliteLog
from resonantgenesis_server.log.sqlite.schema import configure_writer


def tell(future: asyncio.Future[list[int]], stream: str, body: str) -> None:
    error = future.exception()
    line = {
        "ok": error is None,
        "stream": stream,
        "position": future.result()[0] if error is None else 0,
        "body": body,
        "error": "" if error is None else str(error),
    }
    os.write(1, json.dumps(line).encode() + b"\n")


def submit(log: SqliteLog, name: int, n: int) -> asyncio.Future[list[int]]:
    stream = f"s{name % 4}"
    body = f"{os.getpid()}.{name}.{n}" + "." * (n % 700)
    beside = NewEntry("message", body.encode(), key=body)
    future = log.append(
        Append(stream, [NewEntry("message", body.encode())]), Append("beside", [beside])
    )
    future.add_done_callback(lambda done: tell(done, stream, body))
    return future


async def produce(log: SqliteLog, name: int, count: int) -> None:
    n = 0
    while count == 0 or n < count:
        n += 1
        await log.room()
        # A LogUnavailable was told by the callback; the next one is tried.
        await asyncio.gather(submit(log, name, n), return_exceptions=True)


async def main(arguments: argparse.Namespace) -> None:
    log = await SqliteLog.open(arguments.path)
    if arguments.burst:
        await asyncio.gather(*(submit(log, 0, n) for n in range(arguments.count)))
    else:
        await asyncio.gather(
            *(produce(log, name, arguments.count) for name in range(arguments.producers))
        )
    await log.close()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--producers", type=int, default=1)
    parser.add_argument("--burst", action="store_true")
    parser.add_argument("--synchronous", default="FULL")
    parser.add_argument("--move", default="")
    return parser.parse_args()


if __name__ == "__main__":
    given = parse()
    if given.synchronous != "FULL":

        def careless(db: sqlite3.Connection) -> None:
            configure_writer(db)
            db.execute(f"PRAGMA synchronous={given.synchronous}")

        sqlite_writer.configure_writer = careless  # type: ignore[attr-defined]
    if given.move:
        names = ("_MOVE_ROWS", "_STEP_ROWS")
        for name, size in zip(names, given.move.split(","), strict=True):
            setattr(sqlite_tail, name, int(size))
    try:
        asyncio.run(main(given))
    except LogUnavailable as failure:
        raise SystemExit(str(failure)) from failure
