"""The tools of the server, and the choice of one turn."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from ...model.chunks import Ask, ToolCall, ToolResult
from ...model.errors import InvalidRequest
from ..base import Answer, Turn
from .base import (
    DEFAULT_BOUNDS,
    SEPARATOR,
    Tool,
    ToolBounds,
    ToolContext,
    ToolError,
    ToolRegistry,
    ToolSource,
    approval_of,
    source_of,
)
from .calculator import Calculator
from .docs_search import DocsSearch
from .functions import FunctionTool
from .web_search import WebSearch

Origin = Literal["built-in", "function", "mcp"]
T = TypeVar("T")

#: Names that an error shows.
_SHOWN = 100
#: Seconds that a question about tools waits for MCP servers that start.
_PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class ListedTool:
    """A tool as its users see it. `problem` says why it cannot be used now."""

    tool: Tool
    origin: Origin
    timeout: float
    #: Whether a person has to approve each call; None: it depends on the arguments.
    needs_approval: bool | None
    server: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """All tools, and the MCP servers that cannot be had now with the reason."""

    tools: list[ListedTool]
    unavailable: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Answers:
    """The answers of sources: their tools, or the problem of each."""

    tools: dict[str, Sequence[Tool]]
    problems: dict[str, str]


class Toolbox:
    """The source of an engine's tools; one for the process.

    `sources` are asked when a tool of theirs is first needed.
    """

    def __init__(
        self,
        tools: Iterable[Tool] | None = None,
        sources: Iterable[ToolSource] = (),
        bounds: ToolBounds = DEFAULT_BOUNDS,
    ) -> None:
        self._tools = ToolRegistry(embedded_tools() if tools is None else tools, bounds)
        self._sources: Mapping[str, ToolSource] = {source.name: source for source in sources}
        self._bounds = bounds

    async def for_turn(self, names: Sequence[str] | None) -> ToolRegistry:
        """The tools that `names` (`Turn.tools`) allow; for None all that work.

        NAME__* stands for all tools of an MCP server. A named tool that cannot be had now stands in
        the registry's `problems`; a call of it gives a result with `is_error`. Starts the MCP
        servers that are needed, each within its time limit.
        """
        if names is None:
            answers = await self._ask(self._sources)
            fixed = [tool for tool in self._tools if _problem(tool) is None]
        else:
            answers = await self._ask({name for tool in names if (name := source_of(tool))})
            fixed = [tool for tool in self._tools if tool.name in names]
        offered = [tool for tools in answers.tools.values() for tool in tools]
        chosen = [tool for tool in offered if names is None or is_named(tool.name, names)]
        return ToolRegistry([*fixed, *chosen], self._bounds, self._missing(names or (), answers))

    async def check(self, names: Sequence[str]) -> None:
        """Raises `InvalidRequest` that names the unknown tools and the known ones.

        A tool of an MCP server that does not answer within seconds passes; the turn reports it.
        """
        answers = await self._ask({name for tool in names if (name := source_of(tool))}, _PATIENCE)
        known = [tool.name for tool in self._tools]
        for source in self._sources:
            known.append(f"{source}{SEPARATOR}*")
            known += [tool.name for tool in answers.tools.get(source, ())]
        unknown = [
            name for name in names if name not in known and source_of(name) not in answers.problems
        ]
        if unknown:
            shown = ", ".join(repr(name[:64]) for name in unknown[:10])
            there = ", ".join(known[:_SHOWN])
            raise InvalidRequest.field("tools", f"unknown: {shown}; there are: {there}")
        for name in names:
            tool = self._tools.get(name)
            problem = None if tool is None else _problem(tool)
            if problem is not None:
                raise InvalidRequest.field("tools", problem)

    async def listing(self) -> Listing:
        """All tools. Starts the MCP servers, and does not wait long for them."""
        answers = await self._ask(self._sources, _PATIENCE)
        listed = [
            ListedTool(
                tool,
                "function" if isinstance(tool, FunctionTool) else "built-in",
                self._bounds.timeout_of(tool.name),
                approval_of(tool, self._bounds),
                problem=_problem(tool),
            )
            for tool in self._tools
        ]
        for source, tools in answers.tools.items():
            for tool in tools:
                timeout = self._bounds.timeout_of(tool.name)
                asks = approval_of(tool, self._bounds)
                listed.append(ListedTool(tool, "mcp", timeout, asks, source))
        return Listing(listed, answers.problems)

    # -- inside ----------------------------------------------------------------------------

    async def _ask(self, names: Iterable[str], seconds: float | None = None) -> _Answers:
        """The sources so named, all at once."""
        sources = [self._sources[name] for name in dict.fromkeys(names) if name in self._sources]
        results = await asyncio.gather(*(_tools_of(source, seconds) for source in sources))
        answers = _Answers({}, {})
        for source, result in zip(sources, results, strict=True):
            if isinstance(result, str):
                answers.problems[source.name] = result
            else:
                answers.tools[source.name] = result
        return answers

    def _missing(self, names: Iterable[str], answers: _Answers) -> dict[str, str]:
        """Why each of `names` that cannot be had is not there."""
        missing = {
            name: answers.problems[source]
            for name in names
            if (source := source_of(name)) is not None and source in answers.problems
        }
        for name in names:
            there = answers.tools.get(source_of(name) or "")
            if there is not None and not any(is_named(tool.name, [name]) for tool in there):
                known = ", ".join(tool.name for tool in there[:_SHOWN]) or "none"
                missing[name] = f"there is no tool {name[:64]!r}; its server has: {known}"
        for tool in self._tools:
            problem = _problem(tool)
            if problem is not None:
                missing[tool.name] = problem
        return missing


async def _tools_of(source: ToolSource, seconds: float | None) -> Sequence[Tool] | str:
    try:
        async with asyncio.timeout(seconds):
            return await source.tools()
    except ToolError as exc:
        return str(exc)
    except TimeoutError:  # it goes on starting
        return f"MCP server {source.name} is still starting"


def is_named(tool: str, names: Sequence[str]) -> bool:
    """True if `names` hold the tool, or NAME__* for its server."""
    return tool in names or f"{source_of(tool)}{SEPARATOR}*" in names


def _problem(tool: Tool) -> str | None:
    """Why a tool cannot work as things are set, if so."""
    return tool.problem if isinstance(tool, WebSearch) else None


#: Seconds that an agent's thread waits for a result; longer than any time limit and start.
_THREAD_WAIT = 8_000.0


class TurnToolbox:
    """The `TurnTools` of a turn, made on the event loop. Only servers of called tools start.

    A call that a person has to approve waits for that, and a tool of the client for its result.
    """

    def __init__(self, toolbox: Toolbox, turn: Turn) -> None:
        self._toolbox = toolbox
        self._names = turn.tools
        self._asks = turn.asks
        self._client_tools = {tool.name for tool in turn.client_tools}
        self._context = ToolContext.of(turn)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    async def run(self, call: ToolCall) -> ToolResult:
        tools = await self._tools(call)
        ask = self._ask(call, tools)
        answer = None if ask is None else await self._asks.ask(ask)
        return await self._result(call, tools, ask, answer)

    def run_from_thread(self, call: ToolCall) -> ToolResult:
        if threading.get_ident() == self._thread:
            raise RuntimeError("this is the event loop: await run instead")
        tools = self._on_loop(self._tools(call))
        ask = self._ask(call, tools)
        answer = None if ask is None else self._asks.ask_from_thread(ask)
        return self._on_loop(self._result(call, tools, ask, answer))

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            waiting = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the server has stopped
            work.close()
            raise
        return waiting.result(_THREAD_WAIT)

    async def _tools(self, call: ToolCall) -> ToolRegistry:
        is_allowed = self._names is None or is_named(call.tool, self._names)
        return await self._toolbox.for_turn([call.tool] if is_allowed else self._names)

    def _ask(self, call: ToolCall, tools: ToolRegistry) -> Ask | None:
        """The question that comes before the call, if there is one."""
        if call.tool in self._client_tools and call.tool not in tools:
            return Ask("tool", tool=call.tool, args=call.args, call_id=call.call_id)
        if tools.needs_approval(call):
            return Ask("approval", tool=call.tool, args=call.args, call_id=call.call_id)
        return None

    async def _result(
        self, call: ToolCall, tools: ToolRegistry, ask: Ask | None, answer: Answer | None
    ) -> ToolResult:
        if answer is not None and not answer:
            return ToolResult(call.tool, answer.refusal, call.call_id, is_error=True)
        if ask is not None and ask.kind == "tool" and answer is not None:
            return ToolResult(call.tool, answer.payload, call.call_id)
        return await tools.run(call, self._context)


def embedded_tools() -> ToolRegistry:
    """The tools that need no key, no network and no setting."""
    return ToolRegistry([Calculator(), DocsSearch()])
