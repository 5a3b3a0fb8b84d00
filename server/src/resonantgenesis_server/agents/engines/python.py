"""The engine for agents that are Python callables, named on the command line or in a file."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import reprlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from types import CodeType
from typing import Any, ClassVar, get_args

from ...model.chunks import (
    AgentChunk,
    Ask,
    Data,
    File,
    Keep,
    OfSubAgent,
    Reasoning,
    Source,
    Step,
    Text,
    ToolCall,
    ToolResult,
    Usage,
)
from ..base import Agent, Answer, Turn, TurnAsks
from ..declared import declaration_of
from ..loading import AgentLoadError, find
from ..own_loop import OwnLoop, for_own_loop
from ..threads import AgentThread, Returned, ThreadStopped
from ..tools.toolbox import Toolbox, TurnToolbox

__all__ = ["AgentLoadError", "PythonAgent", "build", "load"]


def load(reference: str, toolbox: Toolbox | None = None) -> PythonAgent:
    """The agent of `MODULE:ATTRIBUTE`. Imports the module. Raises `AgentLoadError`."""
    return PythonAgent(reference, find(reference), toolbox)


def build(settings: Mapping[str, Any], toolbox: Toolbox) -> Agent:
    """`load` of `settings["reference"]`. Raises `AgentLoadError`."""
    reference = settings.get("reference")
    if not isinstance(reference, str):
        raise AgentLoadError(
            "engine 'python': the setting 'reference' (MODULE:ATTRIBUTE) is missing"
        )
    return load(reference, toolbox)


class PythonAgent:
    """Runs a callable that takes a `Turn`.

    Async generator functions and coroutine functions run on the event loop. Every other callable
    may block and runs in a thread of its own. It yields or returns `str` or values of `agent_api`;
    another value ends the turn with a `TypeError` that names it. With a `toolbox` the turn can call
    the server's tools.
    """

    def __init__(
        self,
        reference: str,
        function: Callable[[Turn], object],
        toolbox: Toolbox | None = None,
    ) -> None:
        self.reference = reference
        self.declared = declaration_of(function)
        self._function = function
        self._toolbox = toolbox
        self.restartable = self.declared.restartable
        #: How often the agent has blocked the event loop.
        self.blocked = 0
        #: Its turns run in threads with loops of their own, although it is async.
        self.is_isolated = False
        self._is_async = inspect.isasyncgenfunction(function) or inspect.iscoroutinefunction(
            function
        )

    def run(self, turn: Turn) -> AsyncGenerator[AgentChunk, None]:
        """Run the turn, as `Agent.run` promises. A cancelled turn does not wait for its thread."""
        if self._is_async and not self.is_isolated:
            return self._on_loop(self._with_tools(turn))
        return self._in_thread(turn)

    def _with_tools(self, turn: Turn) -> Turn:
        if self._toolbox is None:
            return turn
        return replace(turn, toolbox=TurnToolbox(self._toolbox, turn))

    async def _on_loop(self, turn: Turn) -> AsyncGenerator[AgentChunk, None]:
        """One generator around the agent's own and not three: each costs every token its share."""
        checked = self._checked
        try:
            async with aclosing(_unfold(self._function(turn))) as items:
                async for item in items:
                    yield item if type(item) is str else checked(item)
        except SystemExit as exc:  # would end the server's event loop
            raise RuntimeError("the agent raised SystemExit") from exc
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody cancelled this turn: the agent awaited something that was cancelled.
            raise RuntimeError("the agent raised CancelledError") from exc

    async def _in_thread(self, turn: Turn) -> AsyncGenerator[AgentChunk, None]:
        name = f"agent {self.reference} {turn.session_id}/{turn.turn}"
        asks = _ThreadAsks(turn.asks)
        turn = self._with_tools(replace(turn, asks=asks))
        own_loop: OwnLoop | None = None
        if self._is_async:
            there = for_own_loop(turn)
            own_loop = OwnLoop(lambda: _unfold(self._function(there)))
            thread = AgentThread(own_loop.items, name)
        else:
            thread = AgentThread(lambda: self._function(turn), name)
        asks.thread = thread
        items = thread.items()
        try:
            async with aclosing(items):
                async for item in items:
                    if isinstance(item, _ThreadAsk):
                        asks.answer(item)  # others may be asked beside it, for the same stop
                        continue
                    if not isinstance(item, Returned):
                        yield self._checked(item)
                        continue
                    # A plain function may return something async: decorated ones do.
                    async with aclosing(_unfold(item.value)) as unfolded:
                        async for inner in unfolded:
                            yield self._checked(inner)
        finally:
            await asks.stop()
            if own_loop is not None:
                own_loop.stop()

    #: By which a watch knows an agent that runs on the server's loop.
    ON_LOOP: ClassVar[CodeType] = _on_loop.__code__

    def _checked(self, item: object) -> AgentChunk:
        if isinstance(item, str):
            return item
        if isinstance(item, Ask | Keep):
            return item  # the runner checks these
        if isinstance(item, _Chunk) and _is_sound(item):
            return item
        raise TypeError(
            f"agent {self.reference!r} yielded {reprlib.repr(item)} ({type(item).__name__}); an "
            f"agent yields str, {', '.join(_NAMES[:-1])} or {_NAMES[-1]}, with fields as declared"
        )


