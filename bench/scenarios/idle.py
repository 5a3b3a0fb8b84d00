"""Idle viewers: what each of 10,000 quiet connections costs in memory."""

from __future__ import annotations

import time
from dataclasses import replace

from ..harness.loadgen import viewing
from ..harness.process import Server, raise_file_limit
from ..peers.base import Peer
from .base import Bar, Measurement, Scale, Scenario, ready

VIEWERS = 10_000
#: Files that a server needs besides its viewers'.
SPARE_FILES = 500
_SETTLE = 3.0


def _idle(peer: Peer, server: Server, scale: Scale) -> Measurement | None:
    viewers = min(VIEWERS, raise_file_limit() - SPARE_FILES, peer.most_idle)
    plan = peer.idle(server, viewers)
    if plan is None:
        return None
    with viewing(server.port, replace(plan.viewers, connections=20)) as few:
        ready(few)
        time.sleep(0.5)
    before = server.usage()
    with viewing(server.port, plan.viewers) as many:
        ready(many)
        time.sleep(_SETTLE)
        connected = server.usage()
        pause = scale.pick(4.0, 10.0)
        time.sleep(pause)
        after = server.usage()
    values = {
        "viewers": float(viewers),
        "memory_kb": (after.memory - before.memory) / viewers / 1024,
        "idle_cores": (after.cpu - connected.cpu) / pause,
        "connect_us": (connected.cpu - before.cpu) * 1e6 / viewers,
    }
    return Measurement(values)


IDLE = Scenario(
    name="idle",
    title="Idle viewers: 10,000 quiet SSE connections",
    value="memory_kb",
    unit="KB",
    meaning="resident memory of the server's processes per viewer",
    run=_idle,
    quick=("limit", "asgi", "nchan", "handwritten"),
    full=("durable", "centrifuge", "centrifugo"),
    bars=(Bar(12.0),),
    quick_repeats=1,
    full_repeats=3,
)
