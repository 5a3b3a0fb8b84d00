"""The fold of a session's control stream, and the cache of its results."""

from __future__ import annotations

import asyncio
import random
import sys
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resonantgenesis_server.feed.hub import Hub
from resonantgenesis_server.log.base import Append, Entry, LogUnavailable, NewEntry, Page
from resonantgenesis_server.log.sqlite.log import SqliteLog
from resonantgenesis_server.model.errors import PayloadTooLarge
from resonantgenesis_server.sessions import cache as states_module
from resonantgenesis_server.sessions import state as state_module
from resonantgenesis_server.sessions.cache import SessionCache
from resonantgenesis_server.sessions.ownership import SoleOwner
from resonantgenesis_server.sessions.request import TurnRequest
from resonantgenesis_server.sessions.session_log import SessionLog
from resonantgenesis_server.sessions.state import (
    SessionInfo,
    SessionState,
    control_stream,
    edited_record,
    ended_record,
    started_record,
    stopped_record,
    withdrawn_record,
)

from .rig import Rig


def info(session_id: str = "sess_1") -> SessionInfo:
    return SessionInfo(session_id, "org", "echo", None, {"a": 0}, {}, 1.0)


@st.composite
def histories(draw: st.DrawFn) -> list[NewEntry]:
    """Records as a session's one writer could have written them."""
    records = [info().record()]
    count, position = 0, 0
    running: int | None = None
    waiting: list[tuple[int, bool]] = []
    for _ in range(draw(st.integers(0, 25))):
        choices = ["queue"]
        if running is not None:
            choices += ["end", "stop"]
        if any(not withdrawn for _, withdrawn in waiting):
            choices.append("withdraw")
        if running is None and waiting:
            choices.append("begin")
        what = draw(st.sampled_from(choices))
        if what == "queue" and len(waiting) < 20:
            count += 1
            records.append(
                TurnRequest(f"goal {count}", "echo", {"n": count}, key=None).record(count)
            )
            waiting.append((count, False))
        elif what == "begin":
            turn, withdrawn = waiting.pop(0)
            if withdrawn:
                position += 1
                records.append(ended_record(turn, "cancelled", position))
            else:
                running = turn
                records.append(started_record(turn, position + 1))
        elif what == "end" and running is not None:
            position += draw(st.integers(1, 5))
            status = draw(st.sampled_from(["success", "failed", "cancelled", "timeout"]))
            records.append(ended_record(running, status, position))
            running = None
        elif what == "stop" and running is not None:
            records.append(stopped_record(running))  # it runs on until its end
        elif what == "withdraw":
            index = draw(st.sampled_from([i for i, (_, gone) in enumerate(waiting) if not gone]))
            waiting[index] = (waiting[index][0], True)
            records.append(withdrawn_record(waiting[index][0]))
    return records


def entries_of(records: list[NewEntry]) -> list[Entry]:
    return [Entry(n, r.kind, r.body, n * 1_000_000) for n, r in enumerate(records, 1)]


def shown(state: SessionState) -> tuple[Any, ...]:
    return (
        state.info,
        state.context,
        state.turns,
        state.position,
        state.updated_at,
        state.status,
        state.end,
    )


@settings(max_examples=200)
@given(histories(), st.data())
def test_folding_in_any_split_is_folding_at_once(
    records: list[NewEntry], data: st.DataObject
) -> None:
    entries = entries_of(records)
    whole = SessionState()
    whole.apply(entries)
    pieces = SessionState()
    place = 0
    while place < len(entries):
        # A piece may begin with what was taken in already: a read overtaken by announcements.
        start = data.draw(st.integers(0, place))
        end = data.draw(st.integers(place + 1, len(entries)))
        pieces.apply(entries[start:end])
        place = end
    assert shown(pieces) == shown(whole)


@settings(max_examples=200)
@given(histories())
def test_what_the_state_says_of_itself_holds_together(records: list[NewEntry]) -> None:
    state = SessionState()
    for entry in entries_of(records):
        state.apply([entry])
        running = [t for t in state.turns if t.status == "running"]
        assert len(running) <= 1
        assert state.running is (running[0] if running else None)
        assert state.open_turns == [t for t in state.turns if t.status in {"queued", "running"}]
        assert state.busy is any(not t.withdrawn for t in state.open_turns)
        assert state.status == {True: "running"}.get(bool(running), state.status)
        assert (state.status in {"queued", "running"}) is (state.busy or bool(running))
        assert [t.turn for t in state.turns] == list(range(1, len(state.turns) + 1))
        assert state.end == max((t.last for t in state.turns), default=0)
        if state.turns:
            assert state.current in state.turns


