"""The tail: rows that are in one table or the other, read as if there were one."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from resonantgenesis_server.log.base import Append, LogUnavailable, Page, StreamInfo
from resonantgenesis_server.log.sqlite import tail as sqlite_tail
from resonantgenesis_server.log.sqlite import writer as sqlite_writer

from .support import new
from .tail_store import TailStore

STREAMS = ["a", "b", "c"]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A move of a few rows takes several steps; bodies of eight bytes are large, and three rows
    are too many to be looked up by number."""
    monkeypatch.setattr(sqlite_tail, "_STEP_ROWS", 3)
    monkeypatch.setattr(sqlite_tail, "_LOOKED_UP", 2)
    monkeypatch.setattr(sqlite_writer, "LARGE", 8)


@pytest.fixture
def store(path: Path) -> Iterator[TailStore]:
    made = TailStore(path)
    yield made
    made.close()


# -- against a model -----------------------------------------------------------------------

stream = st.sampled_from(STREAMS)
bodies = st.lists(st.text("xyz", max_size=9), min_size=1, max_size=4)
operations = st.one_of(
    st.tuples(st.just("put"), stream, bodies),
    st.tuples(st.just("put"), stream, bodies),
    st.tuples(st.just("step"), stream, st.none()),
    st.tuples(st.just("step"), stream, st.none()),
    st.tuples(st.just("fail"), stream, bodies),
    st.tuples(st.just("trim"), stream, st.integers(1, 12)),
    st.tuples(st.just("delete"), stream, st.none()),
    st.tuples(st.just("forget"), stream, st.none()),
    st.tuples(st.just("crash"), stream, st.none()),
)


