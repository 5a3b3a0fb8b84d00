"""First chunk: what the server adds before the agent's first word, nothing else going on."""

from __future__ import annotations

from dataclasses import replace

from ..harness.loadgen import viewing
from ..harness.process import Server
from ..peers.base import Load, Peer
from .base import Bar, Measurement, Scale, Scenario, Totals, cpu_values

#: So high that an agent never waits.
AT_ONCE = 1e6


def _first(peer: Peer, server: Server, scale: Scale) -> Measurement | None:
    load = Load(viewers=1, rate=AT_ONCE, count=1)
    plan = peer.tokens(server, load)
    if plan is None:
        return None
    totals = Totals()
    with viewing(server.port, replace(plan.viewers, repeat=20)) as warm:
        warm.expect("done", 30)
    with viewing(server.port, replace(plan.viewers, repeat=int(scale.pick(200, 1000)))) as viewer:
        viewer.mark()
        before = server.usage()
        viewer.expect("done", 60)
        after = server.usage()
        seen = totals.add(viewer.mark())
    values = cpu_values(before, after, seen)
    values |= {f"first_{q}_ms": seen["first"][f"{q}_us"] / 1000 for q in ("p50", "p99", "max")}
    return Measurement(values, totals.problems(seen))


FIRST = Scenario(
    name="first",
    title="First chunk: one request after the other, an agent that answers at once",
    value="first_p50_ms",
    unit="ms",
    meaning="from connect() to the first chunk read",
    run=_first,
    quick=("limit", "asgi", "handwritten"),
    full=(),
    bars=(Bar(5.0),),
    quick_repeats=1,
)
