"""Coroutines started in the call that has something to do, without a task until they wait."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


def result_at_once(coroutine: Coroutine[Any, Any, T]) -> T | None:
    """The coroutine's result; None if it would have to wait: then it is closed, undone.

    Raises what the coroutine raises.
    """
    try:
        coroutine.send(None)
    except StopIteration as ended:
        result: T = ended.value
        return result
    coroutine.close()
    return None


def start_eagerly(coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None] | None:
    """Run the coroutine up to its first wait; a task that does the rest, None if none is left.

    Costs 0.5 µs where a task costs 6 µs. Before its first wait the coroutine has no current task,
    so it must not use `asyncio.timeout` there. Raises what the coroutine raises before it waits.
    """
    try:
        awaited = coroutine.send(None)
    except StopIteration:
        return None
    return asyncio.get_running_loop().create_task(_rest(coroutine, awaited), name=name)


@types.coroutine
def _rest(coroutine: Coroutine[Any, Any, None], awaited: Any) -> Generator[Any, Any, None]:
    """Go on with a coroutine that waits for `awaited`."""
    try:
        while True:
            try:
                sent = yield awaited
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as error:
                awaited = coroutine.throw(error)
            else:
                awaited = coroutine.send(sent)
    except StopIteration:
        return
