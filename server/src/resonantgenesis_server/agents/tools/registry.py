"""Tools by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ...model.chunks import ToolCall, ToolResult
from .base import DEFAULT_MAX_RESULT, DEFAULT_TIMEOUT, Tool, ToolContext, run_tool
from .calculator import Calculator
from .docs_search import DocsSearch


@dataclass(frozen=True, slots=True)
class ToolBounds:
    """How long a call may take, in seconds, and how large its result may be, in bytes of JSON."""

    timeout: float = DEFAULT_TIMEOUT
    timeouts: Mapping[str, float] = field(default_factory=dict)
    max_result: int = DEFAULT_MAX_RESULT

    def timeout_of(self, name: str) -> float:
        return self.timeouts.get(name, self.timeout)


DEFAULT_BOUNDS = ToolBounds()


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
        """Only the tools that `names` allow, all for None; unknown names allow nothing."""
        if names is None:
            return self
        chosen = [tool for tool in self if tool.name in names]
        problems = {name: why for name, why in self.problems.items() if name in names}
        return ToolRegistry(chosen, self._bounds, problems)

    async def run(self, call: ToolCall, context: ToolContext) -> ToolResult:
        """The result of `call`, within the bounds; `is_error` for whatever went wrong.

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


def embedded_tools() -> ToolRegistry:
    """The tools that need no key, no network and no setting."""
    return ToolRegistry([Calculator(), DocsSearch()])
