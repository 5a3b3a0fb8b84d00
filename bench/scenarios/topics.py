"""Platform events: 1,000 viewers with 50 distinct subscriptions."""

from __future__ import annotations

from ..harness.process import Server
from ..peers.base import Load, Peer
from .base import Measurement, Scale, Scenario, window

VIEWERS, GROUPS, RATE = 1000, 50, 4


def _topics(peer: Peer, server: Server, scale: Scale) -> Measurement | None:
    warm, seconds = scale.pick(1.0, 2.0), scale.pick(4.0, 10.0)
    count = int(RATE * (warm + seconds + 0.5))
    load = Load(VIEWERS, RATE, count, groups=GROUPS)
    plan = peer.topics(server, load)
    return window(server, plan, load, warm=warm, seconds=seconds)


TOPICS = Scenario(
    name="events",
    title="Events: 1,000 viewers, 50 distinct subscriptions, 200 events/s published",
    value="cpu_us",
    unit="µs",
    meaning="CPU of the server per event delivered, publishing included",
    run=_topics,
    quick=("limit", "asgi", "nchan"),
    full=("handwritten", "centrifuge", "centrifugo"),
    quick_repeats=2,
)
