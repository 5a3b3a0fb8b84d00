"""The server's tools as an agent written in Python calls them."""

from __future__ import annotations

from typing import Protocol

from ..model.chunks import ToolCall, ToolResult


class TurnTools(Protocol):
    """The tools of a turn: those that `Turn.tools` names, or all that the server has.

    A call gives its result within the tool's time limit; what went wrong, an unknown tool too, is
    a result with `is_error`. Neither the call nor the result is in the stream unless the agent
    yields them.
    """

    async def run(self, call: ToolCall) -> ToolResult: ...

    def run_from_thread(self, call: ToolCall) -> ToolResult:
        """`run` for agents that are plain functions and so run in a thread."""
        ...


class NoTools:
    """For a turn outside a server."""

    async def run(self, call: ToolCall) -> ToolResult:
        return self.run_from_thread(call)

    def run_from_thread(self, call: ToolCall) -> ToolResult:
        return ToolResult(call.tool, "this turn has no tools", call.call_id, is_error=True)


NO_TOOLS: TurnTools = NoTools()
