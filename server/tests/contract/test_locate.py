"""Places found by key and by time."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from resonantgenesis_server.log.base import Append

from .support import EVERY_EXAMPLE, Backend, Store, keyed, new, numbered, put, read_all

pytestmark = pytest.mark.anyio


async def test_an_entry_is_found_by_its_key(backend: Backend) -> None:
    store = await backend.open()
    await put(store, "s", "without")
    await store.append(Append("s", [*keyed("a", "b"), *new("between"), *keyed("ç")]))
    await store.append(Append("t", keyed("ç")))
    await store.append(Append("s", keyed("a")))  # known: stays where it is
    for _ in range(2):
        found = [await store.locate("s", key=key) for key in ("a", "b", "ç", "never", "")]
        assert found == [2, 3, 5, None, None]
        assert await store.locate("t", key="ç") == 1
        assert await store.locate("never", key="a") is None
        await store.close()
        store = await backend.open()
    await store.close()


async def test_what_was_trimmed_or_deleted_is_not_found(store: Store) -> None:
    await store.append(Append("s", keyed("a", "b", "c")))
    await store.trim("s", 3)
    assert [await store.locate("s", key=key) for key in "abc"] == [None, None, 3]
    assert await store.locate("s", at=0) == 3
    await store.trim("s", 4)
    assert await store.locate("s", at=0) is None
    await store.append(Append("t", keyed("a")))
    await store.delete("t")
    assert await store.locate("t", key="a") is None
    assert await store.locate("t", at=0) is None


async def test_a_key_is_found_as_soon_as_its_append_is_answered(store: Store) -> None:
    async def one(n: int) -> None:
        [position] = await store.append(Append("s", keyed(f"k{n}")))
        assert await store.locate("s", key=f"k{n}") == position

    await asyncio.gather(*(one(n) for n in range(50)))


@EVERY_EXAMPLE
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 40), off=st.integers(-2, 2))
async def test_the_first_entry_not_older_than_a_time(store: Store, place: int, off: int) -> None:
    entries = await read_all(store, "s")
    while len(entries) < 40:
        await put(store, "other", "x")
        await put(store, "s", *numbered(1 + len(entries) % 3))
        entries = await read_all(store, "s")
    at = entries[min(place, len(entries) - 1)].at + off
    later = [e.position for e in entries if e.at >= at]
    assert await store.locate("s", at=at) == (later[0] if later else None)
    assert await store.locate("s", at=-(1 << 70)) == 1
    assert await store.locate("s", at=1 << 70) is None


async def test_exactly_one_of_key_and_time_is_asked_for(store: Store) -> None:
    with pytest.raises(ValueError):
        await store.locate("s")
    with pytest.raises(ValueError):
        await store.locate("s", key="k", at=1)