def test_a_turn_that_never_ran_begins_and_ends_with_its_done() -> None:
    state = SessionState()
    records = [info().record(), TurnRequest("g", "echo").record(1), withdrawn_record(1)]
    state.apply(entries_of([*records, ended_record(1, "cancelled", 4)]))
    (turn,) = state.turns
    assert (turn.first, turn.last, turn.status) == (4, 4, "cancelled")


# -- the cache ------------------------------------------------------------------------------


class Slow:
    """A log whose reads wait, so that commits can come in between."""

    epoch = "e"

    def __init__(self, log: SqliteLog) -> None:
        self._log = log
        self.fail = False

    async def read(self, *args: Any, **named: Any) -> Page:
        page = await self._log.read(*args, **named)
        for _ in range(random.randint(0, 5)):
            await asyncio.sleep(0)
        if self.fail and random.random() < 0.3:
            raise LogUnavailable("now and then")
        return page


@pytest.mark.anyio
@pytest.mark.parametrize("cached", [1, 3, 100])
async def test_loading_while_commits_come_never_gives_an_old_state(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, cached: int
) -> None:
    monkeypatch.setattr(states_module, "_CACHED", cached)
    monkeypatch.setattr(state_module, "_PAGE_ENTRIES", 2)
    random.seed(cached)
    slow = Slow(rig.log)
    states = SessionCache(slow, rig.hub)  # type: ignore[arg-type]
    announced: dict[str, int] = {}

    def committed(stream: str, entries: Any) -> None:
        announced[stream] = entries[-1].position
        states.committed(stream, entries)

    rig.before_commit = committed
    names = [f"sess_{n}" for n in range(5)]
    for name in names:
        await rig.log.append(Append(control_stream(name), [info(name).record()]))
    slow.fail = True

    async def write(name: str) -> None:
        for turn in range(1, 40):
            records = [TurnRequest("g", "echo").record(turn), started_record(turn, turn)]
            records.append(ended_record(turn, "success", turn))
            for record in records[: None if turn < 39 else 2]:
                await rig.log.append(Append(control_stream(name), [record]))
            while loads < turn:  # a longer session is hardly ever read without a failure
                await asyncio.sleep(0.001)

    loads = 0

    async def load() -> None:
        nonlocal loads
        while not done.is_set():
            name = random.choice(names)
            try:
                state = await states.load(name)
            except LogUnavailable:
                continue
            assert state is not None
            assert state.position >= announced[control_stream(name)], "an old state"
            loads += 1
            if random.random() < 0.2:
                states.pin(SessionLog(rig.log, name, state, fence=1, take=SoleOwner(1).take))
                await asyncio.sleep(0)
                states.unpin(name)
            await asyncio.sleep(0)

    done = asyncio.Event()
    async with asyncio.TaskGroup() as loaders:
        for _ in range(4):
            loaders.create_task(load())
        await asyncio.gather(*(write(name) for name in names))
        done.set()
    assert loads > 20
    assert not states._readings
    for name in names:
        state = await states.load(name) if not slow.fail else None
        slow.fail = False
        assert state is None or state.position == announced[control_stream(name)]


@pytest.mark.anyio
async def test_the_cache_is_bounded_in_memory_too(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states_module, "_CACHED_BYTES", 1_000_000)
    states = SessionCache(rig.log, rig.hub)
    rig.before_commit = states.committed
    for n in range(20):
        name = f"sess_{n}"
        records = [info(name).record()]
        await rig.log.append(Append(control_stream(name), records))
        await states.load(name)
        # It grows while it is cached.
        large = TurnRequest("g", "echo", {"text": "x" * 50_000}).record(1)
        await rig.log.append(Append(control_stream(name), [large]))
    assert 4 <= len(states._cache) <= 7
    assert states._weight == sum(state.weight for state in states._cache.values()) <= 1_000_000
    assert states._weights.keys() == states._cache.keys()
    for name in list(states._cache):
        states.forget(name)
    assert (states._weight, states._weights) == (0, {})


