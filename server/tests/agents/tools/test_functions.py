from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field
from resonantgenesis_server.agents.tools.base import (
    NO_CONTEXT,
    ToolBounds,
    ToolContext,
    ToolError,
    approval_of,
    run_tool,
)
from resonantgenesis_server.agents.tools.functions import FunctionTool, ToolLoadError, load_tool
from resonantgenesis_server.model.chunks import ToolCall

pytestmark = pytest.mark.anyio


class Place(BaseModel):
    city: str
    country: str = "IS"


@dataclass
class Report:
    place: Place
    day: date
    unit: str


def weather(
    place: Place,
    day: date,
    unit: Literal["c", "f"] = "c",
    days: Annotated[int, Field(ge=1, le=7)] = 3,
) -> Report:
    """The weather of a place.

    Args:
        place: Where.
        day: The first day,
            in ISO 8601.
        unit (str): Celsius or Fahrenheit.

    Returns:
        What is expected.
    """
    return Report(place, day, unit)


def test_the_signature_and_the_docstring_are_the_schema() -> None:
    tool = FunctionTool("weather", weather)
    assert (tool.name, tool.description) == ("weather", "The weather of a place.")
    properties = tool.parameters["properties"]
    assert tool.parameters["type"] == "object"
    assert tool.parameters["required"] == ["place", "day"]
    assert tool.parameters["additionalProperties"] is False
    assert properties["place"] == {"$ref": "#/$defs/Place", "description": "Where."}
    assert tool.parameters["$defs"]["Place"]["required"] == ["city"]
    assert properties["day"]["format"] == "date"
    assert properties["day"]["description"] == "The first day, in ISO 8601."
    assert properties["unit"]["enum"] == ["c", "f"]
    assert properties["unit"]["default"] == "c"
    assert properties["days"] == {"type": "integer", "minimum": 1, "maximum": 7, "default": 3}


def test_whether_its_calls_need_an_approval_is_known_before_them() -> None:
    def pay(amount: int) -> str:
        return f"paid {amount}"

    tool = FunctionTool("pay", pay)
    assert approval_of(tool, ToolBounds()) is False
    assert approval_of(tool, ToolBounds(approvals=["pay"])) is True
    pay.needs_approval = lambda args: args["amount"] > 100  # type: ignore[attr-defined]
    assert approval_of(FunctionTool("pay", pay), ToolBounds()) is None


async def test_arguments_become_the_types_of_the_signature_and_the_result_becomes_json() -> None:
    tool = FunctionTool("weather", weather)
    result = await tool.call({"place": {"city": "Vik"}, "day": "2026-07-03"}, NO_CONTEXT)
    place = {"city": "Vik", "country": "IS"}
    assert result == {"place": place, "day": "2026-07-03", "unit": "c"}


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({}, "place: Field required; day: Field required"),
        ({"place": {}, "day": "2026-07-03"}, "place.city: Field required"),
        ({"place": {"city": "x"}, "day": "soon"}, "day: "),
        ({"place": {"city": "x"}, "day": "2026-07-03", "days": 8}, "days: "),
        ({"place": {"city": "x"}, "day": "2026-07-03", "daze": 1}, "daze: Extra inputs"),
    ],
)
async def test_wrong_arguments_are_named(args: dict[str, Any], says: str) -> None:
    with pytest.raises(ToolError, match="weather was called with wrong arguments") as raised:
        await FunctionTool("weather", weather).call(args, NO_CONTEXT)
    assert says in str(raised.value)


async def test_odd_parameters() -> None:
    def odd(self: int, /, model_config: str, *, class_: int = 1, json: bool = False) -> list[Any]:
        return [self, model_config, class_, json]

    tool = FunctionTool("odd", odd)
    assert list(tool.parameters["properties"]) == ["self", "model_config", "class_", "json"]
    assert await tool.call({"self": 5, "model_config": "m", "json": True}, NO_CONTEXT) == [
        5,
        "m",
        1,
        True,
    ]


async def test_a_plain_function_runs_in_a_thread_of_its_own() -> None:
    tool = FunctionTool("name", lambda: threading.current_thread().name)
    assert tool.description == "name"
    assert await tool.call({}, NO_CONTEXT) == "tool name"


async def test_an_async_function_runs_on_the_loop() -> None:
    async def where() -> bool:
        return threading.current_thread() is threading.main_thread()

    assert await FunctionTool("where", where).call({}, NO_CONTEXT) is True


async def test_a_plain_function_that_returns_something_async() -> None:
    def decorated(function: Callable[[], Awaitable[str]]) -> Callable[[], Awaitable[str]]:
        @functools.wraps(function)
        def call() -> Awaitable[str]:
            return function()

        return call

    @decorated
    async def later() -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name

    assert await FunctionTool("later", later).call({}, NO_CONTEXT) == "MainThread"


async def test_the_context_is_given_and_no_argument() -> None:
    def who(greeting: str, turn: ToolContext) -> str:
        return f"{greeting} {turn.subject} of {turn.session_id}"

    tool = FunctionTool("who", who)
    assert list(tool.parameters["properties"]) == ["greeting"]
    context = ToolContext(session_id="sess_1", subject="ann")
    assert await tool.call({"greeting": "hello"}, context) == "hello ann of sess_1"
    with pytest.raises(ToolError, match="turn: Extra inputs"):
        await tool.call({"greeting": "hello", "turn": {}}, context)


