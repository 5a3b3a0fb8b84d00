"""Handlers of every form, run as one: an async iterator of what they yield."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import reprlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import fields
from typing import Any, get_args

from ..serving import AgentChunk, Ask, OfSubAgent, Text, Turn
from .asks import HandlerAsks, Stopped

#: A handler: see `serving`.
Handler = Callable[[Turn], Any]

#: Values that a handler in a thread may be ahead of their reader.
_AHEAD = 64
#: Characters of a text in one chunk.
_PIECE = 16 * 1024
#: Nesting of a chunk's JSON.
_DEPTH = 100
_ORIGIN = ("agent_id", "parent")
_VALUES = tuple(kind for kind in get_args(AgentChunk) if kind is not str)
_NAMES = ", ".join(kind.__name__ for kind in _VALUES)


def encoded(value: object) -> list[str]:
    """The chunks of what a handler yielded, each as JSON: several for a long text, none for an
    empty one. Raises TypeError for a value that is none of `AgentChunk`."""
    if isinstance(value, Text) and not (value.agent_id or value.parent):
        value = value.content
    if isinstance(value, str):
        if len(value) <= _PIECE:
            return [_dumps(value)] if value else []
        return [_dumps(value[start : start + _PIECE]) for start in range(0, len(value), _PIECE)]
    if not isinstance(value, _VALUES):
        raise TypeError(
            f"a handler yields str, or one of {_NAMES}, not {reprlib.repr(value)}"
            f" ({type(value).__name__})"
        )
    body = {each.name: getattr(value, each.name) for each in fields(value)}
    if isinstance(value, Ask):
        return [_dumps({**body, "type": "ask"})]
    if isinstance(value, OfSubAgent):
        body = {name: each for name, each in body.items() if name not in _ORIGIN or each}
    _check_depth(body)
    return [_dumps({"type": value.kind, **body})]


def _check_depth(value: object, left: int = _DEPTH) -> None:
    if left == 0:
        raise TypeError(f"a chunk nests deeper than {_DEPTH}")
    inner = value.values() if isinstance(value, dict) else value
    if isinstance(inner, list | tuple) or isinstance(value, dict):
        for each in inner:  # type: ignore[attr-defined]
            if isinstance(each, dict | list | tuple):
                _check_depth(each, left - 1)


def _dumps(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:  # halves of surrogate pairs, which JSON cannot carry
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


async def items(handler: Handler, turn: Turn) -> AsyncGenerator[object, None]:
    """What the handler yields for this turn. Async handlers run on the event loop; every other
    callable may block, and runs in a thread of its own."""
    if _is_async(handler):
        produced: Any = handler(turn)
    else:
        thread = _Thread(lambda: handler(turn), f"turn {turn.session_id}/{turn.turn}")
        if isinstance(turn.asks, HandlerAsks):
            turn.asks.put = thread.put
        produced = thread.items()
    async for item in _unfolded(produced):
        yield item


def _is_async(handler: Handler) -> bool:
    call = getattr(handler, "__call__", handler)  # noqa: B004
    return any(
        inspect.isasyncgenfunction(each) or inspect.iscoroutinefunction(each)
        for each in (handler, call)
    )


async def _unfolded(produced: Any) -> AsyncGenerator[object, None]:
    if isinstance(produced, Awaitable):
        produced = await produced
    if not isinstance(produced, AsyncIterator):
        if produced is not None:
            yield produced
        return
    try:
        async for item in produced:
            if isinstance(item, _Returned):  # a plain function may return something async
                async for inner in _unfolded(item.value):
                    yield inner
            else:
                yield item
    finally:
        close = getattr(produced, "aclose", None)
        if close is not None:
            await close()


class _Returned:
    """The result of a function that is no iterator."""

    def __init__(self, value: object) -> None:
        self.value = value


class _Thread:
    """A blocking handler. When its turn is over, the thread stops at its next yield."""

    def __init__(self, work: Callable[[], object], name: str) -> None:
        self._work = work
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._changed = threading.Condition()
        self._buffer: list[object] = []
        self._error: BaseException | None = None
        self._is_finished = self._is_stopped = False

    async def items(self) -> AsyncGenerator[object, None]:
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run, args=(self._main,), name=self._name, daemon=True
        ).start()
        try:
            while True:
                await self._ready.wait()
                with self._changed:
                    batch, self._buffer = self._buffer, []
                    finished = self._is_finished
                    self._ready.clear()
                    self._changed.notify_all()
                for item in batch:
                    yield item
                if finished:
                    break
            if self._error is not None:
                raise self._error
        finally:
            with self._changed:
                self._is_stopped = True
                self._changed.notify_all()

    # Below: in the thread.

    def _main(self) -> None:
        error: BaseException | None = None
        try:
            produced = self._work()
            if isinstance(produced, Iterator):
                self._pump(produced)
            else:
                self.put(_Returned(produced))
        except Stopped as stopped:
            self.put(stopped)
        except Exception as raised:
            error = raised
        except BaseException as raised:
            error = RuntimeError(f"the handler raised {type(raised).__name__}")
            error.__cause__ = raised
        with self._changed:
            self._error, self._is_finished = error, True
            self._wake()

    def _pump(self, produced: Iterator[object]) -> None:
        try:
            for item in produced:
                if not self.put(item):
                    break
        finally:
            close = getattr(produced, "close", None)
            if close is not None:
                close()

    def put(self, item: object) -> bool:
        """Put a value behind what was yielded; False: nobody takes it."""
        with self._changed:
            while len(self._buffer) >= _AHEAD and not self._is_stopped:
                if not self._changed.wait(60.0) and self._loop.is_closed():
                    self._is_stopped = True
            if self._is_stopped:
                return False
            self._buffer.append(item)
            if len(self._buffer) == 1:
                self._wake()
            return True

    def _wake(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ready.set)
