"""Token streams: sessions that each stream an answer of their own to one viewer."""

from __future__ import annotations

from dataclasses import replace

from ..harness.process import BenchError, Server
from ..peers.base import Load, Peer
from .base import CARRIED, Bar, Measurement, Scale, Scenario, carried_part, wait_until_quiet, window

SESSIONS, RATE = 500, 20
#: The bound that ends the raising: p99 from append to socket.
BREAK_MS = 250.0
FIRST_STEP, LAST_STEP = 2_000, 64_000
#: Streams that a server must be able to begin in a second under load.
CONNECTED_PER_SECOND = 200


def _measure(
    peer: Peer, server: Server, load: Load, seconds: float, end: float
) -> Measurement | None:
    return window(server, peer.tokens(server, load), load, warm=1.0, seconds=seconds, end=end)


def _load(sessions: int, seconds: float) -> Load:
    """Streams begin as their viewers connect: they must outlast connecting and the window, else
    who connects slowly under load seems to carry less than it does."""
    return Load(sessions, RATE, count=int(RATE * (seconds + 4 + _connecting(sessions))))


def _connecting(sessions: int) -> float:
    """Seconds that viewers are given to connect, over the 3 that any number has."""
    return sessions / CONNECTED_PER_SECOND


def _tokens(peer: Peer, server: Server, scale: Scale) -> Measurement | None:
    seconds = scale.pick(4.0, 10.0)
    whole = _load(SESSIONS, seconds)
    part = carried_part(peer, whole)
    measured = _measure(peer, server, part, seconds, end=15.0)
    if measured is None or part == whole or not scale.full:
        return measured
    try:
        wait_until_quiet(server)
        beyond = _measure(peer, server, whole, seconds, end=0.1)
    except BenchError as error:
        return replace(measured, problems=[*measured.problems, f"under the whole load: {error}"])
    if beyond is not None:
        measured.values["cpu_us_whole"] = beyond.values["cpu_us"]
        measured.values["share_whole"] = beyond.values["share"]
    return measured


def _raise(peer: Peer, server: Server, scale: Scale) -> Measurement | None:
    """Doubles the load until it is not carried, then halves the distance three times."""
    carried, broken, points = 0.0, 0.0, []
    step = float(FIRST_STEP)
    best: Measurement | None = None
    while True:
        sessions = round(step / RATE)
        measured = _try(peer, server, sessions, scale)
        if measured is None:
            return None
        p99 = measured.values["p99_ms"]
        is_carried = p99 <= BREAK_MS and measured.values["share"] >= CARRIED
        points.append((step, p99, is_carried))
        if is_carried:
            carried, best = step, measured
        else:
            broken = step
        if broken == 0 and step >= LAST_STEP:
            break
        if broken and broken - carried <= max(carried, FIRST_STEP) / 8:
            break
        step = (carried + broken) / 2 if broken else step * 2
        wait_until_quiet(server)  # turns go on without their viewers
    values = {**(best.values if best else {}), "per_second": carried}
    problems = best.problems if best else [f"did not carry {FIRST_STEP} tokens/s"]
    return Measurement(values, problems, sorted(points))


def _try(peer: Peer, server: Server, sessions: int, scale: Scale) -> Measurement | None:
    """One step; a load under which viewers cannot even connect counts as not carried."""
    try:
        seconds = scale.pick(3.0, 6.0)
        end = 10.0 + _connecting(sessions)
        return _measure(peer, server, _load(sessions, seconds), seconds, end=end)
    except BenchError as error:
        return Measurement({"p99_ms": 10_000.0, "share": 0.0}, [str(error)])


TOKENS = Scenario(
    name="tokens",
    title="Token streams: 500 sessions × 20 tokens/s, one viewer each",
    value="cpu_us",
    unit="µs",
    meaning="CPU of the server and its store per token, from the agent to the socket",
    run=_tokens,
    quick=("limit", "asgi", "handwritten"),
    full=("durable",),
    bars=(Bar(0.125, "handwritten"),),
    quick_repeats=2,
)
RAISE = Scenario(
    name="raise",
    title="Sessions raised at 20 tokens/s each until p99 is over 250 ms",
    value="per_second",
    unit="tokens/s",
    meaning="the highest load carried by one process on one core",
    run=_raise,
    quick=(),
    full=("handwritten", "limit", "asgi"),
    bars=(Bar(20_000, at_least=True),),
    more_is_better=True,
    quick_repeats=1,
    full_repeats=3,
)
