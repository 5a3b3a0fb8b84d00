"""Agents in Python that call the server's tools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest
from resonantgenesis_server.agent_api import AgentChunk, ToolCall, ToolContext, ToolResult, Turn
from resonantgenesis_server.agents.base import StoredFile
from resonantgenesis_server.agents.engines.python import PythonAgent
from resonantgenesis_server.agents.tools.base import JsonValue
from resonantgenesis_server.agents.tools.calculator import Calculator
from resonantgenesis_server.agents.tools.toolbox import Toolbox

pytestmark = pytest.mark.anyio

CALL = ToolCall("calculator", {"expression": "6*7"}, "1")
RESULT = ToolResult("calculator", {"expression": "6*7", "result": 42}, "1")


class WhoAmI:
    name = "who"
    description = "For tests."
    parameters: Mapping[str, Any] = {"type": "object"}

    async def call(self, args: Mapping[str, Any], context: ToolContext) -> JsonValue:
        return [context.session_id, context.turn, context.agent_id, context.subject]


async def on_the_loop(turn: Turn) -> AsyncIterator[AgentChunk]:
    yield CALL
    yield await turn.toolbox.run(CALL)


def in_a_thread(turn: Turn) -> Iterator[AgentChunk]:
    yield CALL
    yield turn.toolbox.run_from_thread(CALL)


async def from_the_wrong_place(turn: Turn) -> AsyncIterator[AgentChunk]:
    turn.toolbox.run_from_thread(CALL)
    yield "never"


async def who(turn: Turn) -> AsyncIterator[AgentChunk]:
    yield await turn.toolbox.run(ToolCall("who"))


def turn_of(**fields: Any) -> Turn:
    return Turn(**{"goal": "g", "session_id": "sess_1", "turn": 2, "agent_id": "a", **fields})


async def chunks(function: Any, toolbox: Toolbox | None = None, **fields: Any) -> list[Any]:
    agent = PythonAgent("m:f", function, toolbox or Toolbox([Calculator(), WhoAmI()]))
    return [chunk async for chunk in agent.run(turn_of(**fields))]


@pytest.mark.parametrize("function", [on_the_loop, in_a_thread])
@pytest.mark.parametrize("tools", [None, ["calculator"], ["who", "calculator"]])
async def test_an_agent_calls_a_tool(function: Any, tools: list[str] | None) -> None:
    assert await chunks(function, tools=tools) == [CALL, RESULT]


@pytest.mark.parametrize("function", [on_the_loop, in_a_thread])
async def test_a_turn_has_only_the_tools_that_it_names(function: Any) -> None:
    _, result = await chunks(function, tools=["who"])
    said = "there is no tool 'calculator' here; there are: who"
    assert result == ToolResult("calculator", said, "1", is_error=True)


async def test_the_tool_knows_the_turn() -> None:
    (result,) = await chunks(who, subject="ann")
    assert result.result == ["sess_1", 2, "a", "ann"]


async def test_the_loop_is_not_blocked() -> None:
    with pytest.raises(RuntimeError, match="await run instead"):
        await chunks(from_the_wrong_place)


async def test_a_turn_outside_a_server_has_none() -> None:
    agent = PythonAgent("m:f", in_a_thread)
    _, result = [chunk async for chunk in agent.run(turn_of())]
    assert result == ToolResult("calculator", "this turn has no tools", "1", is_error=True)


async def test_a_turn_that_is_cancelled_ends_its_call() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    class Slow(WhoAmI):
        name = "calculator"

        async def call(self, args: Mapping[str, Any], context: ToolContext) -> JsonValue:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            return None

    turn = asyncio.create_task(chunks(on_the_loop, Toolbox([Slow()])))
    await began.wait()
    turn.cancel()
    await asyncio.wait({turn})
    assert turn.cancelled()
    assert ended.is_set()


async def test_a_tool_stores_files_where_its_turn_does() -> None:
    class Shelf:
        async def store(self, name: str, content: bytes, content_type: str | None = None) -> Any:
            return StoredFile("file_1", name, content_type or "text/csv", len(content), "00")

    class Report:
        name = "report"
        description = "For tests."
        parameters: Mapping[str, Any] = {"type": "object"}

        async def call(self, args: Mapping[str, Any], context: ToolContext) -> JsonValue:
            return (await context.files.store("report.csv", b"a,b")).as_result()

    async def reporting(turn: Turn) -> AsyncIterator[AgentChunk]:
        yield await turn.toolbox.run(ToolCall("report"))

    (result,) = await chunks(reporting, Toolbox([Report()]), files=Shelf())
    assert (result.result["file_id"], result.result["size"]) == ("file_1", 3)
    (refused,) = await chunks(reporting, Toolbox([Report()]))
    assert refused.is_error
