"""A request that starts in the call that read it behaves as one in a task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest
from resonantgenesis_server.http.serving.eager import EagerStarter

pytestmark = pytest.mark.anyio

NAME: ContextVar[str] = ContextVar("NAME", default="nobody")


@pytest.fixture
async def starter() -> AsyncIterator[EagerStarter]:
    starter = EagerStarter("test")
    first = starter.start(asyncio.sleep(0))  # makes the task that stands ready
    assert first is not None
    await first
    await asyncio.sleep(0)
    yield starter
    await starter.close()


async def from_callback(
    starter: EagerStarter, work: Coroutine[Any, Any, None]
) -> asyncio.Task[None] | None:
    """Start it as a transport does: in a callback, outside of all tasks."""
    loop = asyncio.get_running_loop()
    started: asyncio.Future[asyncio.Task[None] | None] = loop.create_future()

    def call() -> None:
        try:
            started.set_result(starter.start(work))
        except BaseException as error:  # handed to who waits
            started.set_exception(error)

    loop.call_soon(call)
    return await started


async def test_work_that_never_waits_has_ended_without_a_task(starter: EagerStarter) -> None:
    tasks: list[asyncio.Task[Any] | None] = []

    async def work() -> None:
        tasks.append(asyncio.current_task())

    before = asyncio.all_tasks()
    assert await from_callback(starter, work()) is None
    assert await from_callback(starter, work()) is None
    assert tasks[0] is tasks[1] is not None
    assert asyncio.all_tasks() == before


async def test_one_task_is_current_before_and_after_the_first_wait(starter: EagerStarter) -> None:
    tasks: list[asyncio.Task[Any] | None] = []

    async def work() -> None:
        tasks.append(asyncio.current_task())
        await asyncio.sleep(0)
        tasks.append(asyncio.current_task())

    task = await from_callback(starter, work())
    assert task is not None
    await task
    assert tasks == [task, task]


@pytest.mark.parametrize("first", [False, True])
async def test_a_timeout_ends_the_wait(starter: EagerStarter, first: bool) -> None:
    ended: list[str] = []

    async def work() -> None:
        if not first:
            await asyncio.sleep(0)
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            ended.append("timeout")

    task = await from_callback(starter, work())
    assert task is not None
    await asyncio.wait_for(task, 5)
    assert ended == ["timeout"]


@pytest.mark.parametrize("later", [False, True])
async def test_cancelling_ends_what_it_waits_for(starter: EagerStarter, later: bool) -> None:
    inner = asyncio.get_running_loop().create_future()
    ended: list[str] = []

    async def work() -> None:
        try:
            await inner
        finally:
            ended.append("finally")

    def start() -> None:
        task = starter.start(work())
        assert task is not None
        tasks.append(task)
        if not later:
            task.cancel()

    tasks: list[asyncio.Task[None]] = []
    asyncio.get_running_loop().call_soon(start)
    for _ in range(5):
        await asyncio.sleep(0)
    if later:
        tasks[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    assert ended == ["finally"]
    assert inner.cancelled()


async def test_exceptions_come_before_and_after_the_first_wait(starter: EagerStarter) -> None:
    async def work(*, waits: bool) -> None:
        if waits:
            await asyncio.sleep(0)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await from_callback(starter, work(waits=False))
    assert asyncio.current_task() is not None
    task = await from_callback(starter, work(waits=True))
    assert task is not None
    with pytest.raises(ValueError, match="no"):
        await task


async def test_context_variables_stay_its_own(starter: EagerStarter) -> None:
    names: list[str] = []

    async def work(name: str, *, waits: bool) -> None:
        names.append(NAME.get())
        token = NAME.set(name)
        if waits:
            await asyncio.sleep(0)
        names.append(NAME.get())
        if waits:
            NAME.reset(token)

    assert await from_callback(starter, work("one", waits=False)) is None
    task = await from_callback(starter, work("two", waits=True))
    assert task is not None
    await task
    assert names == ["nobody", "one", "nobody", "two"]
    assert NAME.get() == "nobody"


async def test_many_wait_for_one_future(starter: EagerStarter) -> None:
    shared = asyncio.get_running_loop().create_future()
    ended: list[str] = []

    async def work(name: str) -> None:
        await shared
        ended.append(name)

    tasks: list[asyncio.Task[None] | None] = []

    def start() -> None:
        other = asyncio.ensure_future(work("task"))
        tasks.extend([starter.start(work("eager")), other])

    asyncio.get_running_loop().call_soon(start)
    for _ in range(3):
        await asyncio.sleep(0)
    shared.set_result(None)
    for task in tasks:
        assert task is not None
        await asyncio.wait_for(task, 5)
    assert sorted(ended) == ["eager", "task"]


async def test_within_a_task_it_is_an_ordinary_task(starter: EagerStarter) -> None:
    ran: list[str] = []

    async def work() -> None:
        ran.append("work")

    task = starter.start(work())
    assert task is not None
    assert ran == []
    await task
    assert ran == ["work"]


async def test_work_may_cancel_its_own_task(starter: EagerStarter) -> None:
    ended: list[str] = []

    async def work(*, waits: bool) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            if waits:
                await asyncio.get_running_loop().create_future()
        finally:
            ended.append("ended")

    task = await from_callback(starter, work(waits=True))
    assert task is not None
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert ended == ["ended"]
    # Where nothing is left to cancel, the next work gets a task of its own.
    await asyncio.sleep(0)
    assert await from_callback(starter, work(waits=False)) is None
    await asyncio.sleep(0)
    other = await from_callback(starter, asyncio.sleep(0))
    assert other is not None
    await asyncio.wait_for(other, 5)
