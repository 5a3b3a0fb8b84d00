"""Rule 7 and deletion."""

from __future__ import annotations

import pytest
from resonantgenesis_server.log.base import Append, StreamClosed, StreamInfo

from .support import Backend, Store, assert_dense, keyed, numbered, put, read_all, texts

pytestmark = pytest.mark.anyio


async def info_of(store: Store, stream: str) -> StreamInfo:
    info = (await store.read(stream, 0)).info
    assert info is not None
    return info


async def test_trimming_removes_the_oldest_and_reports_it(backend: Backend) -> None:
    store = await backend.open()
    await put(store, "s", *numbered(10))
    await put(store, "t", *numbered(10))
    await store.trim("s", 4)
    for _ in range(2):
        page = await store.read("s", 0)
        assert_dense(page.entries, 4)
        assert texts(page.entries) == [f"e{n}" for n in range(4, 11)]
        assert page.info == StreamInfo(head=10, earliest=4, fence=0, closed=False)
        assert texts((await store.read("s", 7)).entries) == ["e8", "e9", "e10"]
        await store.close()
        store = await backend.open()
    assert len(await read_all(store, "t")) == 10
    assert await put(store, "s", "e11") == 11
    await store.close()


@pytest.mark.parametrize("before", [11, 12, 1_000_000, 1 << 40])
async def test_trimming_everything_and_going_on(backend: Backend, before: int) -> None:
    store = await backend.open()
    await put(store, "s", *numbered(10))
    await store.trim("s", before)
    page = await store.read("s", 0)
    assert page.entries == [] and page.at_end
    assert page.info == StreamInfo(head=10, earliest=11, fence=0, closed=False)
    assert await put(store, "s", "e11") == 11
    page = await store.read("s", 0)
    assert texts(page.entries) == ["e11"]
    assert page.info == StreamInfo(head=11, earliest=11, fence=0, closed=False)
    await store.close()


async def test_reopening_keeps_the_end_of_a_stream_that_was_emptied(backend: Backend) -> None:
    store = await backend.open()
    await put(store, "s", *numbered(10))
    last = (await read_all(store, "s"))[-1]
    await store.trim("s", 11)
    for _ in range(2):
        await store.close()
        store = await backend.open()
        info = await info_of(store, "s")
        assert (info.head, info.earliest) == (10, 11)
    assert await store.append(Append("s", [], expect=10)) == [10]
    assert await put(store, "s", "e11") == 11
    [entry] = await read_all(store, "s")
    assert entry.position == 11 and entry.at >= last.at
    await store.close()


async def test_trimming_again_further_back_or_not_at_all_changes_nothing(store: Store) -> None:
    await put(store, "s", *numbered(10))
    await store.trim("s", 6)
    for before in (6, 3, 1, 0, -1, -(1 << 40)):
        await store.trim("s", before)
        assert texts(await read_all(store, "s")) == [f"e{n}" for n in range(6, 11)]
        assert (await info_of(store, "s")).earliest == 6
    await store.trim("s", 8)
    assert (await info_of(store, "s")).earliest == 8


async def test_trimming_one_stream_leaves_its_neighbours(store: Store) -> None:
    for name in ("a", "b", "c"):
        await put(store, name, *numbered(5))
    for before in (-1, 1 << 33, 1 << 62):
        await store.trim("b", before)
    for name in ("a", "c"):
        assert texts(await read_all(store, name)) == list(numbered(5))


async def test_trimming_what_is_not_there(store: Store) -> None:
    await store.trim("nothing", 5)
    assert (await store.read("nothing", 0)).info is None
    assert await put(store, "nothing", "1") == 1


async def test_a_closed_stream_can_be_trimmed_and_stays_closed(backend: Backend) -> None:
    store = await backend.open()
    await store.append(Append("s", keyed("a", "b"), close=True))
    await store.trim("s", 3)
    await store.close()
    store = await backend.open()
    assert await info_of(store, "s") == StreamInfo(head=2, earliest=3, fence=0, closed=True)
    with pytest.raises(StreamClosed):
        await put(store, "s", "late")
    await store.close()


async def test_keys_of_entries_that_are_still_held_stay_known(store: Store) -> None:
    await store.append(Append("s", keyed("a", "b", "c")))
    await store.trim("s", 3)
    assert await store.append(Append("s", keyed("c"))) == [3]


async def test_trimming_waits_for_the_appends_before_it(store: Store) -> None:
    future = store.append(Append("s", keyed(*numbered(10))))
    await store.trim("s", 8)
    assert await future == [10]
    assert_dense(await read_all(store, "s"), 8)


async def test_deleted_streams_are_gone_and_begin_anew(backend: Backend) -> None:
    store = await backend.open()
    fence = await store.next_fence()
    await store.append(
        Append("g/a", keyed("a", "b"), fence=fence, pending=True), Append("g/b", keyed("a"))
    )
    await store.append(Append("g/c", keyed("a"), close=True))
    await store.trim("g/a", 2)
    await store.delete("g/a", "g/c", "never was")
    for name in ("g/a", "g/c"):
        page = await store.read(name, 0)
        assert page.entries == [] and page.info is None and page.at_end
    assert len(await read_all(store, "g/b")) == 1
    await store.close()
    store = await backend.open()
    assert (await store.read("g/a", 0)).info is None
    # Nothing of the former life is left: position, key, fence, closing, trimming.
    assert await store.append(Append("g/a", keyed("a"), fence=fence - 1 or None)) == [1]
    assert await store.append(Append("g/c", keyed("a"))) == [1]
    assert (await info_of(store, "g/a")).earliest == 1
    await store.delete()
    await store.close()


async def test_appending_right_after_deletion(store: Store) -> None:
    await put(store, "s", *numbered(5))
    for n in range(10):
        await store.delete("s")
        assert await put(store, "s", f"life {n}") == 1
    assert texts(await read_all(store, "s")) == ["life 9"]