class Model:
    """Bodies of all positions, trimmed or not, and where the stream begins."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        self.earliest = 1

    def page(self, after: int, limit: int, max_bytes: int) -> list[tuple[int, str]]:
        there = list(enumerate(self.bodies, 1))[max(after, self.earliest - 1) :][:limit]
        sizes = itertools.accumulate(len(body) for _, body in there)
        return there[: 1 + sum(size < max_bytes for size in sizes)]


def check(store: TailStore, name: str, model: Model | None) -> None:
    if model is None:
        assert store.read(name).info is None
        return
    head = len(model.bodies)
    for after, limit, size in itertools.product(range(head + 2), (1, 2, 3, 99), (1, 7, 99)):
        page = store.read(name, after, limit, size)
        found = [(e.position, e.body.decode()) for e in page.entries]
        assert found == model.page(after, limit, size)
        assert page.info == StreamInfo(head, model.earliest, 0, False)
    whole = store.read(name).entries
    for entry in whole:
        first = next(e.position for e in whole if e.at >= entry.at)
        assert store.since(name, entry.at) == first
    assert store.since(name, 1 << 62) is None


def defect(_db: sqlite3.Connection) -> None:
    raise RuntimeError("a defect")


Step = tuple[str, str, object]
some_steps = st.lists(operations, min_size=3, max_size=25)


def examples(count: int) -> settings:
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=count, suppress_health_check=checks)


@examples(50)
@given(steps=some_steps)
def test_rows_of_both_tables_are_one_stream(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Step]
) -> None:
    behave(tmp_path_factory.mktemp("tail") / "log.db", steps)


@pytest.mark.soak
@examples(1_000)
@given(steps=some_steps)
def test_they_are_so_for_long(tmp_path_factory: pytest.TempPathFactory, steps: list[Step]) -> None:
    behave(tmp_path_factory.mktemp("tail") / "log.db", steps)


def behave(path: Path, steps: list[Step]) -> None:
    """Whatever is done, the store shows what its model does."""
    store = TailStore(path)
    models: dict[str, Model] = {}
    for name, stream, argument in steps:
        match name, argument:
            case "put", list(texts):
                models.setdefault(stream, Model()).bodies += texts
                assert store.put(stream, *texts) == len(models[stream].bodies)
            case "fail", list(texts):
                with pytest.raises(LogUnavailable):
                    store.commit(Append(stream, new(*texts)), defect)
            case "trim", int(before):
                store.trim(stream, before)
                if stream in models:
                    model = models[stream]
                    model.earliest = max(model.earliest, min(before, len(model.bodies) + 1))
            case "delete", _:
                store.delete(stream)
                models.pop(stream, None)
            case "forget", _:
                store.writer._streams.clear()
            case "crash", _:
                store.close()
                store = TailStore(path)
            case _:
                store.step()
        for each in STREAMS:
            check(store, each, models.get(each))
    store.put("last", "1")  # as the first of a writer it takes over what a crash has left
    for _ in range(2):  # the one under way, and one of what came since
        store.move()
    assert store.count("tail") == 0
    rows = sum(len(m.bodies) - m.earliest + 1 for m in models.values())
    assert store.count("entries") == rows + 1
    store.close()


# -- between any two statements ------------------------------------------------------------


def half_moved(store: TailStore) -> None:
    """`a` is copied and still in the tail, `b` is in the tail alone, `c` was moved before."""
    store.put("c", "1", "2")
    store.move()
    store.put("a", "1", "2", "3")
    store.put("b", "1", "2")
    store.step()
    store.put("c", "3")


HEADS = {"a": 3, "b": 2, "c": 3}


def whole(page: Page) -> list[int]:
    """Its positions, which must be all that its own view has."""
    positions = [entry.position for entry in page.entries]
    assert page.info is not None
    assert positions == list(range(page.info.earliest, page.info.head + 1))
    if page.info.closed:
        assert page.entries[-1].body == b"end"
    return positions


@pytest.mark.parametrize("change", ["step", "move", "move_all", "put", "trim"])
def test_a_reader_between_any_two_statements_of_the_writer(store: TailStore, change: str) -> None:
    half_moved(store)
    reads = 0

    def read_all() -> None:
        nonlocal reads
        for name, head in HEADS.items():
            assert whole(store.read(name))[-1] == head
            assert store.read(name, head - 1).entries[0].position == head
            reads += 1

    changes: dict[str, Callable[[], object]] = {
        "step": store.step,
        "move": store.move,
        "move_all": lambda: store.tail.move_all(store.db),
        "put": lambda: store.put("d", "1"),
        "trim": lambda: store.trim("b", 2),
    }
    store.db.between = read_all
    changes[change]()
    assert reads >= 4 * len(HEADS)


CHANGES: dict[str, Callable[[TailStore, str], object]] = {
    "step": lambda store, _: store.step(),
    "move": lambda store, _: store.move(),
    "put": lambda store, name: store.put(name, "new"),
    "end": lambda store, name: store.put(name, "end", close=True),
}
BEFORE = [
    choice
    for many in range(3)
    for choice in itertools.product(CHANGES, repeat=many)
    if choice[:1] != ("end",)
]
DURING = [(), *((name,) for name in CHANGES)]


def interrupt(store: TailStore, name: str, places: dict[int, tuple[str, ...]]) -> None:
    """Change the store at these places between the reader's statements."""
    gaps = itertools.count()

    def change() -> None:
        for each in places.pop(next(gaps), ()):
            CHANGES[each](store, name)

    store.reader.between = change


@pytest.mark.parametrize("name", HEADS)
def test_a_writer_between_any_two_statements_of_a_reader(path: Path, name: str) -> None:
    for number, (before, during) in enumerate(itertools.product(BEFORE, DURING)):
        if "end" in before and during in (("put",), ("end",)):
            continue
        store = TailStore(path.with_name(f"{number}.db"))
        half_moved(store)
        # After the look at what is in memory, and after the statement that begins the snapshot.
        places = {2: before, 3: during}
        interrupt(store, name, places)
        assert len(whole(store.read(name))) >= HEADS[name], (before, during)
        assert not places
        store.close()
