"""Fan-out: 1,000 viewers of one stream, 20 events a second, over SSE and over WebSocket."""

from __future__ import annotations

from ..harness.process import Server
from ..peers.base import Load, Peer
from .base import Bar, Measurement, Scale, Scenario, carried_part, window

VIEWERS, RATE = 1000, 20
MEANING = "CPU of the server per event delivered"


def _load(scale: Scale, size: int) -> tuple[Load, float, float]:
    warm, seconds = scale.pick(1.0, 2.0), scale.pick(4.0, 10.0)
    count = int(RATE * (warm + seconds + 0.5))
    return Load(VIEWERS, RATE, count, size), warm, seconds


def _sse(peer: Peer, server: Server, scale: Scale) -> Measurement | None:
    whole, warm, seconds = _load(scale, 64)
    load = carried_part(peer, whole)
    return window(server, peer.fanout(server, load), load, warm=warm, seconds=seconds)


def _websocket(peer: Peer, server: Server, scale: Scale) -> Measurement | None:
    load, warm, seconds = _load(scale, 64)
    plan = peer.sockets(server, load, deflate=False)
    return window(server, plan, load, warm=warm, seconds=seconds)


def _deflate(peer: Peer, server: Server, scale: Scale) -> Measurement | None:
    load, warm, seconds = _load(scale, 512)
    plan = peer.sockets(server, load, deflate=True)
    return window(server, plan, load, warm=warm, seconds=seconds)


def _chat(peer: Peer, server: Server, scale: Scale) -> Measurement | None:
    load, warm, seconds = _load(scale, 64)
    return window(server, peer.chat(server, load), load, warm=warm, seconds=seconds)


SSE = Scenario(
    name="fanout",
    title="Fan-out over SSE: 1,000 viewers of one stream, 20 events/s",
    value="cpu_us",
    unit="µs",
    meaning=MEANING,
    run=_sse,
    quick=("limit", "asgi", "nchan", "handwritten"),
    full=("durable", "centrifuge", "centrifugo"),
    bars=(Bar(1.6, "limit"), Bar(1.15, "nchan"), Bar(0.7, "asgi")),
)
WEBSOCKET = Scenario(
    name="fanout_ws",
    title="Fan-out over WebSocket: 1,000 viewers of one stream, 20 events/s",
    value="cpu_us",
    unit="µs",
    meaning=MEANING,
    run=_websocket,
    quick=("limit", "asgi", "nchan"),
    full=("ws", "socketio", "centrifuge", "centrifugo"),
    bars=(Bar(1.8, "limit"), Bar(1.3, "nchan"), Bar(0.6, "asgi")),
    quick_repeats=2,
)
DEFLATE = Scenario(
    name="fanout_deflate",
    title="Compressed fan-out over WebSocket: 1,000 viewers, 20 events/s of 512 bytes",
    value="cpu_us",
    unit="µs",
    meaning=MEANING,
    run=_deflate,
    quick=(),
    full=("limit", "asgi", "nchan", "ws", "socketio", "centrifuge", "centrifugo"),
    quick_repeats=0,
)
ADAPTERS = Scenario(
    name="adapters",
    title="Fan-out to the AI SDK: 1,000 viewers of one chat, 20 events/s",
    value="cpu_us",
    unit="µs",
    meaning=MEANING,
    run=_chat,
    quick=("own_form",),
    full=(),
    bars=(Bar(1.2, "own_form"),),
    quick_repeats=2,
)
