"""Loops beside the requests: one owner of a task, one way to wake it, one back-off."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from . import metrics

log_ = structlog.get_logger("resonantgenesis.background")

#: Seconds that `close` waits for a cancelled loop; a loop that hangs must not hold up the exit.
CLOSE_SECONDS = 5.0


class Background:
    """One coroutine in a task of its own, from `start` to `close`.

    `run` loops without an end and waits in `woken`. An exception that leaves `run` is a defect: it
    is logged with its traceback and counted, and ends the loop.
    """

    def __init__(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._name = name
        self._run = run
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=self._name)
        self._task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Cancel the task and wait for its end, at most CLOSE_SECONDS. Harmless before `start`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=CLOSE_SECONDS)

    def wake(self) -> None:
        """End the wait in `woken`: the current one, or the next one."""
        self._wake.set()

    async def woken(self, timeout: float | None = None) -> bool:
        """Wait for `wake`, at most `timeout` seconds. Returns whether it was woken."""
        try:
            async with asyncio.timeout(timeout):
                await self._wake.wait()
        except TimeoutError:
            return False
        self._wake.clear()
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            metrics.defect("other")
            log_.error("a background loop failed", loop=self._name, exc_info=error)


class Backoff:
    """Waits between attempts: doubled after each failure, up to a limit, with jitter.

    A wait is between half of the delay and the whole delay. So clients that failed together do not
    come back together.
    """

    def __init__(self, first: float, limit: float) -> None:
        """Both in seconds."""
        self._first = self._delay = first
        self._limit = limit

    def failed(self) -> float:
        """Seconds to wait now; the next wait is longer."""
        delay, self._delay = self._delay, min(self._delay * 2, self._limit)
        return random.uniform(delay / 2, delay)  # noqa: S311

    def succeeded(self) -> None:
        self._delay = self._first
