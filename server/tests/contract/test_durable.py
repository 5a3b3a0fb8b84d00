"""Rules 2 and 8: durable before visible, the epoch; and what close() promises."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from resonantgenesis_server.log.base import Append, Entry, LogUnavailable

from .support import Backend, Store, assert_dense, new, put, read_all, texts

pytestmark = pytest.mark.anyio


async def test_on_commit_runs_before_the_future_and_in_order(backend: Backend) -> None:
    told: list[tuple[str, list[int]]] = []
    done_when_told: list[bool] = []
    futures: list[asyncio.Future[list[int]]] = []

    def on_commit(stream: str, entries: Sequence[Entry]) -> None:
        told.append((stream, [e.position for e in entries]))
        last = entries[-1].position
        done_when_told.append(futures[last - 1].done())

    store = await backend.open(on_commit=on_commit)
    futures.extend(store.append(Append("s", new(f"{n}"))) for n in range(50))
    await asyncio.gather(*futures)
    await store.close()
    assert [p for _, positions in told for p in positions] == list(range(1, 51))
    assert {stream for stream, _ in told} == {"s"}
    assert not any(done_when_told)


async def test_what_is_announced_is_there_for_another_handle(backend: Backend) -> None:
    checks: list[asyncio.Task[bool]] = []
    other = await backend.open()

    async def visible(stream: str, expected: list[Entry]) -> bool:
        return (await other.read(stream, expected[0].position - 1)).entries[
            : len(expected)
        ] == expected

    def on_commit(stream: str, entries: Sequence[Entry]) -> None:
        checks.append(asyncio.create_task(visible(stream, list(entries))))

    store = await backend.open(on_commit=on_commit)
    for n in range(30):
        position = await put(store, "s", f"{n}")
        assert texts((await other.read("s", position - 1)).entries) == [f"{n}"]
    assert len(checks) == 30
    assert all(await asyncio.gather(*checks))
    await store.close()
    await other.close()


async def test_a_failing_on_commit_keeps_nobody_waiting(backend: Backend) -> None:
    reported: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: reported.append(context.get("exception")))

    def on_commit(_stream: str, entries: Sequence[Entry]) -> None:
        if entries[0].position == 2:
            raise RuntimeError("a defect of the one who listens")

    store = await backend.open(on_commit=on_commit)
    async with asyncio.timeout(10):
        results = await asyncio.gather(*(store.append(Append("s", new(f"{n}"))) for n in range(5)))
        assert results == [[1], [2], [3], [4], [5]]
        await store.room()
        assert await put(store, "s", "6") == 6
    await store.close()
    loop.set_exception_handler(None)
    assert [str(e) for e in reported] == ["a defect of the one who listens"]


async def test_committed_entries_are_there_after_reopen(backend: Backend) -> None:
    store = await backend.open()
    await asyncio.gather(*(put(store, f"s{n % 3}", f"{n}") for n in range(60)))
    before = [await read_all(store, f"s{n}") for n in range(3)]
    await store.close()
    store = await backend.open()
    assert [await read_all(store, f"s{n}") for n in range(3)] == before
    assert await put(store, "s0", "next") == 21
    await store.close()


async def test_an_append_whose_waiter_left_is_still_whole(store: Store) -> None:
    async def wait(n: int) -> None:
        await store.append(Append("s", new(f"{n}", f"{n}'")), Append("s/x", new(f"{n}")))

    waiters = [asyncio.create_task(wait(n)) for n in range(20)]
    await asyncio.sleep(0)  # each has called append
    for waiter in waiters[::2]:
        waiter.cancel()
    outcomes = await asyncio.gather(*waiters, return_exceptions=True)
    assert sum(isinstance(o, asyncio.CancelledError) for o in outcomes) == 10
    await put(store, "s", "last")
    entries = await read_all(store, "s")
    assert_dense(entries)
    found = texts(entries)
    beside = texts(await read_all(store, "s/x"))
    for n in range(20):
        count = found.count(f"{n}")
        assert found.count(f"{n}'") == count == beside.count(f"{n}")
        assert count == 1 or (n % 2 == 0 and count == 0)


async def test_close_commits_what_was_accepted(backend: Backend) -> None:
    store = await backend.open()
    futures = [store.append(Append("s", new(f"{n}" * 1000))) for n in range(300)]
    await store.close()
    assert all(f.done() for f in futures)
    assert [await f for f in futures] == [[n] for n in range(1, 301)]
    store = await backend.open()
    assert len(await read_all(store, "s")) == 300
    await store.close()


CALLS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "append": lambda s: s.append(Append("s", new("late"))),
    "read": lambda s: s.read("s", 0),
    "locate": lambda s: s.locate("s", key="k"),
    "pending": lambda s: s.pending(),
    "next_fence": lambda s: s.next_fence(),
    "trim": lambda s: s.trim("s", 2),
    "delete": lambda s: s.delete("s"),
    "claim": lambda s: s.claim("scope", "k", b"v", ttl=60),
    "lookup": lambda s: s.lookup("scope", "k"),
    "release": lambda s: s.release("scope", "k"),
}


async def test_after_close_every_call_is_refused(backend: Backend) -> None:
    store = await backend.open()
    await put(store, "s", "1")
    await store.close()
    async with asyncio.timeout(10):
        for call in CALLS.values():
            with pytest.raises(LogUnavailable):
                await call(store)
        await store.room()  # nobody is kept waiting for space that never comes
        await store.close()  # again: nothing to do
    store = await backend.open()
    assert texts(await read_all(store, "s")) == ["1"]
    await store.close()


async def test_close_under_load_leaves_nobody_waiting(backend: Backend) -> None:
    store = await backend.open(max_queued_bytes=10_000)
    await put(store, "s", *("x" * 1000 for _ in range(100)))
    ended: list[str] = []

    async def produce() -> None:
        try:
            while True:
                await store.room()
                await store.append(Append("s", new("y" * 1000)))
        except LogUnavailable:
            ended.append("producer")

    async def consume() -> None:
        try:
            while True:
                await store.read("s", 0)
        except LogUnavailable:
            ended.append("reader")

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        tasks = [group.create_task(job()) for job in (produce, consume) for _ in range(20)]
        while (await store.read("s", 100, limit=1)).entries == []:
            await asyncio.sleep(0)
        await store.close()
    assert not any(t.cancelled() for t in tasks), "closing is told, it is no cancellation"
    assert sorted(ended) == ["producer"] * 20 + ["reader"] * 20


async def test_the_epoch_stays_over_reopen_and_differs_between_stores(
    backend: Backend, elsewhere: Backend
) -> None:
    store = await backend.open()
    epoch = store.epoch
    await store.close()
    store = await backend.open()
    other = await elsewhere.open()
    assert store.epoch == epoch != ""
    assert other.epoch != epoch
    assert (await other.read("s", 0)).info is None
    await other.close()
    await store.close()


async def test_two_handles_agree_on_the_epoch(backend: Backend) -> None:
    handles = await asyncio.gather(*(backend.open() for _ in range(4)))
    assert len({h.epoch for h in handles}) == 1
    for handle in handles:
        await handle.close()
