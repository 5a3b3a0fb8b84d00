"""Random operations against a plain model in memory, with reopening in between."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from resonantgenesis_server.log.base import (
    Append,
    LogError,
    NewEntry,
    PositionConflict,
    StaleWriter,
    StreamClosed,
    StreamInfo,
)

from .support import BACKENDS, Backend, Store, read_until

pytestmark = pytest.mark.anyio
NAMES = ["a", "a/x", "a/y"]
OTHER = "other"


@dataclass
class Stream:
    bodies: list[bytes] = field(default_factory=list)  # of every position, trimmed or not
    keys: dict[str, int] = field(default_factory=dict)
    earliest: int = 1
    fence: int = 0
    closed: bool = False
    pending: bool = False

    def refusal(self, append: Append) -> type[LogError] | None:
        if append.expect is not None and append.expect != len(self.bodies):
            return PositionConflict
        if append.fence is not None and append.fence < self.fence:
            return StaleWriter
        return StreamClosed if self.closed else None

    def take(self, append: Append) -> None:
        for entry in append.entries:
            if entry.key is not None and self.keys.get(entry.key, 0) >= self.earliest:
                continue
            self.bodies.append(entry.body)
            if entry.key is not None:
                self.keys[entry.key] = len(self.bodies)
        if append.fence is not None:
            self.fence = append.fence
        self.closed |= append.close
        self.pending = self.pending if append.pending is None else append.pending

    def trim(self, before: int) -> None:
        self.earliest = max(self.earliest, min(before, len(self.bodies) + 1))


Model = dict[str, Stream]

entries = st.lists(
    st.builds(
        NewEntry,
        kind=st.just("message"),
        body=st.binary(max_size=8),
        key=st.none() | st.sampled_from(["k1", "k2", "k3"]),
    ),
    max_size=3,
)
primary = st.builds(
    Append,
    stream=st.sampled_from(NAMES),
    entries=entries,
    fence=st.none() | st.integers(1, 4),
    expect=st.none() | st.integers(0, 6),
    close=st.sampled_from([False] * 9 + [True]),
    pending=st.none() | st.booleans(),
)
secondary = st.builds(
    lambda keys: Append(OTHER, [NewEntry("message", k.encode(), key=k) for k in keys]),
    st.lists(st.sampled_from(["o1", "o2", "o3", "o4"]), max_size=2),
)
calls = st.tuples(
    st.lists(primary, min_size=1, max_size=3, unique_by=lambda a: a.stream),
    st.lists(secondary, max_size=1),
).map(lambda pair: ("append", [*pair[0], *pair[1]]))
operations = st.one_of(
    calls,
    calls,
    st.lists(calls, min_size=2, max_size=5).map(lambda many: ("burst", [c for _, c in many])),
    st.tuples(st.just("trim"), st.tuples(st.sampled_from(NAMES), st.integers(-1, 12))),
    st.tuples(st.just("delete"), st.lists(st.sampled_from(NAMES), max_size=2, unique=True)),
    st.tuples(st.just("reopen"), st.none()),
)


def apply(model: Model, call: list[Append]) -> type[LogError] | list[int]:
    for append in call:
        refusal = model.get(append.stream, Stream()).refusal(append)
        if refusal is not None:
            return refusal
    for append in call:
        model.setdefault(append.stream, Stream()).take(append)
    return [len(model[a.stream].bodies) for a in call if a.stream != OTHER]


Step = tuple[str, object]
some_steps = st.lists(operations, min_size=1, max_size=12)
#: Backends whose every operation is a way over a network.
REMOTE = sorted(BACKENDS.keys() - {"sqlite"})


def examples(count: int) -> settings:
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=count, suppress_health_check=checks)


class Subject:
    """The store under test; each example has streams of its own in it."""

    def __init__(self, backend: Backend, store: Store) -> None:
        self.backend = backend
        self.store = store
        self.examples = itertools.count()

    def localized(self, example: str, call: list[Append]) -> list[Append]:
        """The same call on the example's own streams."""
        return [
            Append(example + a.stream, a.entries, a.fence, a.expect, a.close, a.pending)
            for a in call
        ]


@pytest.fixture
async def subject(backend: Backend) -> AsyncIterator[Subject]:
    made = Subject(backend, await backend.open())
    yield made
    await made.store.close()


async def run_calls(subject: Subject, model: Model, example: str, many: list[list[Append]]) -> None:
    futures = [subject.store.append(*subject.localized(example, call)) for call in many]
    for call, future in zip(many, futures, strict=True):
        expected = apply(model, call)
        if isinstance(expected, type):
            with pytest.raises(expected):
                await future
        else:
            result = await future
            own = [r for r, a in zip(result, call, strict=True) if a.stream != OTHER]
            assert own == expected


async def check(subject: Subject, model: Model, example: str) -> None:
    for name in NAMES:
        page = await subject.store.read(example + name, 0)
        stream = model.get(name)
        if stream is None:
            assert page.entries == [] and page.info is None
            continue
        head = len(stream.bodies)
        positions = list(range(stream.earliest, head + 1))
        assert [e.position for e in page.entries] == positions
        assert [e.body for e in page.entries] == stream.bodies[stream.earliest - 1 :]
        assert page.info == StreamInfo(head, stream.earliest, stream.fence, stream.closed)
        for key in ("k1", "k2", "k3"):
            position = stream.keys.get(key, 0)
            expected = position if position >= stream.earliest else None
            assert await subject.store.locate(example + name, key=key) == expected
        times = [e.at for e in page.entries]
        assert times == sorted(times)
    marked = {example + name for name, stream in model.items() if stream.pending}
    assert set(await subject.store.pending()) >= marked
    # Another group's entries may come later, and then in another order.
    other = model.get(OTHER, Stream())
    if other.bodies:
        found = await read_until(subject.store, example + OTHER, len(other.bodies))
        assert sorted(e.body for e in found) == sorted(other.bodies)


async def behave(subject: Subject, steps: list[Step]) -> None:
    """Whatever is done, the store shows what its model does."""
    example = f"{next(subject.examples)}:"
    model: Model = {}
    for name, argument in steps:
        match name, argument:
            case "append", list(call):
                await run_calls(subject, model, example, [call])
            case "burst", list(many):
                await run_calls(subject, model, example, many)
            case "trim", (str(stream), int(before)):
                await subject.store.trim(example + stream, before)
                if stream in model:
                    model[stream].trim(before)
            case "delete", list(names):
                await subject.store.delete(*(example + n for n in names))
                for gone in names:
                    model.pop(gone, None)
            case _:
                await subject.store.close()
                subject.store = await subject.backend.open()
        await check(subject, model, example)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@examples(80)
@given(steps=some_steps)
async def test_a_store_behaves_like_its_model(subject: Subject, steps: list[Step]) -> None:
    await behave(subject, steps)


@pytest.mark.parametrize("backend", REMOTE, indirect=True)
@examples(15)
@given(steps=some_steps)
async def test_so_does_one_over_a_network(subject: Subject, steps: list[Step]) -> None:
    await behave(subject, steps)


@pytest.mark.soak
@examples(500)
@given(steps=some_steps)
async def test_it_does_so_for_long(subject: Subject, steps: list[Step]) -> None:
    await behave(subject, steps)
