"""Rules 1 and 12: order, positions, time."""

from __future__ import annotations

import asyncio
import time

import pytest
from resonantgenesis_server.log.base import Append

from .support import (
    Backend,
    Recorder,
    Store,
    assert_dense,
    new,
    numbered,
    put,
    read_all,
    texts,
)

pytestmark = pytest.mark.anyio


async def test_fifty_producers_share_a_stream_without_gaps(store: Store) -> None:
    async def produce(name: int) -> list[int]:
        return [await put(store, "s", f"{name}.{n}") for n in range(20)]

    async with asyncio.timeout(60):
        told = await asyncio.gather(*(produce(name) for name in range(50)))
    entries = await read_all(store, "s", limit=137)
    assert_dense(entries)
    assert len(entries) == 1000
    by_position = {e.position: e.body.decode() for e in entries}
    for name, positions in enumerate(told):
        assert positions == sorted(positions), "a producer's entries keep its order"
        assert [by_position[p] for p in positions] == [f"{name}.{n}" for n in range(20)]


async def test_unawaited_appends_keep_the_order_of_their_calls(store: Store) -> None:
    streams = ["a", "b", "c/1", "c/2"]
    futures = [(n, store.append(Append(streams[n % 4], new(f"{n}", f"{n}+")))) for n in range(400)]
    for n, future in futures:
        assert await future == [2 * (n // 4 + 1)]
    for index, stream in enumerate(streams):
        entries = await read_all(store, stream)
        assert_dense(entries)
        assert texts(entries) == [t for n in range(index, 400, 4) for t in (f"{n}", f"{n}+")]


async def test_every_reader_sees_the_order_that_was_announced(backend: Backend) -> None:
    announced = Recorder()
    store = await backend.open(on_commit=announced)
    await asyncio.gather(*(put(store, "s", f"{n}", f"{n}'") for n in range(100)))
    pages = await asyncio.gather(*(read_all(store, "s", limit=7 + n) for n in range(5)))
    await store.close()
    reopened = await backend.open()
    pages.append(await read_all(reopened, "s"))
    await reopened.close()
    for page in pages:
        assert page == announced.seen["s"]


async def test_kind_and_body_come_back_as_they_were(store: Store) -> None:
    bodies = [b"", b"{}", '{"text":"Grüße 🌍"}'.encode(), bytes(range(256)), b"\0\n\r"]
    kinds = ["message", "tool_call", "é", "x" * 100, ""]
    await store.append(
        Append("s", [n for kind, b in zip(kinds, bodies, strict=True) for n in new(b, kind=kind)])
    )
    entries = await read_all(store, "s")
    assert [e.body for e in entries] == bodies
    assert [e.kind for e in entries] == kinds


@pytest.mark.parametrize(
    "stream",
    [
        "plain",
        "ünï/çødé",
        "会話/一",
        "🌍",
        "with space",
        "%_'\";--",
        "a\nb",
        "x" * 1000,
        "a/b/c",
        "/",
    ],
)
async def test_any_text_names_a_stream(store: Store, stream: str) -> None:
    await put(store, stream + "2", "other")
    await put(store, stream, *numbered(3))
    await put(store, stream.upper() + "3", "other")
    assert texts(await read_all(store, stream)) == list(numbered(3))


@pytest.mark.parametrize("near", [("s", "S"), ("é", "e\u0301"), ("a", "a "), ("a", "a\0b")])
async def test_names_that_differ_a_little_are_different_streams(
    store: Store, near: tuple[str, str]
) -> None:
    for name in near:
        await put(store, name, f"in {name}")
    for name in near:
        assert texts(await read_all(store, name)) == [f"in {name}"]


async def test_an_empty_append_adds_nothing_and_tells_the_end(store: Store) -> None:
    assert await store.append(Append("s", [])) == [0]
    assert (await store.read("s", 0)).entries == []
    await put(store, "s", *numbered(3))
    assert await store.append(Append("s", [])) == [3]
    assert await put(store, "s", "e4") == 4
    assert texts(await read_all(store, "s")) == list(numbered(4))


async def test_one_call_may_name_a_stream_twice(store: Store) -> None:
    result = await store.append(
        Append("s", new("1")), Append("s/x", new("x")), Append("s", new("2", "3"))
    )
    assert result[1:] == [1, 3]
    assert texts(await read_all(store, "s")) == ["1", "2", "3"]


async def test_time_is_the_commit_time_and_never_goes_back(backend: Backend) -> None:
    before = time.time_ns() // 1000
    store = await backend.open()
    for n in range(20):
        await asyncio.gather(*(put(store, "s", f"{n}", f"{n}'") for _ in range(5)))
    await store.trim("s", 1000)
    await store.close()
    store = await backend.open()
    await put(store, "s", "last")
    after = time.time_ns() // 1000
    entries = await read_all(store, "s")
    await store.close()
    assert before - 1_000_000 <= entries[0].at <= after + 1_000_000


async def test_times_of_neighbours_never_go_back(store: Store) -> None:
    for _ in range(10):
        await asyncio.gather(*(put(store, "s", "a", "b") for _ in range(10)))
    times = [e.at for e in await read_all(store, "s")]
    assert times == sorted(times)
