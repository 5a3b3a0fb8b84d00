"""The client's half of a socket against the model of the server's: nothing lost, nothing twice."""

from __future__ import annotations

from typing import Any

from hypothesis import given, note, settings
from hypothesis import strategies as st
from resonantgenesis._realtime.consumers import ChunkConsumer, Consumer, EventConsumer

from ..support.model_server import Payload
from ..support.realtime_world import (
    World,
    events_consumer,
    ids,
    one_turn,
    positions,
    turn_consumer,
    watch_consumer,
)

STEPS = st.one_of(
    st.tuples(st.just("publish"), st.sampled_from(["app", "teams", "system"])),
    st.tuples(st.just("pump"), st.integers(1, 3)),
    st.tuples(st.just("send"), st.integers(1, 4)),
    st.tuples(st.just("deliver"), st.integers(1, 5)),
    st.tuples(st.just("cut"), st.integers(0, 3)),
    st.tuples(st.just("connect"), st.just(0)),
    st.tuples(st.just("consume"), st.integers(0, 9)),
    st.tuples(st.just("grow"), st.just(0)),
    st.tuples(st.just("busy"), st.just(0)),
    st.tuples(st.just("tick"), st.just(0)),
    st.tuples(st.just("cursors"), st.just(0)),
    st.tuples(st.just("execute"), st.integers(0, 1)),
    st.tuples(st.just("watch"), st.integers(0, 1)),
    st.tuples(st.just("leave"), st.integers(0, 9)),
)


class Campaign(World):
    """Takes the steps; knows what everybody must have got in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.server.sessions["sess_1"] = one_turn()
        self.begins: dict[Consumer[Any], str] = {}
        for consumer in (
            events_consumer("app", since="c_0", most=3),
            events_consumer("teams", "system", most=3),
        ):
            consumer.wake = lambda consumer=consumer: self.begins.setdefault(
                consumer, consumer.cursor or ""
            )
            self.start(consumer)
        self.left: set[Consumer[Any]] = set()

    def step(self, name: str, number: Any) -> None:
        consumers = list(self.got)
        chosen = consumers[number % len(consumers)] if isinstance(number, int) else consumers[0]
        match name:
            case "publish":
                self.server.publish(number)
            case "pump" if self.socket is not None:
                self.socket.pump(number)
            case "cursors" if self.socket is not None:
                self.socket.cursors()
            case "send" | "deliver" | "cut":
                getattr(self, name)(number)
            case "connect":
                self.connect()
            case "consume":
                self.consume(chosen, 2)
            case "grow":
                for session_id in self.server.sessions:
                    self.server.grow(session_id)
            case "busy":
                self.server.busy += 1
            case "tick":
                self.now += 1
                self.state.requests.tick(self.now)
            case "execute" if len(consumers) < 12:
                self.start(turn_consumer("sess_1" if number else None, most=3))
            case "watch" if len(consumers) < 12:
                self.start(watch_consumer("sess_1", 0 if number else None, most=3))
            case "leave" if chosen.max_items == 3 and number >= 2:
                self.left.add(chosen)
                self.state.leave(chosen)

    def check(self) -> None:
        turns = [
            consumer
            for consumer in self.got
            if isinstance(consumer, ChunkConsumer) and consumer.body
        ]
        assert self.server.executes <= len(turns)
        for consumer, got in self.got.items():
            if consumer in self.left:
                continue
            assert consumer.error is None
            if isinstance(consumer, EventConsumer):
                begin = int(self.begins[consumer].removeprefix("c_"))
                later = self.server.events[begin:]
                assert ids(got) == [e["id"] for e in later if e["channel"] in consumer.channels]
                assert consumer.cursor == f"c_{len(self.server.events)}" or later
            elif isinstance(consumer, ChunkConsumer) and consumer.body is not None:
                assert consumer.over
                assert [c.raw for c in got] == self.turn_of(consumer)
            elif isinstance(consumer, ChunkConsumer):
                first = got[0].position if got else 1
                end = len(self.server.sessions["sess_1"].chunks)
                assert positions(got) == list(range(first, end + 1))
        started = {(f.session_id, f.turn) for f in turns if f not in self.left}
        assert len(started) == len([f for f in turns if f not in self.left])

    def turn_of(self, consumer: ChunkConsumer) -> list[Payload]:
        chunks = self.server.sessions[str(consumer.session_id)].chunks
        start = 4 * ((consumer.turn or 0) - 1)
        return chunks[start : start + 4]


@settings(max_examples=300)
@given(st.lists(STEPS, max_size=60))
def test_whatever_happens_to_the_link_everybody_gets_everything_once(
    steps: list[tuple[str, Any]],
) -> None:
    note(repr(steps))
    world = Campaign()
    for name, number in steps:
        world.step(name, number)
    world.settle()
    world.check()
