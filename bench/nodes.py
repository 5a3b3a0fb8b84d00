"""`python -m bench.nodes`: the embedded store beside PostgreSQL, with one node and with two.

Sessions stream at a steady rate, each to one viewer of its own; with two nodes every viewer is at
the other node than its turn. Then one session streams to many viewers at the other node. CPU is
that of each node's processes and of all of PostgreSQL's; times are from the agent to the viewer.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import uvloop

from .harness.paths import ROOT
from .harness.process import Process, Server, free_port, stopping
from .peers.ours import HEADERS, KEY, goal

sys.path.insert(0, str(ROOT / "tests"))

from support.postgres import PostgresServer

from .log_engines import engine_cpu

_MARK = re.compile(rb"@(\d+):(\d+);")
SECRET = secrets.token_hex(32)
#: Rounds take turns, so that the machine's other work meets all alike.
MODES = ("embedded", "postgres", "two nodes")


class Round(NamedTuple):
    """CPU in microseconds per chunk delivered, times in milliseconds."""

    delivered: float
    nodes_us: tuple[float, ...]
    engine_us: float
    p50_ms: float
    p99_ms: float


class Viewer:
    """Reads one stream; checks that numbers come without a gap, and keeps their ages."""

    def __init__(self) -> None:
        self.ages: list[float] = []
        self.last = 0

    async def read(self, port: int, path: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {KEY}\r\n\r\n"
        writer.write(head.encode())
        rest = b""
        try:
            while data := await reader.read(1 << 16):
                now = time.monotonic_ns() // 1000
                rest += data
                end = rest.rfind(b"\n\n")
                if end < 0:
                    continue
                whole, rest = rest[:end], rest[end:]
                if b"event: done" in whole:
                    whole = whole[: whole.index(b"event: done")]  # it repeats the whole output
                    rest = b""
                for at, number in _MARK.findall(whole):
                    assert int(number) == self.last + 1, f"{number!r} after {self.last}"
                    self.last += 1
                    self.ages.append((now - int(at)) / 1e3)
                if not rest:
                    return
        finally:
            writer.close()


@contextmanager
def serving(mode: str, database: PostgresServer, databases: int) -> Iterator[list[Server]]:
    """The nodes; the first one runs the turns, viewers are at the last. On PostgreSQL their
    sessions are spread over so many databases."""
    environment = {"RESONANTGENESIS_BOOTSTRAP_KEY": KEY, "RESONANTGENESIS_SECRET": SECRET}
    urls = [database.database() for _ in range(0 if mode == "embedded" else databases)]
    with tempfile.TemporaryDirectory(dir=ROOT / "bench/.work") as work, stopping([]) as started:
        nodes = []
        for number in range(2 if mode == "two nodes" else 1):
            directory, port = Path(work) / str(number), free_port()
            directory.mkdir()
            command = [str(ROOT / ".venv/bin/resonantgenesis"), "serve", "--port", str(port)]
            command += ["--data", str(directory / "data"), "--agent", "bench=bench.agent:paced"]
            command += ["--log-level", "warning", "--drain-seconds", "0"]
            command += [word for url in urls for word in ("--store", url)]
            process = Process(command, directory, cwd=ROOT, environment=environment)
            started.append(process)
            process.wait_for_port(port)
            nodes.append(Server(port, directory, [process]))
        try:
            yield nodes
        finally:
            for node in nodes:
                node.stop()


async def measure(
    mode: str,
    database: PostgresServer,
    sessions: int,
    viewers: int,
    arguments: argparse.Namespace,
) -> Round:
    """`viewers` of each session."""
    rate, seconds = arguments.rate, arguments.seconds
    with serving(mode, database, arguments.databases) as nodes:
        first, last = nodes[0], nodes[-1]
        count = int(rate * (seconds + 60))
        async with httpx.AsyncClient(headers=HEADERS, timeout=60) as client:
            there = f"http://127.0.0.1:{first.port}/v1/sessions"
            made = [
                (await client.post(there, json={"agent_id": "bench"})).json()["session_id"]
                for _ in range(sessions)
            ]
            watching = [Viewer() for _ in range(sessions * viewers)]
            reads = [
                asyncio.create_task(
                    viewer.read(last.port, f"/v1/sessions/{name}/stream?follow=true")
                )
                for viewer, name in zip(watching, made * viewers, strict=True)
            ]
            body = {"goal": goal(rate, count, 64), "timeout_seconds": 600}
            for name in made:
                prefer = {"Prefer": "respond-async"}
                answer = await client.post(f"{there}/{name}/execute", json=body, headers=prefer)
                answer.raise_for_status()
            async with asyncio.timeout(60):
                while not all(viewer.ages for viewer in watching):
                    await asyncio.sleep(0.1)
            await asyncio.sleep(1)
            before = [node.usage().cpu for node in nodes], engine_cpu(database)
            seen = [len(viewer.ages) for viewer in watching]
            await asyncio.sleep(seconds)
            after = [node.usage().cpu for node in nodes], engine_cpu(database)
        ages = sorted(
            age for viewer, known in zip(watching, seen, strict=True) for age in viewer.ages[known:]
        )
        for task in reads:
            task.cancel()
        failures = [
            each
            for each in await asyncio.gather(*reads, return_exceptions=True)
            if isinstance(each, BaseException) and not isinstance(each, asyncio.CancelledError)
        ]
        if failures or not ages:
            raise SystemExit(f"{mode}: {failures or 'nothing was seen'}")
        chunks = len(ages)
        return Round(
            chunks / (rate * sessions * viewers * seconds),
            tuple((b - a) / chunks * 1e6 for a, b in zip(before[0], after[0], strict=True)),
            0.0 if mode == "embedded" else (after[1] - before[1]) / chunks * 1e6,
            ages[chunks // 2],
            ages[chunks * 99 // 100],
        )


def show(title: str, rounds: dict[str, list[Round]]) -> None:
    print(f"\n{title}")
    for mode, each in rounds.items():
        nodes = [
            statistics.median(values) for values in zip(*(r.nodes_us for r in each), strict=True)
        ]
        middle = {
            name: statistics.median(getattr(r, name) for r in each)
            for name in ("delivered", "engine_us", "p50_ms", "p99_ms")
        }
        cpu = " + ".join(f"{value:.1f}" for value in nodes)
        print(
            f"  {mode:10} node {cpu} µs, database {middle['engine_us']:.1f} µs,"
            f" p50 {middle['p50_ms']:.1f} ms, p99 {middle['p99_ms']:.1f} ms,"
            f" {middle['delivered']:.0%} of the load"
        )


async def run(arguments: argparse.Namespace) -> None:
    (ROOT / "bench/.work").mkdir(exist_ok=True)
    database = PostgresServer({"shared_buffers": "256MB"}).start()
    try:
        for title, sessions, viewers, modes in (
            ("a viewer each", arguments.sessions, 1, MODES),
            ("one session to many viewers", 1, arguments.viewers, MODES),
        ):
            rounds: dict[str, list[Round]] = {mode: [] for mode in modes}
            for _ in range(arguments.rounds):
                for mode, each in rounds.items():
                    each.append(await measure(mode, database, sessions, viewers, arguments))
            show(f"{title}: {sessions} × {arguments.rate:g}/s × {viewers}", rounds)
    finally:
        database.close()


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--viewers", type=int, default=300)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--databases", type=int, default=1, help="over which sessions are spread")
    uvloop.run(run(parser.parse_args(given)))


if __name__ == "__main__":
    main()
