"""Agents in threads: hand-over, back-pressure, cancellation, bounds."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import pytest
from resonantgenesis_server.agents.base import Turn
from resonantgenesis_server.agents.engines.python import PythonAgent
from resonantgenesis_server.agents.threads import AHEAD, AgentThread
from resonantgenesis_server.model.errors import AgentError

pytestmark = pytest.mark.anyio

#: A bound on every wait: reached only when something is broken.
PATIENCE = 10


def start(work: Callable[[Turn], object]) -> AsyncGenerator[Any, None]:
    return PythonAgent("m:a", work).run(Turn("g", "s", 1, "a"))


async def until(event: threading.Event) -> None:
    """Waits in a thread of its own, so that the loop runs on."""
    assert await asyncio.to_thread(event.wait, PATIENCE)


def wait_for_end(name: str = "agent m:a s/1") -> None:
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(PATIENCE)
            assert not thread.is_alive()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    wait_for_end()
    assert AgentThread.live == 0


async def live_threads(count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while AgentThread.live < count:
            await asyncio.sleep(0)


async def test_a_long_stream_arrives_whole_and_in_order() -> None:
    def count(turn: Turn) -> Iterator[str]:
        for number in range(20_000):
            yield str(number)

    assert [chunk async for chunk in start(count)] == [str(n) for n in range(20_000)]


async def test_hand_over_costs_far_fewer_calls_than_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    calls = 0
    original = loop.call_soon_threadsafe

    def counted(*args: Any, **kwargs: Any) -> asyncio.Handle:
        nonlocal calls
        calls += 1
        return original(*args, **kwargs)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    full = threading.Event()

    def count(turn: Turn) -> Iterator[str]:
        for number in range(AHEAD * 100):
            if number == AHEAD // 2:
                full.set()
            yield "x"

    stream = start(count)
    received = 0
    async for _ in stream:
        received += 1
        if received % (AHEAD // 2) == 1:
            await until(full)  # gives the thread time to be ahead
    assert received == AHEAD * 100
    assert calls < received / 4 + 2 * received / (AHEAD // 2)


async def test_a_slow_reader_holds_the_agent_back() -> None:
    produced = 0
    reached = threading.Event()

    def count(turn: Turn) -> Iterator[str]:
        nonlocal produced
        while produced < 10 * AHEAD:
            produced += 1
            if produced >= AHEAD // 2:
                reached.set()
            yield "x"

    stream = start(count)
    taken = 0
    for _ in range(5 * AHEAD):
        await anext(stream)
        taken += 1
        # One more may be in the agent's hand, not yet accepted.
        assert produced <= taken + AHEAD + 1
    await until(reached)
    await asyncio.to_thread(lambda: None)
    assert produced <= taken + AHEAD + 1
    await stream.aclose()


async def test_a_cancelled_generator_is_closed_in_its_own_thread() -> None:
    closed_in: list[int] = []
    ran_in: list[int] = []
    closed = threading.Event()

    def endless(turn: Turn) -> Iterator[str]:
        ran_in.append(threading.get_ident())
        try:
            while True:
                yield "x"
        finally:
            closed_in.append(threading.get_ident())
            closed.set()

    stream = start(endless)
    await anext(stream)
    await stream.aclose()
    await until(closed)
    assert closed_in == ran_in != [threading.get_ident()]


async def test_cancelling_does_not_wait_for_a_sleeping_agent() -> None:
    entered, release, went_on = threading.Event(), threading.Event(), threading.Event()

    def sleeps(turn: Turn) -> Iterator[str]:
        try:
            yield "before"
            entered.set()
            release.wait(PATIENCE)
            yield "after"
        finally:
            went_on.set()

    received: list[str] = []

    async def consume() -> None:
        async for chunk in start(sleeps):
            received.append(chunk)

    task = asyncio.create_task(consume())
    await until(entered)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, PATIENCE)
    assert not release.is_set(), "the agent still sleeps: nobody waited for it"
    assert AgentThread.live == 1
    release.set()
    await until(went_on)
    await asyncio.to_thread(wait_for_end)
    assert received == ["before"]
    assert AgentThread.live == 0


async def test_hanging_agents_do_not_starve_others() -> None:
    release = threading.Event()

    def hangs(turn: Turn) -> str:
        release.wait(PATIENCE)
        return "late"

    hanging = [asyncio.ensure_future(anext(start(hangs))) for _ in range(100)]
    await live_threads(100)
    assert [chunk async for chunk in start(lambda turn: "prompt")] == ["prompt"]
    assert not any(future.done() for future in hanging)
    release.set()
    assert await asyncio.gather(*hanging) == ["late"] * 100


async def test_too_many_threads_are_refused_and_clients_may_retry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(AgentThread, "limit", 1)
    release = threading.Event()

    def hangs(turn: Turn) -> str:
        release.wait(PATIENCE)
        return "done"

    first = asyncio.ensure_future(anext(start(hangs)))
    await live_threads(1)
    with pytest.raises(AgentError) as caught:
        await anext(start(hangs))
    assert caught.value.code == "MODEL_UNAVAILABLE"
    assert caught.value.retryable
    assert caught.value.retry_after is not None
    release.set()
    assert await first == "done"
    await asyncio.to_thread(wait_for_end)
    assert [chunk async for chunk in start(hangs)] == ["done"]


async def test_a_thread_that_cannot_start_is_refused_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with pytest.raises(AgentError, match="too many"):
        await anext(start(lambda turn: "x"))
    assert AgentThread.live == 0


async def test_context_variables_are_seen_and_threads_are_daemons() -> None:
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request")
    request.set("req_1")

    def tell(turn: Turn) -> str:
        return f"{request.get()} {threading.current_thread().daemon}"

    assert [chunk async for chunk in start(tell)] == ["req_1 True"]


async def test_a_failure_after_the_end_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fails_when_closed(turn: Turn) -> Iterator[str]:
        try:
            while True:
                yield "x"
        finally:
            raise ValueError("while closing")

    stream = start(fails_when_closed)
    await anext(stream)
    with caplog.at_level(logging.WARNING):
        await stream.aclose()
        await asyncio.to_thread(wait_for_end)
    assert "failed after its turn had ended" in caplog.text
    assert "while closing" in caplog.text


def test_a_loop_that_is_gone_ends_the_thread() -> None:
    closed = threading.Event()

    def endless(turn: Turn) -> Iterator[str]:
        try:
            while True:
                yield "x"
        finally:
            closed.set()

    async def leave() -> object:
        stream = start(endless)
        await anext(stream)
        return stream  # not closed: the loop's shutdown closes it

    asyncio.run(leave())
    assert closed.wait(PATIENCE)
