"""The loops beside the requests, and their back-off."""

from __future__ import annotations

import asyncio

import pytest
import structlog
from resonantgenesis_server.background import Background, Backoff
from resonantgenesis_server.metrics import METERS


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = pytest.mark.anyio


async def test_a_loop_runs_when_it_is_woken_and_ends_when_it_is_closed() -> None:
    seen: asyncio.Queue[bool] = asyncio.Queue()

    async def run() -> None:
        while True:
            seen.put_nowait(await loop.woken())

    loop = Background("a loop", run)
    await loop.close()
    loop.wake()  # before the start: the first wait returns at once
    loop.start()
    assert await asyncio.wait_for(seen.get(), 5)
    loop.wake()
    assert await asyncio.wait_for(seen.get(), 5)
    assert loop.running
    await loop.close()
    assert not loop.running
    assert seen.empty()


async def test_a_wait_that_nobody_wakes_ends_by_itself() -> None:
    loop = Background("a loop", asyncio.Event().wait)  # type: ignore[arg-type]
    assert not await loop.woken(0.001)


async def test_a_defect_is_logged_with_its_traceback_and_counted() -> None:
    async def run() -> None:
        raise RuntimeError("a mistake")

    before = METERS.defects.counts["other"]
    loop = Background("broken", run)
    with structlog.testing.capture_logs() as lines:
        loop.start()
        while loop.running or not lines:
            await asyncio.sleep(0)
    assert isinstance(lines[0]["exc_info"], RuntimeError)
    assert lines[0]["loop"] == "broken"
    assert METERS.defects.counts["other"] == before + 1


def test_waits_grow_to_the_limit_and_begin_anew_after_a_success() -> None:
    backoff = Backoff(1, 4)
    for delay in (1, 2, 4, 4):
        assert delay / 2 <= backoff.failed() <= delay
    backoff.succeeded()
    assert backoff.failed() <= 1
