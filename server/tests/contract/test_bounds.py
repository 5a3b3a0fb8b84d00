"""Rules 10 and 11: the bounded queue, pages, and readers beside the writer."""

from __future__ import annotations

import asyncio

import pytest
from resonantgenesis_server.log.base import Append, LogOverloaded

from .support import Backend, Recorder, Store, assert_dense, new, numbered, put, read_all, texts

pytestmark = pytest.mark.anyio
BOUND = 100_000


async def test_past_twice_the_bound_an_append_is_refused_and_leaves_no_trace(
    backend: Backend,
) -> None:
    announced = Recorder()
    store = await backend.open(max_queued_bytes=BOUND, on_commit=announced)
    # One burst without giving the loop a chance: nothing of it can be committed meanwhile.
    futures = [store.append(Append(f"s{n}", new("x" * 5000))) for n in range(100)]
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    accepted = [n for n, outcome in enumerate(outcomes) if outcome == [1]]
    refused = [n for n, o in enumerate(outcomes) if isinstance(o, LogOverloaded)]
    assert len(accepted) + len(refused) == 100
    assert accepted == list(range(len(accepted))), "refused are the last, not some between"
    assert BOUND <= 5000 * len(accepted) <= 2 * BOUND + 5000
    for n in refused:
        assert (await store.read(f"s{n}", 0)).info is None
    assert set(announced.seen) == {f"s{n}" for n in accepted}
    await store.room()
    assert await put(store, "s99", "now it fits") == 1
    await store.close()


@pytest.mark.parametrize("call", [Append("s", []), Append("s", new(""))], ids=["empty", "tiny"])
async def test_calls_without_bytes_are_bounded_too(backend: Backend, call: Append) -> None:
    store = await backend.open(max_queued_bytes=2000)
    futures = [store.append(call) for _ in range(5000)]
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert sum(isinstance(o, LogOverloaded) for o in outcomes) > 2000
    await store.close()


async def test_room_waits_until_there_is_space(backend: Backend) -> None:
    store = await backend.open(max_queued_bytes=BOUND)
    await store.room()  # empty: at once
    futures = [store.append(Append("s", new("x" * 50_000))) for _ in range(3)]
    waiting = [asyncio.create_task(store.room()) for _ in range(5)]
    done_before: list[bool] = []
    for task in waiting:
        task.add_done_callback(lambda _task: done_before.append(any(f.done() for f in futures)))
    async with asyncio.timeout(10):
        await asyncio.gather(*waiting, *futures)
    assert done_before == [True] * 5
    await store.close()


async def test_producers_that_ask_for_room_are_never_refused(backend: Backend) -> None:
    store = await backend.open(max_queued_bytes=20_000)

    async def produce(name: int) -> None:
        for n in range(20):
            await store.room()
            await store.append(Append(f"s{name}", new(f"{n}".ljust(1000))))

    async with asyncio.timeout(30):
        await asyncio.gather(*(produce(name) for name in range(10)))
    for name in range(10):
        entries = await read_all(store, f"s{name}")
        assert [int(t) for t in texts(entries)] == list(range(20))
    await store.close()


async def test_room_can_be_left_waiting(backend: Backend) -> None:
    store = await backend.open(max_queued_bytes=1000)
    future = store.append(Append("s", new("x" * 5000)))
    waiting = asyncio.create_task(store.room())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert await future == [1]
    async with asyncio.timeout(10):
        await store.room()
    await store.close()


async def test_other_calls_work_while_the_queue_is_full(backend: Backend) -> None:
    store = await backend.open(max_queued_bytes=1000)
    futures = [store.append(Append("s", new("x" * 1000))) for _ in range(2)]
    async with asyncio.timeout(10):
        fences = await asyncio.gather(*(store.next_fence() for _ in range(50)))
        assert await store.claim("scope", "k", b"v", ttl=60) is None
        await store.trim("s", 2)
        await asyncio.gather(*futures)
    assert len(set(fences)) == 50
    await store.close()


async def test_pages_are_bounded_by_count(store: Store) -> None:
    await put(store, "s", *numbered(25))
    for after, limit, expected in [(0, 1, 1), (0, 10, 10), (20, 10, 5), (24, 1, 1), (25, 10, 0)]:
        page = await store.read("s", after, limit=limit)
        assert_dense(page.entries, after + 1)
        assert len(page.entries) == expected
        assert page.at_end == (after + expected == 25)
        assert page.info is not None and page.info.head == 25


