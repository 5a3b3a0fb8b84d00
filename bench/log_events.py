"""`python -m bench.log_events`: what the events of turns cost the tokens of two nodes.

Two processes write one PostgreSQL log: tokens at a steady rate, and turns whose start and end are
appended together with events of an organization. Once the nodes' turns are of one organization,
once each node has its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import uvloop
from resonantgenesis_server.log.base import Append, Entry, NewEntry
from resonantgenesis_server.log.postgres.log import PostgresLog

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.postgres import PostgresServer

from .log_engines import ENTRY

#: Per node and second, and seconds before the first measured append.
STREAMS, TOKENS, TURNS, WARM = 200, 20, 20, 2.0


class Load:
    """The load of one node. All times are in seconds of the machine's monotonic clock."""

    def __init__(self, name: str, organization: str) -> None:
        self._name = name
        self._events = f"events:{organization}"
        self.log: PostgresLog
        self.from_ = self.until = 0.0
        self.tokens: list[float] = []
        self.starts: list[float] = []
        self.ends: list[float] = []
        #: From an append to its events at the first node that announces them.
        self.ages: list[float] = []

    def committed(self, stream: str, entries: Sequence[Entry]) -> None:
        if stream.startswith("events:"):
            now = time.monotonic()
            sent = [json.loads(entry.body)["sent"] for entry in entries]
            self.ages += [now - each for each in sent if self.from_ <= each <= self.until]

    async def run(self, seconds: float) -> None:
        self.from_ = time.monotonic() + WARM
        self.until = self.from_ + seconds
        async with asyncio.TaskGroup() as group:
            for n in range(STREAMS):
                group.create_task(self._stream(f"{self._name}.{n}", n / STREAMS / TOKENS))
            group.create_task(self._turns())

    async def _timed(self, into: list[float], *appends: Append) -> None:
        began = time.monotonic()
        await self.log.append(*appends)
        if self.from_ <= began <= self.until:
            into.append(time.monotonic() - began)

    async def _stream(self, name: str, delay: float) -> None:
        due = time.monotonic() + delay
        while due < self.until:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self._timed(self.tokens, Append(name, [ENTRY]))
            due += 1 / TOKENS

    async def _turns(self) -> None:
        number = 0
        due = time.monotonic()
        async with asyncio.TaskGroup() as group:
            while due < self.until:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                number += 1
                group.create_task(self._turn(f"{self._name}.turn{number}"))
                due += 1 / TURNS

    async def _turn(self, name: str) -> None:
        control = Append(f"{name}/control", [ENTRY], expect=0, pending=True)
        await self._timed(self.starts, control, self._told(name, "created", "started"))
        await asyncio.sleep(0.5)
        end = Append(f"{name}/control", [ENTRY], expect=1, pending=False)
        chunk = Append(name, [ENTRY], expect=0)
        await self._timed(self.ends, end, chunk, self._told(name, "completed", "usage"))

    def _told(self, name: str, *kinds: str) -> Append:
        body = json.dumps({"sent": time.monotonic(), "text": "x" * 300}).encode()
        return Append(self._events, [NewEntry(kind, body, f"{name}.{kind}") for kind in kinds])


async def node(url: str, name: str, organization: str, seconds: float) -> None:
    load = Load(name, organization)
    load.log = await PostgresLog.open(url, on_commit=load.committed)
    while not load.log.nodes.others and organization != "alone":
        await asyncio.sleep(0.1)
    cpu = time.process_time()
    await load.run(seconds)
    cpu = time.process_time() - cpu
    await asyncio.sleep(1)  # the other node's events
    await load.log.close()
    print(
        json.dumps(
            {
                "cpu": cpu,
                "tokens": load.tokens,
                "starts": load.starts,
                "ends": load.ends,
                "ages": load.ages,
            }
        )
    )


def engine_cpu(server: PostgresServer) -> float:
    """Of all processes of PostgreSQL, those that have ended included."""
    first = psutil.Process(server.pid)
    total = first.cpu_times().children_user + first.cpu_times().children_system
    for process in [first, *first.children()]:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.cpu_times().user + process.cpu_times().system
    return float(total)


def spread(values: list[float]) -> str:
    if len(values) < 100:
        return f"{len(values)} only"
    percent = statistics.quantiles(values, n=100)
    return f"{percent[49] * 1e3:6.1f} {percent[98] * 1e3:6.1f}"


async def measure(server: PostgresServer, organizations: Sequence[str], seconds: float) -> str:
    url = server.database()
    before = engine_cpu(server)
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.log_events", "--node", url, f"n{n}", name, str(seconds),
            stdout=asyncio.subprocess.PIPE,
        )
        for n, name in enumerate(organizations)
    ]  # fmt: skip
    outputs = [(await process.communicate())[0] for process in processes]
    engine = engine_cpu(server) - before
    found: list[dict[str, Any]] = [json.loads(output) for output in outputs]
    both = {
        name: [value for each in found for value in each[name]]
        for name in ("tokens", "starts", "ends", "ages")
    }
    paid = len(both["tokens"]) * (seconds + WARM) / seconds
    node_us = sum(each["cpu"] for each in found) / paid * 1e6
    columns = [spread(values) for values in both.values()]
    columns += [f"{node_us:6.1f}", f"{engine / paid * 1e6:6.1f}", f"{len(both['ages']):7}"]
    return " | ".join(columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--node", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.node:
        url, name, organization, seconds = arguments.node
        uvloop.run(node(url, name, organization, float(seconds)))
        return
    server = PostgresServer({"shared_buffers": "256MB"}).start()
    heads = ["tokens ms", "starts ms", "ends ms", "seen ms", "node µs", "engine", "events"]
    print(f"{'':24} | " + " | ".join(f"{head:>13}" for head in heads[:4]), "|", *heads[4:])
    try:
        for _ in range(arguments.rounds):
            for title, organizations in (
                ("one node", ["alone"]),
                ("two, an organization each", ["a", "b"]),
                ("two of one organization", ["a", "a"]),
            ):
                columns = asyncio.run(measure(server, organizations, arguments.seconds))
                print(f"{title:25}| {columns}", flush=True)
    finally:
        server.close()


if __name__ == "__main__":
    main()
