from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import pytest
from resonantgenesis_server.agents.tools.base import (
    JsonValue,
    ToolContext,
    ToolError,
    ToolRegistry,
    run_tool,
)
from resonantgenesis_server.agents.tools.toolbox import embedded_tools
from resonantgenesis_server.model.chunks import ToolCall, ToolResult

pytestmark = pytest.mark.anyio


class Probe:
    name = "probe"
    description = "For tests."
    parameters: Mapping[str, Any] = {"type": "object"}

    def __init__(self, outcome: JsonValue | Exception | asyncio.Event) -> None:
        self._outcome = outcome

    async def call(self, args: Mapping[str, Any], context: ToolContext) -> JsonValue:
        if isinstance(self._outcome, Exception):
            raise self._outcome
        if isinstance(self._outcome, asyncio.Event):
            await self._outcome.wait()
            return None
        return self._outcome


CALL = ToolCall("probe", {}, "call_1")


async def test_a_result_is_paired_with_its_call() -> None:
    assert await run_tool(Probe({"n": 1}), CALL) == ToolResult("probe", {"n": 1}, "call_1")


async def test_a_tool_that_fails_says_why() -> None:
    result = await run_tool(Probe(ToolError("no such city")), CALL)
    assert result == ToolResult("probe", "no such city", "call_1", is_error=True)


async def test_an_unexpected_failure_is_logged_and_not_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        result = await run_tool(Probe(ValueError("secret detail")), CALL)
    assert result == ToolResult("probe", "probe failed", "call_1", is_error=True)
    assert "secret detail" in caplog.text


async def test_a_tool_that_hangs_is_timed_out() -> None:
    result = await run_tool(Probe(asyncio.Event()), CALL, timeout=0.01)
    assert result.is_error
    assert result.result == "probe gave no result within 0.01 s"


async def test_cancelling_passes_through() -> None:
    task = asyncio.create_task(run_tool(Probe(asyncio.Event()), CALL))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_tools_by_name() -> None:
    tools = embedded_tools()
    assert [tool.name for tool in tools] == ["calculator", "docs_search"]
    calculator = tools.get("calculator")
    assert calculator is not None
    assert calculator.parameters["required"] == ["expression"]
    assert tools.get("nothing") is None
    assert "docs_search" in tools
    assert [tool.name for tool in tools.select(["docs_search", "unknown"])] == ["docs_search"]
    assert list(tools.select([])) == []
    assert tools.select(None) is tools
    with pytest.raises(ValueError, match="two tools are named 'probe'"):
        ToolRegistry([Probe(1), Probe(2)])
