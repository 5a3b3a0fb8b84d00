"""Calls that block, each in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic, TypeVar

from ...model.errors import AgentError
from ..threads import AgentThread, Returned
from .base import ToolError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Boxed(Generic[T]):
    """Keeps a result that is an iterator from being iterated."""

    value: T


async def in_thread(work: Callable[[], T], name: str) -> T:
    """What `work` returns, called in a daemon thread with the caller's context variables.

    Cancelled, it does not wait for the thread. Raises what `work` raises, and ToolError when the
    process has as many such threads as it may.
    """
    try:
        async with aclosing(AgentThread(lambda: _Boxed(work()), name).items()) as items:
            async for item in items:
                if isinstance(item, Returned) and isinstance(item.value, _Boxed):
                    result: T = item.value.value
                    return result
    except AgentError as exc:
        raise ToolError(exc.message) from exc
    raise ToolError(f"{name} gave no result")