VALUES = ["1.5", "{}", "[]", '{"":1}', '"ab"', "123456789012", '{"a":{}}', "[[[]]]", '"é"', "null"]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("part", ["context", "metadata", "later"])
def test_what_a_state_is_counted_as_is_what_it_takes(part: str, value: str) -> None:
    held = {"a": orjson.loads("[" + ",".join([value] * 5_000) + "]")}
    made = info("sess_x")
    state = SessionState()
    records = [made.record()]
    if part == "later":
        records += [
            TurnRequest("g", "echo", held).record(1),
            TurnRequest("g", "echo", {"b": 1}).record(2),
        ]
    else:
        records = [
            replace(made, **{part: held}).record(),
            TurnRequest("g", "echo", {"b": 1}).record(1),
        ]
    state.apply(
        Entry(position, record.kind, record.body, 0) for position, record in enumerate(records, 1)
    )
    assert state.info is not None
    assert state.weight >= size_of([state.info.context, state.info.metadata, state.context])


def size_of(value: object, seen: set[int] | None = None) -> int:
    """Bytes of a value and all in it, what is in it twice once."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return 0
    seen.add(id(value))
    inner = [*value, *value.values()] if isinstance(value, dict) else value
    parts = inner if isinstance(inner, list) else []
    header = 16 if isinstance(value, dict | list) else 0  # the collector's
    return sys.getsizeof(value) + header + sum(size_of(part, seen) for part in parts)


@pytest.mark.anyio
async def test_the_context_of_a_session_has_a_bound(rig: Rig) -> None:
    session = await rig.create(context={"a": "x" * 100_000})
    await rig.run(session=session, context={"b": "x" * 100_000}, key="b")
    with pytest.raises(PayloadTooLarge):
        await rig.execute(session=session, context={"c": "x" * 100_000}, key="c")
    await rig.run(session=session, context={"b": "y" * 100_000})  # in its place
    ref = await rig.execute(session=session, context={"c": "small"}, key="c")
    assert (ref.turn, ref.joined) == (3, False)
    assert (await rig.get(session))["context"]["c"] == "small"


@pytest.mark.anyio
async def test_a_session_deleted_while_it_is_loaded_does_not_come_back(rig: Rig) -> None:
    name = "sess_x"
    await rig.log.append(Append(control_stream(name), [info(name).record()]))
    reached, go_on = asyncio.Event(), asyncio.Event()

    class Held:
        async def read(self, *args: Any, **named: Any) -> Page:
            page = await rig.log.read(*args, **named)
            reached.set()
            await go_on.wait()
            return page

    states = SessionCache(Held(), Hub())  # type: ignore[arg-type]
    loading = [asyncio.create_task(states.load(name)) for _ in range(2)]
    await reached.wait()
    await rig.log.delete(control_stream(name))
    states.forget(name)
    go_on.set()
    assert await asyncio.gather(*loading) == [None, None]
    assert await states.load(name) is None


@pytest.mark.anyio
async def test_a_state_can_take_in_what_was_not_announced_yet(rig: Rig) -> None:
    name = "sess_y"
    records = [info(name).record(), TurnRequest("g", "echo").record(1), started_record(1, 1)]
    await rig.log.append(Append(control_stream(name), records))
    state = SessionState()
    assert await state.take_in(rig.log, name) == 3
    assert state.running is not None
    await rig.log.append(Append(control_stream(name), [ended_record(1, "success", 9)]))
    await state.take_in(rig.log, name)
    assert (state.running, state.end) == (None, 9)


def test_a_session_is_listed_with_the_goal_with_which_its_first_turn_runs() -> None:
    records = [
        info().record(),
        TurnRequest("first", "echo").record(1),
        TurnRequest("second", "echo").record(2),
        edited_record(TurnRequest("edited", "echo").record(1)),
        edited_record(TurnRequest("other", "echo").record(2)),
    ]
    state = SessionState()
    entries = [Entry(i, each.kind, each.body, 1) for i, each in enumerate(records, start=1)]
    state.apply(entries)
    assert state.first_goal == "edited"
