"""Rules 3, 5 and 6: all or nothing, keys, closing."""

from __future__ import annotations

import asyncio

import pytest
from resonantgenesis_server.log.base import (
    MAX_APPEND_BYTES,
    Append,
    NewEntry,
    PositionConflict,
    StaleWriter,
    StreamClosed,
)

from .support import (
    Backend,
    Recorder,
    Store,
    assert_dense,
    keyed,
    new,
    numbered,
    put,
    read_all,
    read_until,
    texts,
)

pytestmark = pytest.mark.anyio


async def test_streams_of_one_group_are_seen_together_or_not_at_all(store: Store) -> None:
    rounds = 150
    written = asyncio.Event()

    async def write() -> None:
        for n in range(rounds):
            await store.append(Append("g", new(f"{n}")), Append("g/x", new(f"{n}", f"{n}'")))
        written.set()

    async def watch() -> None:
        while not written.is_set():
            first = await store.read("g", 0, limit=1000)
            # Read later: it must hold at least what belongs to the first.
            second = await store.read("g/x", 0, limit=1000)
            assert len(second.entries) >= 2 * len(first.entries)
            assert len(second.entries) % 2 == 0

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(write())
        for _ in range(3):
            group.create_task(watch())
    assert len(await read_all(store, "g")) == rounds
    assert len(await read_all(store, "g/x")) == 2 * rounds


async def test_other_groups_get_their_entries_exactly_once(backend: Backend) -> None:
    announced = Recorder()
    store = await backend.open(on_commit=announced)
    for n in range(20):
        result = await store.append(
            Append("s/1", new(f"{n}")),
            Append("events", keyed(f"done-{n}")),
            Append("billing", keyed(f"usage-{n}a", f"usage-{n}b")),
        )
        assert len(result) == 3
        assert result[0] == n + 1
    events = await read_until(store, "events", 20)
    billing = await read_until(store, "billing", 40)
    await store.close()
    store = await backend.open()
    assert await read_all(store, "events") == events
    assert await read_all(store, "billing") == billing
    assert (len(events), len(billing)) == (20, 40)
    await store.close()


REFUSED = {
    "expect": (PositionConflict, Append("g", new("no"), expect=7)),
    "fence": (StaleWriter, Append("g", new("no"), fence=1)),
    "closed": (StreamClosed, Append("g/closed", new("no"))),
}


@pytest.mark.parametrize("reason", sorted(REFUSED))
@pytest.mark.parametrize("place", [0, 1])
async def test_a_refused_call_leaves_no_trace_in_any_stream(
    backend: Backend, reason: str, place: int
) -> None:
    announced = Recorder()
    store = await backend.open(on_commit=announced)
    await store.next_fence()
    fence = await store.next_fence()
    await store.append(Append("g", new("1"), fence=fence))
    await store.append(Append("g/closed", new("1"), close=True))
    error, refused = REFUSED[reason]
    call = [Append("g/new", keyed("k")), Append("other", keyed("k"))]
    call.insert(place, refused)
    with pytest.raises(error):
        await store.append(*call)
    await put(store, "after", "1")  # a later commit brings nothing of it
    for stream in ("g/new", "other"):
        page = await store.read(stream, 0)
        assert page.entries == [] and page.info is None
    for stream in ("g", "g/closed"):
        assert texts(await read_all(store, stream)) == ["1"]
    assert set(announced.seen) == {"g", "g/closed", "after"}
    # The key was not used up.
    assert await store.append(Append("g/new", keyed("k"))) == [1]
    await store.close()


async def test_a_refused_call_changes_no_mark_fence_or_state(store: Store) -> None:
    fence = await store.next_fence()
    await store.append(Append("g", new("1"), fence=fence))
    higher = await store.next_fence()
    with pytest.raises(PositionConflict):
        await store.append(
            Append("g", new("no"), fence=higher, close=True, pending=True),
            Append("g/x", [], expect=9),
        )
    assert await store.pending() == []
    assert await store.append(Append("g", new("2"), fence=fence)) == [2]
    info = (await store.read("g", 0)).info
    assert info is not None and (info.fence, info.closed) == (fence, False)


async def test_expect_lets_exactly_one_of_many_win(store: Store) -> None:
    await put(store, "s", "1")
    outcomes = await asyncio.gather(
        *(store.append(Append("s", new(f"{n}"), expect=1)) for n in range(20)),
        return_exceptions=True,
    )
    assert outcomes.count([2]) == 1
    assert sum(isinstance(o, PositionConflict) for o in outcomes) == 19
    assert await store.append(Append("s", new("next"), expect=2)) == [3]
    assert await store.append(Append("fresh", new("first"), expect=0)) == [1]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ([], "at least one"),
        ([Append("g", []), Append("h", [], fence=1)], "condition"),
        ([Append("g", []), Append("h", [], expect=0)], "condition"),
        ([Append("g", []), Append("h", [], close=True)], "condition"),
        ([Append("g", []), Append("h", [], pending=True)], "mark"),
        ([Append("g", []), Append("h", [], pending=False)], "mark"),
        ([Append("g", []), Append("h", new("no key"))], "without key"),
        ([Append("g", new("x" * MAX_APPEND_BYTES + "x"))], "at most"),
        ([Append("g", [NewEntry("message", b"{}", key="\ud800")])], "text"),
        ([Append("g\udfff", new("x"))], "text"),
        ([Append("g", new("x", kind="\udabc"))], "text"),
        ([Append("g", new("x"), fence=1 << 63)], "fence"),
        ([Append("g", new("x"), fence=-1)], "fence"),
    ],
)
async def test_what_no_backend_could_keep_is_refused_alone(
    store: Store, call: list[Append], words: str
) -> None:
    good = [store.append(Append("fine", new("1")))]
    with pytest.raises(ValueError, match=words):
        await store.append(*call)
    good.append(store.append(Append("fine", new("2"))))
    assert await asyncio.gather(*good) == [[1], [2]]
    assert (await store.read("g", 0)).info is None


