"""The tool, its call within bounds, and the tools of a turn by name."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from ...codec.json import NotJson, dumps
from ...model.chunks import ToolCall, ToolResult
from ...model.errors import AgentError
from ...tracing import spans
from ..base import NO_FILES, Turn, TurnFiles
from ..threads import AgentThread, Returned
from .images import Image
from .settings import DEFAULT_MAX_RESULT, DEFAULT_TIMEOUT

#: Any value of JSON.
JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

#: A tool that says it goes on may take so many times its time limit.
_PROGRESS = 10
#: Bytes below which a text is not worth cutting.
_NOTE_ROOM = 256

_log = logging.getLogger(__name__)

#: Between a server's name and its tool's, in a tool's name.
SEPARATOR = "__"
T = TypeVar("T")


class ToolError(Exception):
    """A tool failed in a way that concerns its user, for whom the message is written."""


def no_progress() -> None:
    """The `progress` of a caller without a time limit."""


def no_viewer(image: Image) -> None:
    """The `show_image` of a caller that shows no images."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """The turn that a tool works for, with the fields of `Turn`."""

    session_id: str = ""
    turn: int = 0
    agent_id: str = ""
    subject: str | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    files: TurnFiles = NO_FILES
    #: A long-running tool calls it to begin its time again.
    progress: Callable[[], None] = field(default=no_progress, compare=False)
    #: To be called with an image that belongs to the result, for a model that sees.
    show_image: Callable[[Image], None] = field(default=no_viewer, compare=False)

    @classmethod
    def of(cls, turn: Turn) -> ToolContext:
        return cls(
            turn.session_id,
            turn.turn,
            turn.agent_id,
            turn.subject,
            turn.context,
            turn.metadata,
            turn.files,
        )


#: For a tool that runs without a turn.
NO_CONTEXT = ToolContext()


class Tool(Protocol):
    """Something an agent can call. Safe for any number of calls at once."""

    @property
    def name(self) -> str:
        """1 to 64 of `A-Z a-z 0-9 _ -`, as the providers of models want it."""
        ...

    @property
    def description(self) -> str:
        """For a reader, or a model, that has to choose a tool."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The JSON Schema of `args`, of type object."""
        ...

    async def call(self, args: Mapping[str, Any], context: ToolContext) -> JsonValue:
        """Do the work without blocking the event loop. Raises `ToolError`.

        `args` is any JSON object; the tool checks it.
        """
        ...


async def run_tool(
    tool: Tool,
    call: ToolCall,
    context: ToolContext = NO_CONTEXT,
    *,
    timeout: float = DEFAULT_TIMEOUT,
    max_result: int = DEFAULT_MAX_RESULT,
) -> ToolResult:
    """The result of `call`; a tool that fails or takes too long gives one with `is_error`.

    So the agent goes on after any failure. The words of an unexpected exception are logged and not
    shown. If the result has over `max_result` bytes of JSON, its longest text is cut and says so; a
    result that is still too large is an error. Raises nothing but CancelledError, when the caller
    is cancelled.
    """
    with spans.tool(tool.name, call.call_id, context.session_id, context.agent_id) as span:
        span.show(gen_ai__tool__call__arguments=lambda: dumps(call.args).decode())
        result = await _run_bounded(tool, call, context, timeout, max_result)
        span.show(gen_ai__tool__call__result=lambda: dumps(result.result).decode())
        if result.is_error:
            span.fail("tool_error")
    return result


async def _run_bounded(
    tool: Tool, call: ToolCall, context: ToolContext, timeout: float, max_result: int
) -> ToolResult:
    scope = asyncio.timeout(timeout)
    loop = asyncio.get_running_loop()
    last = loop.time() + _PROGRESS * timeout

    def progress() -> None:
        if not scope.expired():
            scope.reschedule(min(loop.time() + timeout, last))

    try:
        async with scope:
            result = await tool.call(call.args, replace(context, progress=progress))
        return ToolResult(call.tool, _bounded(call.tool, result, max_result), call.call_id)
    except ToolError as exc:
        return _failed(call, str(exc), max_result)
    except TimeoutError as exc:
        if scope.expired():
            return _failed(call, f"{call.tool} gave no result within {timeout:g} s", max_result)
        return _unexpected(call, exc)
    except asyncio.CancelledError as exc:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return _unexpected(call, exc)  # the tool awaited something that was cancelled
    except Exception as exc:
        return _unexpected(call, exc)


def _unexpected(call: ToolCall, error: BaseException) -> ToolResult:
    _log.error("tool %s failed", call.tool, exc_info=error)
    return ToolResult(call.tool, f"{call.tool} failed", call.call_id, is_error=True)


def _failed(call: ToolCall, why: str, max_result: int) -> ToolResult:
    said = _bounded(call.tool, why or f"{call.tool} failed", max_result)
    return ToolResult(call.tool, said, call.call_id, is_error=True)


def _bounded(name: str, result: JsonValue, limit: int) -> JsonValue:
    try:
        excess = len(dumps(result)) - limit
    except NotJson as exc:
        raise ToolError(f"the result of {name} has no JSON form: {exc}") from exc
    if excess <= 0:
        return result
    if isinstance(result, str):
        return cut_text(result, limit)
    if isinstance(result, dict):
        # Most large results are one large text with a few words about it.
        texts = {key: len(dumps(value)) for key, value in result.items() if isinstance(value, str)}
        longest = max(texts, key=lambda key: texts[key], default=None)
        if longest is not None and texts[longest] - excess >= _NOTE_ROOM:
            cut = cut_text(str(result[longest]), texts[longest] - excess)
            return result | {longest: cut}
    raise ToolError(
        f"the result is too large: {excess + limit} bytes, at most {limit}; ask for less"
    )


