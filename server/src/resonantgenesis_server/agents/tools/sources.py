"""Where tools come from that have to be asked for: MCP servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .base import Tool

#: Between a server's name and its tool's, in a tool's name.
SEPARATOR = "__"


class ToolSource(Protocol):
    """Something that has tools, named NAME__TOOL."""

    @property
    def name(self) -> str: ...

    async def tools(self) -> Sequence[Tool]:
        """Its tools now. Raises `ToolError` when it cannot be had; bounded in time."""
        ...

    async def close(self) -> None: ...


def source_of(tool: str) -> str | None:
    """The name of the source in a tool's name, if it has one."""
    name, separator, _ = tool.partition(SEPARATOR)
    return name if separator else None