async def test_what_can_be_called_can_be_a_tool() -> None:
    class Adder:
        """Adds to what it was made with."""

        def __init__(self, start: int) -> None:
            self.start = start

        def __call__(self, n: int) -> int:
            """Adds.

            :param n: what is added
            """
            return self.start + n

        async def later(self, n: int) -> int:
            return self.start + n

    for function in (Adder(1), Adder(1).later, functools.partial(Adder(0).later, 2)):
        tool = FunctionTool("adder", function)
        args = {"n": 1} if tool.parameters.get("required") else {}
        assert await tool.call(args, NO_CONTEXT) == 2
    properties = FunctionTool("adder", Adder(1)).parameters["properties"]
    assert properties["n"]["description"] == "what is added"


async def test_a_generator_gives_a_list() -> None:
    def numbers() -> Iterator[int]:
        yield from (1, 2)

    assert await FunctionTool("numbers", numbers).call({}, NO_CONTEXT) == [1, 2]


async def test_its_own_errors_and_others() -> None:
    def told() -> None:
        raise ToolError("no such city")

    def failing() -> None:
        raise KeyError("secret")

    async def leaving() -> None:
        raise SystemExit

    def no_json() -> object:
        return object()

    for function, says in (
        (told, "no such city"),
        (failing, "failing failed"),
        (leaving, "leaving failed"),
        (no_json, "the result of no_json has no JSON form"),
    ):
        name = function.__name__
        result = await run_tool(FunctionTool(name, function), ToolCall(name, {}, "1"))
        assert result.is_error
        assert str(result.result).startswith(says)


async def test_one_that_hangs_is_left_and_ended() -> None:
    cancelled = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    call = ToolCall("hang", {}, "1")
    result = await run_tool(FunctionTool("hang", hang), call, timeout=0.01)
    assert result.result == "hang gave no result within 0.01 s"
    assert cancelled.is_set()


async def test_one_that_hangs_in_a_thread_is_left() -> None:
    release, ended = threading.Event(), threading.Event()

    def hang() -> None:
        release.wait(10)
        ended.set()

    call = ToolCall("hang", {}, "1")
    result = await run_tool(FunctionTool("hang", hang), call, timeout=0.01)
    assert result.result == "hang gave no result within 0.01 s"
    release.set()
    assert await asyncio.to_thread(ended.wait, 10)


async def test_one_that_ignores_its_cancellation_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("resonantgenesis_server.agents.tools.functions._GRACE", 0.01)
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    tool = FunctionTool("stubborn", stubborn)
    result = await run_tool(tool, ToolCall("stubborn", {}, "1"), timeout=0.01)
    assert result.result == "stubborn gave no result within 0.01 s"
    await tool.close()  # does not wait for ever either
    release.set()


async def test_a_cancellation_of_its_own_is_a_failure() -> None:
    async def cancels() -> None:
        raise asyncio.CancelledError

    result = await run_tool(FunctionTool("cancels", cancels), ToolCall("cancels", {}, "1"))
    assert (result.result, result.is_error) == ("cancels failed", True)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda *args: args, r"\*args has no schema"),
        (lambda **more: more, r"\*\*more has no schema"),
        (int, "its signature cannot be read"),
    ],
)
def test_signatures_without_a_schema(function: Callable[..., Any], says: str) -> None:
    with pytest.raises(ToolLoadError, match=says):
        FunctionTool("f", function)


def test_types_without_a_schema() -> None:
    def lock(it: threading.Event) -> None: ...

    def unknown(it: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    async def items() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(ToolLoadError, match="has no JSON Schema"):
        FunctionTool("lock", lock)
    with pytest.raises(ToolLoadError, match="cannot be read: name 'Nowhere'"):
        FunctionTool("unknown", unknown)


async def test_a_function_of_a_module(workplace: Path) -> None:
    (workplace / "my_tools.py").write_text(
        "def double(n: int) -> int:\n    'Twice as much.'\n    return 2 * n\n"
    )
    tool = load_tool("twice", "my_tools:double")
    assert (tool.name, tool.description) == ("twice", "Twice as much.")
    assert await tool.call({"n": 4}, NO_CONTEXT) == 8


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("my_tools", "write it as MODULE:ATTRIBUTE"),
        ("nowhere_at_all:f", "no module 'nowhere_at_all'"),
        ("my_tools:missing", "'my_tools' has no attribute 'missing'"),
        ("my_tools:NUMBER", "a tool is a function, and this is a int"),
        ("my_tools:Kind", "a tool is a function, and this is a class"),
        ("my_tools:items", "returns its result, and this one yields"),
        ("broken_tools:f", "importing 'broken_tools' failed: ZeroDivisionError"),
    ],
)
def test_references_that_lead_to_no_tool(workplace: Path, reference: str, says: str) -> None:
    (workplace / "my_tools.py").write_text(
        "NUMBER = 5\nclass Kind: ...\nasync def items():\n    yield 1\n"
    )
    (workplace / "broken_tools.py").write_text("1 / 0\n")
    with pytest.raises(ToolLoadError, match=says) as raised:
        load_tool("x", reference)
    assert "\n" not in str(raised.value)
    assert "agent" not in str(raised.value).replace("my_agent", "")