async def test_the_page_size_has_a_default_and_a_floor(store: Store) -> None:
    await put(store, "s", *numbered(1500))
    assert len((await store.read("s", 0)).entries) == 1000
    for limit in (0, -1):
        with pytest.raises(ValueError, match="limit"):
            await store.read("s", 0, limit=limit)


async def test_pages_are_bounded_by_bytes(store: Store) -> None:
    for _ in range(4):
        await put(store, "s", *("x" * 1000 for _ in range(5)))
    page = await store.read("s", 0, max_bytes=3500)
    size = sum(len(e.body) for e in page.entries)
    assert 1000 <= size <= 3500 + 1000, "about: one entry may stand over"
    assert not page.at_end
    assert len((await store.read("s", 0, max_bytes=1)).entries) == 1
    assert len((await store.read("s", 19, max_bytes=1)).entries) == 1
    large = await store.append(Append("large", new(*[b"y" * 700_000] * 4)))
    assert large == [4]
    page = await store.read("large", 0)
    assert 1 <= len(page.entries) <= 2, "1 MiB unless told otherwise"
    assert len(await read_all(store, "large")) == 4


@pytest.mark.parametrize("after", [-1, -5, -(1 << 31), -(1 << 32) - 5, -(1 << 70)])
async def test_a_negative_place_is_the_start(store: Store, after: int) -> None:
    for name in ("before", "s", "behind"):
        await put(store, name, *(f"{name}{n}" for n in range(5)))
    assert texts((await store.read("s", after)).entries) == [f"s{n}" for n in range(5)]


@pytest.mark.parametrize("after", [5, 6, 1000, 1 << 31, 1 << 32, (1 << 32) + 1, 1 << 40, 1 << 70])
async def test_beyond_the_end_there_is_nothing(store: Store, after: int) -> None:
    for name in ("before", "s", "behind"):
        await put(store, name, *(f"{name}{n}" for n in range(5)))
    page = await store.read("s", after)
    assert page.entries == [] and page.at_end
    assert page.info is not None and (page.info.head, page.info.earliest) == (5, 1)


async def test_a_stream_that_never_was(store: Store) -> None:
    page = await store.read("never", 0)
    assert page.entries == [] and page.info is None and page.at_end


async def test_pages_of_many_streams_are_those_of_each(store: Store) -> None:
    for number, name in enumerate(("a", "events:b", "c/turns")):
        await put(store, name, *numbered(5 + number))
    await store.trim("a", 3)
    after = {"a": 0, "events:b": 4, "c/turns": 7, "none": 0, "past": 9}
    for limit, max_bytes in ((2, 1_000), (9, 1), (9, 1_000)):
        bounds = {"limit": limit, "max_bytes": max_bytes}
        each = {name: await store.read(name, place, **bounds) for name, place in after.items()}
        assert await store.read_many(after, **bounds) == each


async def test_readers_that_never_stop_do_not_block_the_writer(store: Store) -> None:
    for _ in range(4):
        await put(store, "s", *("x" * 200 for _ in range(1000)))
    written = asyncio.Event()
    walks = 0

    async def walk() -> None:
        nonlocal walks
        while not written.is_set():
            assert len(await read_all(store, "s", limit=500)) >= 4000
            walks += 1

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for _ in range(6):
            group.create_task(walk())
        for n in range(100):
            assert await put(store, "s", f"{n}") == 4001 + n
        written.set()
    assert walks >= 6


async def test_a_writer_that_never_stops_does_not_block_readers(store: Store) -> None:
    await put(store, "s", *("x" * 200 for _ in range(3000)))
    walked = asyncio.Event()

    async def write(name: int) -> None:
        while not walked.is_set():
            await store.room()
            await put(store, f"t{name}", "y")

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for name in range(6):
            group.create_task(write(name))
        for _ in range(5):
            assert len(await read_all(store, "s", limit=100)) == 3000
        walked.set()


async def test_a_page_is_one_consistent_view(store: Store) -> None:
    """While appends and trims go on, no page holds a gap that its own `earliest` does not tell."""
    stop = asyncio.Event()

    async def change() -> None:
        for n in range(60):
            head = await put(store, "s", *numbered(10))
            if n % 3 == 0:
                await store.trim("s", head - 5)
        stop.set()

    async def watch() -> None:
        while not stop.is_set():
            page = await store.read("s", 0, limit=40)
            if page.info is None:
                continue
            assert_dense(page.entries, page.info.earliest)
            if page.entries:
                assert page.entries[-1].position <= page.info.head

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(change())
        for _ in range(3):
            group.create_task(watch())