def cut_text(text: str, limit: int) -> str:
    """The beginning of `text`, at most `limit` bytes as JSON; a note says if it was cut."""
    if len(text) < limit // 6 or len(dumps(text)) <= limit:  # a character takes at most 6 bytes
        return text
    note = f"\n[cut: the whole has {len(text)} characters]"
    low, high = 0, min(len(text), limit)
    while low < high:  # the longest beginning that fits
        middle = (low + high + 1) // 2
        if len(dumps(text[:middle] + note)) <= limit:
            low = middle
        else:
            high = middle - 1
    return text[:low] + note


def text_argument(args: Mapping[str, Any], name: str, max_length: int) -> str:
    """`args[name]`, a text with something in it. Raises `ToolError`."""
    value = args.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ToolError(f"{name} must be a text and not empty")
    if len(value) > max_length:
        raise ToolError(f"{name} is too long: {len(value)} characters, at most {max_length}")
    return value


def number_argument(
    args: Mapping[str, Any], name: str, *, default: int, minimum: int, maximum: int
) -> int:
    """`args[name]`, a whole number within the bounds; `default` if absent. Raises `ToolError`."""
    value = args.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        raise ToolError(f"{name} must be a whole number from {minimum} to {maximum}")
    return value


class ToolSource(Protocol):
    """Something that has tools, named NAME__TOOL."""

    @property
    def name(self) -> str: ...

    async def tools(self) -> Sequence[Tool]:
        """The tools of now, within a bounded time. Raises `ToolError` when the source does not
        answer."""
        ...

    async def close(self) -> None: ...


def source_of(tool: str) -> str | None:
    """The name of the source in a tool's name, if it has one."""
    name, separator, _ = tool.partition(SEPARATOR)
    return name if separator else None


@dataclass(frozen=True, slots=True)
class _Boxed(Generic[T]):
    """Protects a result that is an iterator from being iterated."""

    value: T


async def in_thread(work: Callable[[], T], name: str) -> T:
    """The result of `work`, called in a daemon thread with the caller's context variables.

    A cancelled call does not wait for the thread. Raises the exceptions of `work`, and ToolError
    when the process has too many such threads.
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


@dataclass(frozen=True, slots=True)
class ToolBounds:
    """How long a call may take, in seconds, and how large its result may be, in bytes of JSON.

    `approvals` name the tools whose calls a person has to approve; NAME__* is a whole MCP server.
    """

    timeout: float = DEFAULT_TIMEOUT
    timeouts: Mapping[str, float] = field(default_factory=dict)
    max_result: int = DEFAULT_MAX_RESULT
    approvals: Sequence[str] = ()

    def timeout_of(self, name: str) -> float:
        return self.timeouts.get(name, self.timeout)

    def wants_approval(self, tool: str) -> bool:
        return tool in self.approvals or f"{source_of(tool)}{SEPARATOR}*" in self.approvals


DEFAULT_BOUNDS = ToolBounds()


def approval_of(tool: Tool, bounds: ToolBounds) -> bool | None:
    """Whether a person has to approve each call of the tool: the configuration says so, or its
    `needs_approval`. None: that is a function of the arguments."""
    if bounds.wants_approval(tool.name):
        return True
    wanted = getattr(tool, "needs_approval", False)
    return None if callable(wanted) else bool(wanted)


class ToolRegistry:
    """The tools that a turn may call, in the order given. Raises ValueError when two share a name.

    `problems` are tools that would be here but cannot be had now, each with the reason.
    """

    def __init__(
        self,
        tools: Iterable[Tool],
        bounds: ToolBounds = DEFAULT_BOUNDS,
        problems: Mapping[str, str] | None = None,
    ) -> None:
        self._bounds = bounds
        self.problems: Mapping[str, str] = dict(problems or {})
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            if tool.name in self._tools:
                raise ValueError(f"two tools are named {tool.name!r}")
            self._tools[tool.name] = tool

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def get(self, name: str) -> Tool | None:
        """The tool so named, if there is one."""
        return self._tools.get(name)

    def select(self, names: Sequence[str] | None) -> ToolRegistry:
        """The tools that `names` allow, all for None; unknown names allow nothing."""
        if names is None:
            return self
        chosen = [tool for tool in self if tool.name in names]
        problems = {name: why for name, why in self.problems.items() if name in names}
        return ToolRegistry(chosen, self._bounds, problems)

    def needs_approval(self, call: ToolCall) -> bool:
        """Whether a person has to approve this call: the configuration says so, or the tool's
        `needs_approval`, a bool or a function of the arguments. A function that fails asks."""
        tool = self._tools.get(call.tool)
        if tool is None:
            return False
        always = approval_of(tool, self._bounds)
        if always is not None:
            return always
        try:
            return bool(tool.needs_approval(call.args))  # type: ignore[attr-defined]
        except Exception as exc:
            _log.error("needs_approval of tool %s failed", call.tool, exc_info=exc)
            return True

    async def run(self, call: ToolCall, context: ToolContext) -> ToolResult:
        """The result of `call` within the bounds, with `is_error` for any failure.

        Raises nothing but CancelledError, when the caller is cancelled.
        """
        tool = self._tools.get(call.tool)
        if tool is None:
            why = self.problems.get(call.tool) or self._no_such(call.tool)
            return ToolResult(call.tool, why, call.call_id, is_error=True)
        return await run_tool(
            tool,
            call,
            context,
            timeout=self._bounds.timeout_of(call.tool),
            max_result=self._bounds.max_result,
        )

    def _no_such(self, name: str) -> str:
        known = ", ".join(self._tools) or "none"
        return f"there is no tool {name[:64]!r} here; there are: {known}"
