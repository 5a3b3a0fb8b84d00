"""Rules 4 and 9: fencing and pending marks."""

from __future__ import annotations

import asyncio

import pytest
from resonantgenesis_server.log.base import Append, StaleWriter, StreamClosed

from .support import Backend, Store, new, put, read_all, texts

pytestmark = pytest.mark.anyio


async def test_fences_grow_over_the_life_of_the_store(backend: Backend) -> None:
    given: list[int] = []
    for _ in range(3):
        store = await backend.open()
        given += [await store.next_fence() for _ in range(3)]
        given += sorted(await asyncio.gather(*(store.next_fence() for _ in range(20))))
        await store.close()
    assert given == sorted(set(given))
    assert given[0] > 0


async def test_a_take_over_refuses_the_stale_writer_for_ever(backend: Backend) -> None:
    store = await backend.open()
    old, fresh = await store.next_fence(), await store.next_fence()
    await store.append(Append("s", new("old"), fence=old))
    await store.append(Append("s", [], fence=fresh))  # taking over needs no entry
    for _ in range(2):
        for late in (new("zombie"), []):
            with pytest.raises(StaleWriter):
                await store.append(Append("s", late, fence=old))
        await store.append(Append("s", new("fresh"), fence=fresh))
        await store.close()
        store = await backend.open()
    await store.trim("s", 100)
    with pytest.raises(StaleWriter):
        await store.append(Append("s", new("zombie"), fence=old))
    page = await store.read("s", 0)
    assert page.info is not None and page.info.fence == fresh
    await store.close()


async def test_a_zombie_between_two_steps_of_a_take_over_is_cut_off(store: Store) -> None:
    zombie = await store.next_fence()
    calls = [store.append(Append("s", new(f"z{n}"), fence=zombie)) for n in range(10)]
    heir = await store.next_fence()
    calls += [store.append(Append("s", new("heir1"), fence=heir))]
    calls += [store.append(Append("s", new("late"), fence=zombie)) for _ in range(10)]
    calls += [store.append(Append("s", new("heir2"), fence=heir))]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert outcomes[:11] == [[n] for n in range(1, 12)]
    assert all(isinstance(o, StaleWriter) for o in outcomes[11:21])
    assert outcomes[21] == [12]
    expected = [*(f"z{n}" for n in range(10)), "heir1", "heir2"]
    assert texts(await read_all(store, "s")) == expected


async def test_an_append_without_fence_neither_checks_nor_changes_it(store: Store) -> None:
    low, high = await store.next_fence(), await store.next_fence()
    await store.append(Append("s", new("1"), fence=high))
    await put(store, "s", "2")
    info = (await store.read("s", 0)).info
    assert info is not None and info.fence == high
    with pytest.raises(StaleWriter):
        await store.append(Append("s", new("no"), fence=low))
    assert await store.append(Append("s", new("3"), fence=high)) == [3]


async def test_a_fence_is_a_stream_s_own(store: Store) -> None:
    low, high = await store.next_fence(), await store.next_fence()
    await store.append(Append("g/a", new("1"), fence=high))
    assert await store.append(Append("g/b", new("1"), fence=low)) == [1]


async def test_two_streams_of_a_call_are_both_fenced(store: Store) -> None:
    low, high = await store.next_fence(), await store.next_fence()
    await store.append(Append("g/b", new("1"), fence=high))
    with pytest.raises(StaleWriter):
        await store.append(
            Append("g/a", new("no"), fence=high), Append("g/b", new("no"), fence=low)
        )
    assert await store.append(Append("g/a", new("1"), fence=low)) == [1]


async def test_a_closed_stream_refuses_its_owner_too(store: Store) -> None:
    fence = await store.next_fence()
    await store.append(Append("s", new("1"), fence=fence, close=True))
    with pytest.raises(StreamClosed):
        await store.append(Append("s", new("2"), fence=fence))


async def test_pending_names_every_marked_stream(backend: Backend) -> None:
    store = await backend.open()
    for n in range(30):
        await store.append(Append(f"s{n}", new("1"), pending=True))
    await put(store, "plain", "1")
    for n in range(10):
        await store.append(Append(f"s{n}", [], pending=False))
    await store.append(Append("s20", new("2")))  # None leaves the mark
    marked = {f"s{n}" for n in range(10, 30)}
    assert set(await store.pending()) >= marked
    await store.close()
    store = await backend.open()
    named = await store.pending()
    assert set(named) >= marked
    assert len(named) == len(set(named))
    await store.close()


async def test_a_mark_is_there_as_soon_as_its_append_is(store: Store) -> None:
    for n in range(20):
        await store.append(Append(f"s{n}", new("1"), pending=True))
        assert f"s{n}" in await store.pending()


async def test_a_mark_survives_trimming_and_ends_with_deletion(backend: Backend) -> None:
    store = await backend.open()
    for name in ("kept", "gone"):
        await store.append(Append(name, new("1"), pending=True))
    await store.trim("kept", 5)
    await store.delete("gone")
    await store.close()
    store = await backend.open()
    assert "kept" in await store.pending()
    assert (await store.read("gone", 0)).info is None
    await store.close()
