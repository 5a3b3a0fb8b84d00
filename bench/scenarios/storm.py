"""Reconnect storm: 1,000 viewers are cut off and come back at once, each where it was."""

from __future__ import annotations

import time

from ..harness.loadgen import viewing
from ..harness.process import BenchError, Server
from ..peers.base import Load, Peer
from .base import (
    SETTLE,
    Bar,
    Measurement,
    Scale,
    Scenario,
    Totals,
    begin,
    carried_part,
    cpu_values,
    publisher_of,
    ready,
)

VIEWERS, RATE = 1000, 10
BEFORE, AWAY, AFTER = 1.0, 2.0, 3.0


def _storm(peer: Peer, server: Server, _: Scale) -> Measurement | None:
    load = carried_part(peer, Load(VIEWERS, RATE, int(RATE * (BEFORE + AWAY + AFTER + 20))))
    plan = peer.fanout(server, load)
    if plan is None:
        return None
    totals = Totals()
    with viewing(server.port, plan.viewers) as viewers, publisher_of(server, plan) as publisher:
        ready(viewers)
        time.sleep(SETTLE)
        begin(plan, publisher)
        time.sleep(BEFORE)
        viewers.command("drop")
        time.sleep(AWAY)
        totals.add(viewers.mark())
        before, start = server.usage(), time.monotonic()
        viewers.command("reconnect")
        caught_up = viewers.expect("caught_up", 20)
        time.sleep(max(0.0, start + AFTER - time.monotonic()))
        after = server.usage()
        seen = totals.add(viewers.mark())
    if seen["open"] != load.viewers:
        raise BenchError(
            f"{load.viewers - seen['open']} viewers did not come back; {seen['failure']}"
        )
    values = cpu_values(before, after, seen)
    values["cpu_ms_each"] = (after.cpu - before.cpu) * 1000 / load.viewers
    values["viewers"] = load.viewers
    for name in ("p50_ms", "p99_ms", "max_ms"):  # mostly of what was missed
        del values[name]
    values["caught_up_ms"] = caught_up["seconds"] * 1000
    return Measurement(values, totals.problems(seen))


STORM = Scenario(
    name="storm",
    title="Reconnect storm: 1,000 viewers return at once after 2 s, 10 events/s go on",
    value="cpu_ms_each",
    unit="ms",
    meaning="CPU of the server per viewer in the 3 s after the return",
    run=_storm,
    quick=("limit", "asgi", "nchan", "handwritten"),
    full=(),
    bars=(Bar(0.7, "asgi"),),
    quick_repeats=2,
)
