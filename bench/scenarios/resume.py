"""Resume: one viewer reads 10,000 stored chunks, plain and compact."""

from __future__ import annotations

from dataclasses import replace

from ..harness.loadgen import viewing
from ..harness.process import Server
from ..peers.base import Peer
from .base import Bar, Measurement, Scale, Scenario, Totals, cpu_values

CHUNKS = 10_000


def _replay(
    peer: Peer, server: Server, scale: Scale, size: int, *, compact: bool
) -> Measurement | None:
    plan = peer.replay(server, CHUNKS, size, compact=compact)
    if plan is None:
        return None
    repeat = int(scale.pick(10, 40))
    spec = replace(plan.viewers, until=CHUNKS)
    with viewing(server.port, replace(spec, repeat=2)) as warm:
        warm.expect("done", 60)
    totals = Totals()
    with viewing(server.port, replace(spec, repeat=repeat)) as viewer:
        viewer.mark()
        before = server.usage()
        viewer.expect("done", 120)
        after = server.usage()
        seen = totals.add(viewer.mark())
    values = cpu_values(before, after, seen)
    took = seen["finish"]["p50_us"] / 1e6
    values |= {"chunks_per_second": CHUNKS / took, "took_ms": took * 1000}
    values |= {"frames": seen["frames"] / repeat}
    for name in ("p50_ms", "p99_ms", "max_ms"):  # of old events: they say nothing
        del values[name]
    return Measurement(values, totals.problems(seen))


def _plain(peer: Peer, server: Server, scale: Scale) -> Measurement | None:
    return _replay(peer, server, scale, 64, compact=False)


def _compact(peer: Peer, server: Server, scale: Scale) -> Measurement | None:
    # Nothing but the marks, so that all of it fits into one frame of 256 KiB.
    return _replay(peer, server, scale, 0, compact=True)


RESUME = Scenario(
    name="resume",
    title="Resume over a gap of 10,000 chunks",
    value="chunks_per_second",
    unit="chunks/s",
    meaning="from connect() to the last chunk read, median of repeated reads",
    run=_plain,
    quick=("limit", "asgi", "nchan", "handwritten"),
    full=("durable",),
    bars=(Bar(200_000, at_least=True),),
    more_is_better=True,
    quick_repeats=2,
)
COMPACT = Scenario(
    name="resume_compact",
    title="The same, compact",
    value="frames",
    unit="frames",
    meaning="SSE events for 10,000 chunks",
    run=_compact,
    quick=(),
    full=(),
    bars=(Bar(1),),
    quick_repeats=1,
    full_repeats=3,
)
