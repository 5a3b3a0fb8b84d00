"""An async agent in a thread with an event loop of its own, so that it can block nobody else."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterator,
)
from dataclasses import replace
from typing import Any, TypeVar

from .base import Turn

T = TypeVar("T")


class OwnLoop:
    """One turn. `items` is iterated in the thread; `stop` is called from the server's loop."""

    def __init__(self, make: Callable[[], AsyncGenerator[object, None]]) -> None:
        self._make = make
        self._loop: asyncio.AbstractEventLoop | None = None
        self._step: asyncio.Task[object] | None = None
        self._stopped = False

    def items(self) -> Iterator[object]:
        """What the agent yields. Between two items its loop stands still."""
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            produced = self._make()
            try:
                while not self._stopped:
                    self._step = self._loop.create_task(_next(produced))
                    try:
                        item = self._loop.run_until_complete(self._step)
                    except StopAsyncIteration:
                        return
                    yield item
            except asyncio.CancelledError:
                if not self._stopped:
                    raise
            finally:
                runner.run(produced.aclose())

    def stop(self) -> None:
        """Cancel the agent where it waits. Harmless if it has ended."""
        self._stopped = True
        loop = self._loop
        if loop is None:
            return
        try:
            loop.call_soon_threadsafe(self._cancel)
        except RuntimeError:  # its loop is closed: it has ended
            return

    def _cancel(self) -> None:
        if self._step is not None:
            self._step.cancel()


async def _next(produced: AsyncGenerator[object, None]) -> object:
    return await anext(produced)


def for_own_loop(turn: Turn) -> Turn:
    """The turn for an agent on another loop: its helpers do their work on this one."""
    loop = asyncio.get_running_loop()
    helpers = {name: getattr(turn, name) for name in ("files", "toolbox", "inbox")}
    there: dict[str, Any] = {name: _Helper(helper, loop) for name, helper in helpers.items()}
    return replace(turn, asks=_Asks(turn.asks), **there)


class _Helper:
    """Calls the async methods of a helper on the server's loop. Other methods are as they were."""

    def __init__(self, helper: object, loop: asyncio.AbstractEventLoop) -> None:
        self._helper = helper
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._helper, name)
        if inspect.isasyncgenfunction(method):
            return lambda *args: _iterated(method(*args), self._loop)
        if not inspect.iscoroutinefunction(method):
            return method

        async def call(*args: Any, **named: Any) -> Any:
            own = asyncio.get_running_loop()
            given = [_iterated(a, own) if isinstance(a, AsyncIterable) else a for a in args]
            return await _on(self._loop, method(*given, **named))

        return call


class _Asks:
    """Asks as an agent in a thread does: behind all that it has yielded."""

    def __init__(self, asks: Any) -> None:
        self._asks = asks
        self.ask_from_thread = asks.ask_from_thread

    async def ask(self, ask: Any) -> Any:
        return await asyncio.to_thread(self._asks.ask_from_thread, ask)


async def _on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which runs on another loop."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))


async def _iterated(items: AsyncIterable[T], loop: asyncio.AbstractEventLoop) -> AsyncIterator[T]:
    """The items of an iterable that belongs to another loop."""
    iterator = aiter(items)

    async def following() -> T:
        return await anext(iterator)

    while True:
        try:
            item = await _on(loop, following())
        except StopAsyncIteration:
            return
        yield item
