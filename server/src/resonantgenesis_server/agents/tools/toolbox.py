"""The server's tools: which there are, and those that one turn gets."""

from __future__ import annotations

from collections.abc import Sequence

from ...model.errors import InvalidRequest
from .registry import ToolRegistry, embedded_tools


class Toolbox:
    """What an engine gets its tools from; one for the process."""

    def __init__(self, tools: ToolRegistry | None = None) -> None:
        self._tools = embedded_tools() if tools is None else tools

    async def for_turn(self, names: Sequence[str] | None) -> ToolRegistry:
        """The tools that `names` (`Turn.tools`) allow, all for None. Raises no ToolError.

        What is named and cannot be had now stands in the registry's `problems`; calling it gives
        a result with `is_error`.
        """
        return self._tools.select(names)

    async def check(self, names: Sequence[str]) -> None:
        """Raises `InvalidRequest` that names the unknown ones, and those that there are."""
        unknown = [name for name in names if name not in self._tools]
        if unknown:
            known = ", ".join(tool.name for tool in self._tools)
            shown = ", ".join(repr(name[:64]) for name in unknown[:10])
            raise InvalidRequest.field("tools", f"unknown: {shown}; there are: {known}")