async def test_large_bodies_come_back_whole(backend: Backend) -> None:
    store = await backend.open()
    bodies = [bytes([n]) * (1 << 20) for n in range(4)]
    assert await store.append(Append("s", new(*bodies))) == [4]  # MAX_APPEND_BYTES exactly
    assert await store.append(Append("s", new(b"z" * (1 << 20)))) == [5]
    await store.close()
    store = await backend.open()
    assert [e.body for e in await read_all(store, "s")] == [*bodies, b"z" * (1 << 20)]
    await store.close()


async def test_a_known_key_is_dropped_without_an_error(backend: Backend) -> None:
    announced = Recorder()
    store = await backend.open(on_commit=announced)
    assert await store.append(Append("s", keyed("a", "b"))) == [2]
    assert await store.append(Append("s", keyed("a", "b", body=b"again"))) == [2]
    assert await store.append(Append("s", keyed("b", "c", "c", "d"))) == [4]
    assert await store.append(Append("t", keyed("a"))) == [1]  # keys are a stream's own
    await store.close()
    store = await backend.open()
    assert await store.append(Append("s", keyed("d", "e"))) == [5]
    entries = await read_all(store, "s")
    await store.close()
    assert_dense(entries)
    assert texts(entries) == ["{}"] * 5
    assert [e.position for e in announced.seen["s"]] == [1, 2, 3, 4]


async def test_repeating_a_call_over_groups_doubles_nothing(store: Store) -> None:
    call = [Append("s/1", keyed("done")), Append("events", keyed("evt_1", "evt_2"))]
    await asyncio.gather(*(store.append(*call) for _ in range(10)))
    await store.append(Append("s/1", keyed("more")), Append("events", keyed("evt_3")))
    assert len(await read_until(store, "events", 3)) == 3
    assert len(await read_all(store, "s/1")) == 2


async def test_a_closed_stream_takes_nothing_more_and_stays_readable(backend: Backend) -> None:
    store = await backend.open()
    assert await store.append(Append("s", new(*numbered(3)), close=True)) == [3]
    for _ in range(2):
        for late in (Append("s", new("late")), Append("s", []), Append("s", [], close=True)):
            with pytest.raises(StreamClosed):
                await store.append(late)
        page = await store.read("s", 0)
        assert texts(page.entries) == list(numbered(3))
        assert page.info is not None and page.info.closed
        await store.close()
        store = await backend.open()
    with pytest.raises(StreamClosed):
        await store.append(Append("s", new("late"), fence=await store.next_fence()))
    assert await put(store, "s2", "1") == 1
    await store.close()


async def test_a_stream_is_closed_without_entries_too(store: Store) -> None:
    await put(store, "s", "1")
    assert await store.append(Append("s", [], close=True)) == [1]
    with pytest.raises(StreamClosed):
        await put(store, "s", "2")


async def test_a_deletion_and_what_it_tells_are_one(backend: Backend) -> None:
    announced = Recorder()
    store = await backend.open(on_commit=announced)
    await put(store, "g", "1", "2")
    await put(store, "g/x", "1")
    deleted = asyncio.Event()

    async def watch() -> None:
        while not deleted.is_set():
            told = (await store.read("events:o", 0)).entries
            # Read later: once it is told, both are gone.
            there = [(await store.read(name, 0)).info for name in ("g", "g/x")]
            assert not told or there == [None, None]

    watching = [asyncio.create_task(watch()) for _ in range(3)]
    await store.delete("g", "g/x", appends=[Append("events:o", keyed("k", body=b"gone"))])
    deleted.set()
    await asyncio.gather(*watching)
    assert texts(await read_all(store, "events:o")) == ["gone"]
    assert texts(announced.seen["events:o"]) == ["gone"]
    await store.close()


async def test_a_deletion_tells_only_what_cannot_be_refused(store: Store) -> None:
    await put(store, "g", "1")
    for told in (
        Append("g", keyed("k")),
        Append("o", new("without a key")),
        Append("o", keyed("k"), fence=1),
        Append("o", keyed("k"), expect=0),
        Append("o", keyed("k"), close=True),
    ):
        with pytest.raises(ValueError, match=r"."):
            await store.delete("g", appends=[told])
    assert texts(await read_all(store, "g")) == ["1"]
