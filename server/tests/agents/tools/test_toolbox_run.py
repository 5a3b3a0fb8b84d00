"""Running a tool: what is bounded, and that an agent goes on whatever it does."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.agents.base import Turn
from resonantgenesis_server.agents.tools.base import (
    NO_CONTEXT,
    JsonValue,
    ToolBounds,
    ToolContext,
    ToolError,
    ToolRegistry,
    cut_text,
    run_tool,
)
from resonantgenesis_server.agents.tools.calculator import Calculator
from resonantgenesis_server.codec.json import dumps
from resonantgenesis_server.model.chunks import ToolCall, ToolResult

pytestmark = pytest.mark.anyio


class Gives:
    """A tool that gives this, or raises it."""

    name = "gives"
    description = "For tests."
    parameters: Mapping[str, Any] = {"type": "object"}

    def __init__(self, given: Any) -> None:
        self._given = given
        self.contexts: list[ToolContext] = []

    async def call(self, args: Mapping[str, Any], context: ToolContext) -> JsonValue:
        self.contexts.append(context)
        if isinstance(self._given, BaseException):
            raise self._given
        if isinstance(self._given, asyncio.Event):
            await self._given.wait()
        given: JsonValue = self._given
        return given


CALL = ToolCall("gives", {}, "call_1")


async def result_of(given: object, most: int = 1_000) -> ToolResult:
    return await run_tool(Gives(given), CALL, max_result=most)


@given(st.text(), st.integers(min_value=60, max_value=300))
def test_a_text_is_cut_to_the_bound(text: str, most: int) -> None:
    cut = cut_text(text, most)
    assert len(dumps(cut)) <= most
    if len(dumps(text)) <= most:
        assert cut == text
    else:
        kept, _, note = cut.rpartition("\n[cut: the whole has ")
        assert text.startswith(kept)
        assert note == f"{len(text)} characters]"


async def test_a_text_that_is_too_long_is_cut() -> None:
    result = await result_of("x" * 5_000)
    assert not result.is_error
    assert len(dumps(result.result)) == 1_000
    assert result.result.endswith("\n[cut: the whole has 5000 characters]")


async def test_the_longest_text_of_an_object_is_cut() -> None:
    result = await result_of({"url": "u" * 300, "text": "é" * 2_000, "length": 2_000})
    assert not result.is_error
    assert result.result["url"] == "u" * 300
    assert result.result["text"].endswith("\n[cut: the whole has 2000 characters]")
    assert 990 <= len(dumps(result.result)) <= 1_000


@pytest.mark.parametrize(
    "given_back", [["x" * 5_000], {"many": list(range(1_000))}, {str(n): "x" for n in range(500)}]
)
async def test_what_cannot_be_cut_is_an_error(given_back: object) -> None:
    result = await result_of(given_back)
    assert result.is_error
    assert "the result is too large" in result.result
    assert "at most 1000; ask for less" in result.result


@pytest.mark.parametrize("given_back", [{1, 2}, 2**70, object()])
async def test_what_is_no_json_is_an_error(given_back: object) -> None:
    result = await result_of(given_back)
    assert result.is_error
    assert "the result of gives has no JSON form" in result.result


async def test_a_long_error_is_cut() -> None:
    result = await result_of(ToolError("x" * 5_000))
    assert result.is_error
    assert len(dumps(result.result)) == 1_000


async def test_an_error_without_words_has_some() -> None:
    assert (await result_of(ToolError())).result == "gives failed"


async def test_a_timeout_inside_is_no_timeout_of_ours() -> None:
    result = await result_of(TimeoutError("inner"))
    assert (result.result, result.is_error) == ("gives failed", True)


async def test_a_cancellation_that_nobody_asked_for_is_a_failure() -> None:
    result = await result_of(asyncio.CancelledError())
    assert (result.result, result.is_error) == ("gives failed", True)


async def test_each_tool_has_its_time() -> None:
    bounds = ToolBounds(timeout=60, timeouts={"gives": 0.01})
    tools = ToolRegistry([Gives(asyncio.Event()), Calculator()], bounds)
    result = await tools.run(CALL, NO_CONTEXT)
    assert result.result == "gives gave no result within 0.01 s"
    assert (bounds.timeout_of("gives"), bounds.timeout_of("calculator")) == (0.01, 60)


async def test_each_result_is_bounded() -> None:
    tools = ToolRegistry([Gives("x" * 5_000)], ToolBounds(max_result=600))
    assert len(dumps((await tools.run(CALL, NO_CONTEXT)).result)) == 600


async def test_an_unknown_tool_is_an_error_that_names_the_known() -> None:
    tools = ToolRegistry([Calculator(), Gives(1)])
    result = await tools.run(ToolCall("nope", {}, "c"), NO_CONTEXT)
    assert result == ToolResult(
        "nope", "there is no tool 'nope' here; there are: calculator, gives", "c", is_error=True
    )


async def test_a_tool_that_cannot_be_had_says_why() -> None:
    tools = ToolRegistry([], problems={"s__t": "it is away", "s__u": "too"}).select(["s__t"])
    result = await tools.run(ToolCall("s__t", {}, "c"), NO_CONTEXT)
    assert (result.result, result.is_error) == ("it is away", True)
    assert tools.problems == {"s__t": "it is away"}


async def test_a_tool_knows_the_turn() -> None:
    tool = Gives(None)
    turn = Turn(
        "goal", "sess_1", 3, "agent", {"user": "ann"}, subject="ann", metadata={"plan": "free"}
    )
    await ToolRegistry([tool]).run(CALL, ToolContext.of(turn))
    context = ToolContext("sess_1", 3, "agent", "ann", {"user": "ann"}, {"plan": "free"})
    assert tool.contexts == [context]
