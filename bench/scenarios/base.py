"""What a scenario is, and the window that most of them measure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from ..harness.loadgen import Generator, Report, publishing, viewing
from ..harness.process import BenchError, Server, Usage
from ..peers.base import Load, Peer, Plan

READY_TIMEOUT = 60.0
#: Between the last viewer's first byte and the first event.
SETTLE = 0.5
#: A load counts as carried when so much of it arrives in time.
CARRIED = 0.95
#: Viewers that are read at once and tell latencies; the others are read five times a second, so
#: that the generator costs a fraction of what the cheapest server does.
PROMPT = 100


@dataclass(frozen=True, slots=True)
class Scale:
    """How long things are measured."""

    full: bool

    def pick(self, quick: float, full: float) -> float:
        return full if self.full else quick


@dataclass(frozen=True, slots=True)
class Measurement:
    """Numbers of one run, and what went wrong in it without making it void."""

    values: dict[str, float]
    problems: list[str] = field(default_factory=list)
    #: (load, p99 in milliseconds, whether it was carried), for the picture of latency against load.
    points: list[tuple[float, float, bool]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Bar:
    """A number to reach: of our value to a peer's, or of our value alone when `peer` is None."""

    limit: float
    peer: str | None = None
    value: str | None = None
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """`run` measures one peer once on a server just started; None: the peer cannot do it."""

    name: str
    title: str
    #: The value that is compared, its unit and what it is.
    value: str
    unit: str
    meaning: str
    run: Callable[[Peer, Server, Scale], Measurement | None]
    #: Peers of `make bench`, and those that `make bench-full` adds; ours is always there.
    quick: tuple[str, ...]
    full: tuple[str, ...]
    bars: tuple[Bar, ...] = ()
    more_is_better: bool = False
    #: 0: only in the full run, or when asked for by name.
    quick_repeats: int = 3
    full_repeats: int = 5


@contextmanager
def publisher_of(server: Server, plan: Plan) -> Iterator[Generator | None]:
    if plan.publish is None:
        yield None
        return
    with publishing(server.port, plan.publish) as publisher:
        publisher.expect("ready", 10)
        yield publisher


def begin(plan: Plan, publisher: Generator | None) -> None:
    if plan.begin is not None:
        plan.begin()
    if publisher is not None:
        publisher.command("start")


def ready(generator: Generator) -> Report:
    """All viewers are connected. Raises BenchError when one could not be."""
    report = generator.expect("ready", READY_TIMEOUT)
    if report["failed"]:
        raise BenchError(f"{report['failed']} viewers failed; {report['failure']}")
    return report


@dataclass(slots=True)
class Totals:
    """Gaps and doubles over all marks of a run."""

    gaps: int = 0
    duplicates: int = 0

    def add(self, report: Report) -> Report:
        self.gaps += int(report["gaps"])
        self.duplicates += int(report["duplicates"])
        return report

    def problems(self, report: Report) -> list[str]:
        found = []
        if self.gaps:
            found.append(f"{self.gaps} events missing")
        if self.duplicates:
            found.append(f"{self.duplicates} events doubled")
        if report["failed"]:
            found.append(f"{report['failed']} viewers failed ({report['failure']})")
        return found


def window(
    server: Server, plan: Plan | None, load: Load, *, warm: float, seconds: float, end: float = 8.0
) -> Measurement | None:
    """Viewers connect, events begin, and after `warm` seconds `seconds` are measured; then up to
    `end` seconds for every viewer to have every event of the load. None without a plan."""
    if plan is None:
        return None
    totals = Totals()
    spec = replace(plan.viewers, until=load.count, prompt=PROMPT)
    with viewing(server.port, spec) as viewers, publisher_of(server, plan) as publisher:
        ready(viewers)
        if plan.begin is not None or publisher is not None:
            time.sleep(SETTLE)
        begin(plan, publisher)
        time.sleep(warm)
        totals.add(viewers.mark())
        before = server.usage()
        time.sleep(seconds)
        after = server.usage()
        seen = totals.add(viewers.mark())
        done = viewers.poll("done", end)
        last = totals.add(viewers.mark())
    problems = totals.problems(last)
    if done is None or done["failed"]:
        behind = load.count - int(last["lowest"])
        problems.append(f"not all delivered: the last viewer lacks {behind} of {load.count}")
    if not seen["latency"]["n"] or after.cpu == before.cpu:
        raise BenchError("nothing was delivered in the measured window")
    values = cpu_values(before, after, seen)
    offered = load.viewers * load.rate * seen["seconds"]
    share = seen["delivered"] / offered
    if share < CARRIED:
        problems.append(f"only {share:.0%} of the load arrived in the measured window")
    values |= {"viewers": float(load.viewers), "share": share}
    return Measurement(values, problems)


def carried_part(peer: Peer, load: Load) -> Load:
    """The load, or for a peer that does not carry it as many of its viewers as it does."""
    if peer.carries is None or peer.carries >= load.viewers * load.rate:
        return load
    return replace(load, viewers=int(peer.carries / load.rate))


def wait_until_quiet(server: Server, timeout: float = 60.0) -> None:
    """Until the server works at less than a tenth of a core: what was begun is over. Raises
    BenchError."""
    end = time.monotonic() + timeout
    before = server.usage().cpu
    while time.monotonic() < end:
        time.sleep(0.5)
        now = server.usage().cpu
        if now - before < 0.05:
            return
        before = now
    raise BenchError(f"the server was still busy {timeout:.0f} s after its viewers had left")


def cpu_values(before: Usage, after: Usage, seen: Report) -> dict[str, float]:
    """What every window tells: the server's CPU, the viewers' latencies, the generator's cost."""
    cpu = after.cpu - before.cpu
    latency: Mapping[str, float] = seen["latency"]
    return {
        "cpu_us": cpu * 1e6 / max(1, seen["delivered"]),
        "cpu_cores": cpu / seen["seconds"],
        "delivered": seen["delivered"],
        "per_second": seen["delivered"] / seen["seconds"],
        "bytes_each": seen["bytes"] / max(1, seen["delivered"]),
        "p50_ms": latency["p50_us"] / 1000,
        "p99_ms": latency["p99_us"] / 1000,
        "max_ms": latency["max_us"] / 1000,
        "generator_cores": seen["cpu_seconds"] / seen["seconds"],
        "generator_share": seen["cpu_seconds"] / cpu if cpu else 0.0,
    }
