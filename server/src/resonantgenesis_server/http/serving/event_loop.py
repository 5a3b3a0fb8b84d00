"""The event loop, kept running whatever the code of users raises in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import structlog
import uvloop

T = TypeVar("T")
log_ = structlog.get_logger("resonantgenesis.serving")


def run(main: Coroutine[Any, Any, T], hears_signals: Callable[[], bool]) -> T:
    """What `main` returns, run to its end on a new event loop.

    SystemExit and KeyboardInterrupt that are raised in any other task or callback end an event
    loop; here the loop goes on, since an agent or a tool that starts a task may end its turn and
    never the server. KeyboardInterrupt is let through unless `hears_signals`: then Ctrl-C does not
    raise it, so it can only be theirs.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        loop = runner.get_loop()
        task = loop.create_task(main)
        while True:
            try:
                return loop.run_until_complete(task)
            except (SystemExit, KeyboardInterrupt) as error:
                is_theirs = isinstance(error, SystemExit) or hears_signals()
                if task.done() or not is_theirs:
                    raise
                log_.error(
                    "an agent's or a tool's task tried to end the server",
                    raised=type(error).__name__,
                    exc_info=error,
                )
