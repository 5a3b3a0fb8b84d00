"""Slow readers: 50 of 1,000 viewers read a kilobyte a second; the others must not notice."""

from __future__ import annotations

from dataclasses import replace

from ..harness.process import Server
from ..peers.base import Load, Peer
from .base import Measurement, Scale, Scenario, window

VIEWERS, SLOW, RATE, SIZE = 1000, 50, 20, 2048


def _slow(peer: Peer, server: Server, scale: Scale) -> Measurement | None:
    seconds = scale.pick(4.0, 15.0)
    load = Load(VIEWERS, RATE, count=int(RATE * (seconds + 1.5)), bytes=SIZE)
    plan = peer.fanout(server, load)
    if plan is None:
        return None
    plan = replace(plan, viewers=replace(plan.viewers, slow=SLOW, slow_bytes=1024))
    before = server.usage()
    fast = replace(load, viewers=VIEWERS - SLOW)
    measured = window(server, plan, fast, warm=1.0, seconds=seconds, end=0.1)
    if measured is None:
        return None
    measured.values["grown_mb"] = (server.usage().memory - before.memory) / 1e6
    problems = [each for each in measured.problems if not each.startswith("not all")]
    return Measurement(measured.values, problems)


SLOW_READERS = Scenario(
    name="slow",
    title="Slow readers: 50 of 1,000 viewers read 1 KB/s of a stream of 40 KB/s",
    value="p99_ms",
    unit="ms",
    meaning="p99 of the other 950 viewers",
    run=_slow,
    quick=(),
    full=("asgi", "nchan"),
    quick_repeats=0,
)
