"""`BufferedStream` and `RateLimitedStream`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from resonantgenesis.streaming import (
    BufferedStream,
    RateLimitedStream,
)

pytestmark = pytest.mark.anyio


async def numbers(count: int, *, fail: bool = False) -> AsyncIterator[int]:
    for number in range(count):
        yield number
    if fail:
        raise OSError("broke")


async def test_items_come_in_lots() -> None:
    lots = [lot async for lot in BufferedStream(numbers(25), buffer_size=10)]
    assert [len(lot) for lot in lots] == [10, 10, 5]
    assert [number for lot in lots for number in lot] == list(range(25))
    assert [lot async for lot in BufferedStream(numbers(20))] == [[*range(10)], [*range(10, 20)]]
    assert [lot async for lot in BufferedStream(numbers(0))] == []
    assert [lot async for lot in BufferedStream(numbers(2), buffer_size=1)] == [[0], [1]]
    for wrong in ({"buffer_size": 0}, {"max_wait": -1}):
        with pytest.raises(ValueError, match="buffer_size"):
            BufferedStream(numbers(1), **wrong)  # type: ignore[arg-type]


async def test_a_slow_stream_is_not_held_back() -> None:
    go_on = asyncio.Event()

    async def slow() -> AsyncIterator[int]:
        yield 1
        yield 2
        await go_on.wait()
        yield 3

    lots = aiter(BufferedStream(slow(), buffer_size=10, max_wait=0.01))
    async with asyncio.timeout(20):
        assert await anext(lots) == [1, 2]
        go_on.set()
        assert await anext(lots) == [3]
        with pytest.raises(StopAsyncIteration):
            await anext(lots)


async def test_an_error_comes_after_what_came_before_it() -> None:
    lots = aiter(BufferedStream(numbers(3, fail=True)))
    assert await anext(lots) == [0, 1, 2]
    with pytest.raises(OSError, match="broke"):
        await anext(lots)


async def test_leaving_ends_what_was_waited_for() -> None:
    ended = asyncio.Event()

    async def slow() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            ended.set()

    lots: Any = aiter(BufferedStream(slow(), max_wait=0.001))
    assert await anext(lots) == [1]
    await lots.aclose()
    assert ended.is_set()


async def test_no_more_than_so_many_a_second() -> None:
    began = time.monotonic()
    assert [n async for n in RateLimitedStream(numbers(101), rate_limit=1000)] == list(range(101))
    assert time.monotonic() - began >= 0.1
    with pytest.raises(ValueError, match="rate_limit"):
        RateLimitedStream(numbers(1), rate_limit=0)
