"""Coroutines that begin in the call that has work for them, and need a task only when they wait.

A coroutine that never waits costs half a microsecond this way; a task costs six. Python 3.12 has
eager tasks and Python 3.11 has none, so there is one mechanism for all versions:

1. A spare task stands ready. It is the *current task* during the first step of each coroutine. So
   whatever holds on to the current task (`asyncio.timeout` does) holds the task of the later steps.
2. The first step runs in the call, in a copy of the caller's context.
3. A coroutine that ends in its first step leaves the spare task to the next coroutine.
4. A coroutine that waits is adopted by the spare task. The task waits for the same future, and runs
   the later steps in the same context. The next start makes a new spare task.

Only documented parts of asyncio are used: `_enter_task` and `_leave_task` ("Extending asyncio",
task lifetime support), and the protocol of awaited futures, `_asyncio_future_blocking` (PEP 3156).
"""

from __future__ import annotations

import asyncio
import types
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any


class EagerStarter:
    """Starts the coroutines of one event loop; `close` ends the spare task."""

    def __init__(self, name: str) -> None:
        """`name`: the name of the tasks."""
        self._name = name
        self._spare: _SpareTask | None = None

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        """Run `work` up to its first wait. Return the task of the rest; None if `work` has ended.

        Raises what `work` raises before its first wait. Within another task, and before a new spare
        task is ready, `work` gets an ordinary task, which begins later.
        """
        loop, spare = asyncio.get_running_loop(), self._spare
        if spare is None or not spare.is_ready or asyncio.current_task(loop) is not None:
            if spare is None or spare.task.done():
                self._spare = _SpareTask(loop, self._name)
            return loop.create_task(work, name=self._name)
        context = copy_context()
        _enter_task(loop, spare.task)
        try:
            awaited = context.run(work.send, None)
        except StopIteration:
            return None
        finally:
            _leave_task(loop, spare.task)
        self._spare = _SpareTask(loop, self._name)
        spare.adopt(work, context, awaited)
        return spare.task

    async def close(self) -> None:
        """Cancel the spare task."""
        if self._spare is not None:
            self._spare.task.cancel()
            await asyncio.wait({self._spare.task}, timeout=5)


class _SpareTask:
    """A task that waits for a coroutine whose first step was run in its name."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._adopted: asyncio.Future[None] = loop.create_future()
        self._work: Coroutine[Any, Any, None] | None = None
        self._context: Context
        self._awaited: Any
        self.task: asyncio.Task[None] = loop.create_task(self._run(), name=name)
        self._waits = False

    @property
    def is_ready(self) -> bool:
        """Whether the task waits for a coroutine. A task that has not begun cannot adopt: it would
        lose a cancellation."""
        return self._waits and not self._adopted.done()

    def adopt(self, work: Coroutine[Any, Any, None], context: Context, awaited: Any) -> None:
        """Run the rest of `work`, which waits for the future `awaited`; None: for one iteration."""
        if awaited is not None:
            # A task takes this mark away when it gets a future; another may await the same future
            # before the spare task runs.
            awaited._asyncio_future_blocking = False
        self._work, self._context, self._awaited = work, context, awaited
        if not self._adopted.done():  # `work` may have cancelled its own task
            self._adopted.set_result(None)

    async def _run(self) -> None:
        self._waits = True
        cancelled: asyncio.CancelledError | None = None
        try:
            await self._adopted
        except asyncio.CancelledError as error:
            if self._work is None:
                raise
            cancelled = error
        if self._work is not None:
            await _later_steps(self._work, self._context, self._awaited, cancelled)


@types.coroutine
def _later_steps(
    work: Coroutine[Any, Any, None],
    context: Context,
    awaited: Any,
    cancelled: asyncio.CancelledError | None,
) -> Generator[Any, Any, None]:
    """The steps of `work` after its first, as a task runs them. `cancelled`: by this, meanwhile."""
    try:
        # A cancelled task cancels the future that it waits for, and hears of it by that future.
        if cancelled is not None and (awaited is None or not awaited.cancel()):
            awaited = context.run(work.throw, cancelled)
        elif awaited is not None:
            awaited._asyncio_future_blocking = True
        while True:
            try:
                sent = yield awaited
            except GeneratorExit:
                work.close()
                raise
            except BaseException as error:
                awaited = context.run(work.throw, error)
            else:
                awaited = context.run(work.send, sent)
    except StopIteration:
        return
