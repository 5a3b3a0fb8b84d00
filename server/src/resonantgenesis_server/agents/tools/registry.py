"""Tools by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from .base import Tool
from .calculator import Calculator
from .docs_search import DocsSearch


class ToolRegistry:
    """The tools a server has, in the order given. Raises ValueError when two share a name."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            if tool.name in self._tools:
                raise ValueError(f"two tools are named {tool.name!r}")
            self._tools[tool.name] = tool

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def get(self, name: str) -> Tool | None:
        """The tool so named, if there is one."""
        return self._tools.get(name)

    def select(self, names: Sequence[str] | None) -> ToolRegistry:
        """Only the tools that `names` allow, all for None; unknown names allow nothing."""
        if names is None:
            return self
        return ToolRegistry(tool for tool in self if tool.name in names)


def embedded_tools() -> ToolRegistry:
    """The tools that need no key, no network and no setting."""
    return ToolRegistry([Calculator(), DocsSearch()])
