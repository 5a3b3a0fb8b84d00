"""Bodies of a great many chunks: nobody else waits for them, and all of them are read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from resonantgenesis_server.http.serving.connection_owner import FairReading

pytestmark = pytest.mark.anyio


def reading(parts: FairReading, seen: list[str], name: str, times: int) -> Callable[[], None]:
    def read_on() -> None:
        nonlocal times
        seen.append(name)
        time.sleep(0.002)  # as reading does, and nothing else runs meanwhile
        times -= 1
        if times:
            parts.wait(read_on)

    return read_on


async def test_one_part_at_a_time_is_read_of_all_and_everybody_else_comes_between() -> None:
    parts, seen = FairReading(), list[str]()
    for name in "abc":
        parts.wait(reading(parts, seen, name, 5))
    rounds = 0
    async with asyncio.timeout(30):
        while len(seen) < 15:
            before = len(seen)
            await asyncio.sleep(0)
            rounds += 1
            assert len(seen) - before <= 1
    assert seen == list("abc" * 5)  # each has its turn
    assert rounds > 2 * 15  # the loop was free for as long as was read


async def test_one_that_fails_keeps_nobody_waiting() -> None:
    loop, told = asyncio.get_running_loop(), list[object]()
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    parts, seen = FairReading(), list[str]()
    wrong = RuntimeError("a mistake")

    def fail() -> None:
        raise wrong

    parts.wait(fail)
    parts.wait(reading(parts, seen, "a", 2))
    async with asyncio.timeout(30):
        while len(seen) < 2:
            await asyncio.sleep(0.001)
    assert told == [wrong]
    loop.set_exception_handler(None)
