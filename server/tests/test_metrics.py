"""Counters and histograms, and what the parts tell them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server import metrics
from resonantgenesis_server.agents.engines.llm.calls import Delta, ModelCall, ModelFailure
from resonantgenesis_server.agents.engines.llm.loop import ask
from resonantgenesis_server.agents.engines.llm.settings import ModelName
from resonantgenesis_server.agents.engines.llm.vision import Sight
from resonantgenesis_server.feed.hub import Hub
from resonantgenesis_server.log.base import Entry
from resonantgenesis_server.metrics import METERS, OTHER, Counter, Histogram, LoopLag
from resonantgenesis_server.model.events import event_stream
from resonantgenesis_server.sessions.state import control_stream


@given(st.lists(st.floats(0, 20)))
def test_a_histogram_counts_each_value_once(values: list[float]) -> None:
    histogram = Histogram((0.5, 1, 10))
    for value in values:
        histogram.add(value)
    below = [sum(value <= bound for value in values) for bound in histogram.bounds]
    assert histogram.cumulative == [*below, len(values)]
    assert histogram.sum == pytest.approx(sum(values))


def test_words_without_end_are_one_word() -> None:
    counter = Counter("known")
    for number in range(1_000):
        counter.add(f"word{number}")
    counter.add("known", 5)
    counts = counter.counts
    assert counts["known"] == 5
    assert len(counts) <= 65
    assert counts[OTHER] == 1_000 - (len(counts) - 2)


def test_streams_are_distinguished_by_their_names() -> None:
    assert metrics.kind_of(event_stream("org_1")) == metrics.EVENTS
    assert metrics.kind_of(control_stream("sess_1")) == metrics.RECORDS
    assert metrics.kind_of("sess_1") == metrics.CHUNKS


def test_a_batch_has_one_latency_for_all_its_readers() -> None:
    before = METERS.append_to_socket.cumulative[-1]
    sums = METERS.append_to_socket.sum
    chunks = METERS.chunks_delivered.counts[metrics.LIVE]
    events = METERS.events_delivered.counts[metrics.LIVE]
    metrics.announcing(time.perf_counter() - 3.0)
    metrics.delivered(metrics.CHUNKS, 20)
    assert METERS.append_to_socket.sum - sums >= 3.0
    assert METERS.append_to_socket.cumulative[-1] == before + 1
    assert METERS.chunks_delivered.counts[metrics.LIVE] == chunks + 20
    metrics.delivered(metrics.RECORDS, 7)  # nobody's viewers
    assert METERS.append_to_socket.cumulative[-1] == before + 1
    metrics.delivered(metrics.EVENTS, 3)
    assert METERS.events_delivered.counts[metrics.LIVE] == events + 3


def test_limits_and_ends_are_counted_by_their_words() -> None:
    limits = METERS.limits.counts.get("test_limit", 0)
    failed = METERS.turns.counts["failed"]
    metrics.limit_hit("test_limit")
    metrics.turn_ended("failed", "MAX_STEPS")
    assert METERS.limits.counts["test_limit"] == limits + 1
    assert METERS.turns.counts["failed"] == failed + 1
    assert METERS.turn_errors.counts["MAX_STEPS"] >= 1


class Down:
    """A provider that is out of reach."""

    async def stream(self, call: ModelCall) -> AsyncGenerator[Delta, None]:
        raise ModelFailure("unavailable", "no route")
        yield  # makes it a generator

    async def close(self) -> None:
        """Nothing to close."""


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_call_that_is_tried_again_has_failed_each_time() -> None:
    before = METERS.model_failures.counts.get("unavailable", 0)
    call = ModelCall("m", "", [])
    with pytest.raises(ModelFailure):
        sight = Sight(ModelName("p", "m"), [], set())
        async for _ in ask(Down(), call, sight, retries=2, delay=0.0):
            raise AssertionError("it has nothing to say")
    assert METERS.model_failures.counts["unavailable"] == before + 3


class Outlet:
    """Takes all."""

    ready = True

    @property
    def encoder(self) -> Outlet:
        return self

    def live(self, entries: Sequence[Entry]) -> bytes | None:
        return b"x" * len(entries)

    def write(self, data: bytes) -> None:
        """Not in this test."""

    def wake(self) -> None:
        """Nor this."""


class Taker:
    """Takes what it is given, or nothing."""

    def __init__(self, takes: bool) -> None:
        self.position = 0
        self.takes = takes

    def push(self, entries: Sequence[Entry]) -> bool:
        return self.takes

    def fall_behind(self) -> None: ...

    def gone(self) -> None:
        """Not in this test."""


def test_the_hub_counts_per_batch_what_readers_took() -> None:
    hub = Hub()
    readers = [Taker(True), Taker(True), Taker(False)]
    for reader in readers:
        hub.register("sess_1", reader)
        assert hub.attach("sess_1", reader)
    waiter = Taker(True)
    hub.register(control_stream("sess_1"), waiter)  # of records; no viewer
    before = METERS.chunks_delivered.counts[metrics.LIVE]
    entries = [Entry(position, "message", b"{}", 0) for position in (1, 2)]
    hub.publish("sess_1", entries)
    assert METERS.chunks_delivered.counts[metrics.LIVE] == before + 2 * 2
    assert hub.live_and_behind() == (2, 1)
    readers[0].position = 2
    assert hub.park("sess_1", readers[0], Outlet())
    hub.publish("sess_1", [Entry(3, "message", b"{}", 0)])
    assert METERS.chunks_delivered.counts[metrics.LIVE] == before + 2 * 2 + 2
    assert hub.live_and_behind() == (2, 1)
    for reader in readers:
        hub.unregister("sess_1", reader)
    assert hub.live_and_behind() == (0, 0)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_blocked_loop_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LoopLag, "EVERY", 0.001)
    before = METERS.loop_lag.cumulative[-1]
    sums = METERS.loop_lag.sum
    lag = LoopLag()
    lag.start()
    time.sleep(0.05)  # blocks the loop
    while METERS.loop_lag.cumulative[-1] == before:
        await asyncio.sleep(0)
    await lag.close()
    assert METERS.loop_lag.sum - sums >= 0.04
    seen = METERS.loop_lag.cumulative[-1]
    await asyncio.sleep(0.005)
    assert METERS.loop_lag.cumulative[-1] == seen
