"""`python -m bench.log_engines`: what an append costs on SQLite and on PostgreSQL, in one run.

Streams are written at a steady rate, then as fast as the log goes; the backends take turns. CPU is
that of this process without the load itself, and of all of PostgreSQL's processes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import uvloop
from resonantgenesis_server.log.base import Append, NewEntry
from resonantgenesis_server.log.postgres.log import PostgresLog
from resonantgenesis_server.log.sqlite.log import SqliteLog

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.postgres import PostgresServer

ENTRY = NewEntry("message", b'{"text":"some words of an answer, as usual"}')
#: A page as readers that are behind take it.
PAGE, STORED = 2_000, 10_000


class Round(NamedTuple):
    """CPU in microseconds per token, times in milliseconds."""

    rate: float
    node_us: float
    engine_us: float
    p50_ms: float
    p99_ms: float
    read_ms: float


class NoLog:
    """What the load costs by itself."""

    async def append(self, *_appends: Append) -> list[int]:
        await asyncio.sleep(0)
        return [1]


def engine_cpu(server: PostgresServer) -> float:
    """Of every process that there is or was, but for those that were and did next to nothing."""
    total = 0.0
    for process in [psutil.Process(server.pid), *psutil.Process(server.pid).children()]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


@contextlib.asynccontextmanager
async def opened(name: str, server: PostgresServer) -> AsyncIterator[Any]:
    if name == "load":
        yield NoLog()
        return
    with tempfile.TemporaryDirectory() as folder:
        log: SqliteLog | PostgresLog
        if name == "sqlite":
            log = await SqliteLog.open(Path(folder) / "log.db")
        else:
            log = await PostgresLog.open(server.database())
        try:
            yield log
        finally:
            await log.close()


async def measure(
    log: Any, server: PostgresServer, streams: int, rate: float, seconds: float
) -> Round:
    """`rate` in tokens a second of each stream; 0: as fast as it goes."""
    waits: list[float] = []
    loop = asyncio.get_running_loop()

    async def produce(number: int) -> None:
        name, due = f"s{number}", loop.time() + number / streams / (rate or 1)
        while loop.time() < end:
            if rate:
                await asyncio.sleep(max(0.0, due - loop.time()))
                due += 1 / rate
            began = time.perf_counter()
            await log.append(Append(name, [ENTRY]))
            waits.append(time.perf_counter() - began)

    await asyncio.gather(*(log.append(Append(f"s{n}", [ENTRY])) for n in range(streams)))
    engine, node, began = engine_cpu(server), time.process_time(), time.perf_counter()
    end = loop.time() + seconds
    await asyncio.gather(*(produce(number) for number in range(streams)))
    count, passed = len(waits), time.perf_counter() - began
    node, engine = time.process_time() - node, engine_cpu(server) - engine
    waits.sort()
    return Round(
        count / passed,
        node / count * 1e6,
        engine / count * 1e6,
        waits[count // 2] * 1e3,
        waits[count * 99 // 100] * 1e3,
        0.0 if isinstance(log, NoLog) else await read_all(log),
    )


async def read_all(log: SqliteLog | PostgresLog) -> float:
    """Milliseconds for STORED entries."""
    for _ in range(STORED // PAGE):
        await log.append(Append("stored", [ENTRY] * PAGE))
    times = []
    for _ in range(3):
        began, after = time.perf_counter(), 0
        while after < STORED:
            after = (await log.read("stored", after, limit=PAGE)).entries[-1].position
        times.append(time.perf_counter() - began)
    return min(times) * 1e3


def show(title: str, rounds: dict[str, list[Round]]) -> None:
    found = {
        name: Round(*(statistics.median(values) for values in zip(*each, strict=True)))
        for name, each in rounds.items()
        if each
    }
    load = found.get("load", Round(0, 0, 0, 0, 0, 0)).node_us
    print(f"\n{title}")
    for name, each in found.items():
        print(
            f"  {name:9}{each.rate:9,.0f} tokens/s, node {each.node_us - load:5.1f} µs,"
            f" engine {max(0.0, each.engine_us):5.1f} µs, p50 {each.p50_ms:5.1f} ms,"
            f" p99 {each.p99_ms:6.1f} ms, {STORED:,} read in {each.read_ms:5.1f} ms"
        )
    one, two = found["sqlite"], found["postgres"]
    print(
        f"  PostgreSQL ÷ SQLite: node {(two.node_us - load) / (one.node_us - load):.2f},"
        f" node and engine {(two.node_us + two.engine_us - load) / (one.node_us - load):.2f},"
        f" p50 {two.p50_ms / one.p50_ms:.2f}, p99 {two.p99_ms / one.p99_ms:.2f},"
        f" tokens/s {two.rate / one.rate:.2f}, read {two.read_ms / one.read_ms:.2f}"
    )


async def run(arguments: argparse.Namespace) -> None:
    server = PostgresServer({"shared_buffers": "256MB"}).start()
    try:
        for title, rate in (("steady", arguments.rate), ("as fast as it goes", 0.0)):
            rounds: dict[str, list[Round]] = {"load": [], "sqlite": [], "postgres": []}
            for _ in range(arguments.rounds):
                for name, each in rounds.items():
                    if name == "load" and not rate:
                        continue
                    async with opened(name, server) as log:
                        each.append(
                            await measure(log, server, arguments.streams, rate, arguments.seconds)
                        )
            streams = f"{arguments.streams} streams"
            show(f"{title}: {streams}" + (f", {rate:g} tokens/s each" if rate else ""), rounds)
    finally:
        server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
