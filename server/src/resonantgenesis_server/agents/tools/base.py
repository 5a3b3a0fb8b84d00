"""What a tool is, and how an agent runs one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

from ...model.chunks import ToolCall, ToolResult

#: Any value of JSON.
JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

#: Seconds a tool may take unless its caller says otherwise.
DEFAULT_TIMEOUT = 30.0

_log = logging.getLogger(__name__)


class ToolError(Exception):
    """A tool failed in a way that concerns its user; the message is written for them."""


class Tool(Protocol):
    """Something an agent can call. Safe for any number of calls at once."""

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str:
        """For a reader, or a model, that has to choose a tool."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The JSON Schema of `args`."""
        ...

    async def call(self, args: Mapping[str, Any]) -> JsonValue:
        """Does the work without blocking the event loop. Raises `ToolError`."""
        ...


async def run_tool(tool: Tool, call: ToolCall, timeout: float = DEFAULT_TIMEOUT) -> ToolResult:
    """The result of `call`; a tool that fails or takes too long gives one with `is_error`.

    So the agent goes on whatever a tool does. What an unexpected exception says is logged, not
    shown.
    """
    try:
        async with asyncio.timeout(timeout):
            result = await tool.call(call.args)
    except ToolError as exc:
        return ToolResult(call.tool, str(exc), call.call_id, is_error=True)
    except TimeoutError:
        said = f"{call.tool} gave no result within {timeout:g} s"
        return ToolResult(call.tool, said, call.call_id, is_error=True)
    except Exception:
        _log.exception("tool %s failed", call.tool)
        return ToolResult(call.tool, f"{call.tool} failed", call.call_id, is_error=True)
    return ToolResult(call.tool, result, call.call_id)


def text_argument(args: Mapping[str, Any], name: str, max_length: int) -> str:
    """`args[name]`, a text with something in it. Raises `ToolError`."""
    value = args.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ToolError(f"{name} must be a text and not empty")
    if len(value) > max_length:
        raise ToolError(f"{name} is too long: {len(value)} characters, at most {max_length}")
    return value