#: Seconds that a cancelled question gets to end.
_STOP_SECONDS = 5.0


class _ThreadAsk:
    """A question of an agent in a thread: it stands behind all that the agent has yielded."""

    def __init__(self, ask: Ask, asks: TurnAsks) -> None:
        self._ask = ask
        self._asks = asks
        self._answer: concurrent.futures.Future[Answer] = concurrent.futures.Future()

    async def answer(self) -> None:
        """Ask, and give the thread its answer, or the reason why there is none."""
        try:
            self._answer.set_result(await self._asks.ask(self._ask))
        except Exception as error:
            self._answer.set_exception(error)

    def wait(self) -> Answer:
        return self._answer.result()

    def stop(self) -> None:
        """Nobody answers any more."""
        if not self._answer.done():
            self._answer.set_exception(ThreadStopped())


class _ThreadAsks:
    """The `TurnAsks` of an agent in a thread."""

    thread: AgentThread

    def __init__(self, asks: TurnAsks) -> None:
        self._asks = asks
        self._waiting: set[_ThreadAsk] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def answer(self, question: _ThreadAsk) -> None:
        """Have a question answered; called on the event loop."""
        task = asyncio.create_task(question.answer(), name="ask of a thread")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """End the thread where it waits for an answer; called when it can put nothing more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        for question in list(self._waiting):
            question.stop()
        if tasks:
            await asyncio.wait(tasks, timeout=_STOP_SECONDS)

    async def ask(self, ask: Ask) -> Answer:
        return await self._asks.ask(ask)

    def ask_from_thread(self, ask: Ask) -> Answer:
        question = _ThreadAsk(ask, self._asks)
        self._waiting.add(question)
        try:
            self.thread.put(question)
            return question.wait()
        finally:
            self._waiting.discard(question)


def _unfold(produced: object) -> AsyncGenerator[object, None]:
    """The items of an async generator, or the result of a coroutine, or the value itself."""
    return produced if isinstance(produced, AsyncGenerator) else _unfolded(produced)


async def _unfolded(produced: object) -> AsyncGenerator[object, None]:
    if isinstance(produced, Awaitable):
        produced = await produced
    if not isinstance(produced, AsyncIterator):
        yield produced
        return
    try:
        async for item in produced:
            yield item
    finally:
        close = getattr(produced, "aclose", None)
        if close is not None:
            await close()


#: What an agent yields beside `str`.
_Chunk = Text | Reasoning | ToolCall | ToolResult | Step | Source | File | Data | Usage
_NAMES = [kind.__name__ for kind in (*get_args(_Chunk), Ask, Keep)]
#: Types of fields; the codec checks JSON values.
_TYPES: Mapping[type[_Chunk], Mapping[str, type]] = {
    Text: {"content": str},
    Reasoning: {"content": str},
    ToolCall: {"tool": str, "args": dict, "call_id": str},
    ToolResult: {"tool": str, "call_id": str, "is_error": bool},
    Step: {"name": str, "status": str, "detail": str, "finish_reason": str},
    Source: {"url": str, "title": str},
    File: {"file_id": str, "name": str, "content_type": str, "size": int},
    Data: {"name": str, "id": str, "transient": bool},
    Usage: {"input_tokens": int, "output_tokens": int},
}
_ORIGIN: Mapping[str, type] = {"agent_id": str, "parent": str}


def _is_sound(chunk: _Chunk) -> bool:
    """True if the fields have their declared types and a meaning."""
    fields = next(fields for kind, fields in _TYPES.items() if isinstance(chunk, kind))
    types = {**fields, **(_ORIGIN if isinstance(chunk, OfSubAgent) else {})}
    if not all(isinstance(getattr(chunk, name), kind) for name, kind in types.items()):
        return False
    match chunk:
        case Step():
            return chunk.status in ("started", "progress", "completed")
        case Source(url=named) | Data(name=named):
            return bool(named)
        case Usage():
            return chunk.input_tokens >= 0 and chunk.output_tokens >= 0
    return True
