from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from resonantgenesis_server.agents.tools.base import (
    NO_CONTEXT,
    JsonValue,
    Tool,
    ToolBounds,
    ToolContext,
    ToolError,
)
from resonantgenesis_server.agents.tools.calculator import Calculator
from resonantgenesis_server.agents.tools.functions import FunctionTool, ToolLoadError
from resonantgenesis_server.agents.tools.opening import open_toolbox
from resonantgenesis_server.agents.tools.settings import ToolSettings
from resonantgenesis_server.agents.tools.toolbox import Toolbox
from resonantgenesis_server.agents.tools.web_search import WebSearch
from resonantgenesis_server.model.chunks import ToolCall
from resonantgenesis_server.model.errors import InvalidRequest

pytestmark = pytest.mark.anyio

BUILT_IN = ["calculator", "current_time", "docs_search", "fetch_url", "web_search"]
CHUNK = 256 * 1024


class Remote:
    description = "For tests."
    parameters: Mapping[str, Any] = {"type": "object"}

    def __init__(self, name: str) -> None:
        self.name = name

    async def call(self, args: Mapping[str, Any], context: ToolContext) -> JsonValue:
        return self.name


class Source:
    """A source with two tools, or one that is away, or one that never answers."""

    def __init__(self, name: str, away: str = "", hangs: bool = False) -> None:
        self.name = name
        self.asked = 0
        self._away, self._hangs = away, hangs

    async def tools(self) -> Sequence[Tool]:
        self.asked += 1
        if self._hangs:
            await asyncio.Event().wait()
        if self._away:
            raise ToolError(self._away)
        return [Remote(f"{self.name}__one"), Remote(f"{self.name}__two")]

    async def close(self) -> None:
        pass


@pytest.fixture
def box() -> Toolbox:
    return Toolbox(
        [Calculator(), WebSearch()],
        [Source("here"), Source("gone", away="gone is away")],
        ToolBounds(timeout=7, timeouts={"here__one": 8}),
    )


def names(tools: Any) -> list[str]:
    return [tool.name for tool in tools]


async def test_without_names_a_turn_gets_all_that_work(box: Toolbox) -> None:
    tools = await box.for_turn(None)
    assert names(tools) == ["calculator", "here__one", "here__two"]
    assert "set tools.search.provider" in tools.problems["web_search"]


async def test_with_names_a_turn_gets_those(box: Toolbox) -> None:
    assert names(await box.for_turn(["calculator", "here__two"])) == ["calculator", "here__two"]
    assert names(await box.for_turn(["here__*"])) == ["here__one", "here__two"]
    assert names(await box.for_turn([])) == []
    assert names(await box.for_turn(["unknown", "other__x"])) == []


async def test_only_the_sources_that_are_named_are_asked() -> None:
    one, two = Source("one"), Source("two")
    box = Toolbox([Calculator()], [one, two])
    await box.for_turn(["calculator"])
    await box.for_turn(["one__one", "one__two"])
    await box.check(["calculator", "one__one"])
    assert (one.asked, two.asked) == (2, 0)


async def test_a_tool_whose_server_is_away_says_so_when_it_is_called(box: Toolbox) -> None:
    tools = await box.for_turn(["gone__any", "calculator"])
    assert names(tools) == ["calculator"]
    result = await tools.run(ToolCall("gone__any", {}, "1"), NO_CONTEXT)
    assert (result.result, result.is_error) == ("gone is away", True)
    result = await tools.run(ToolCall("calculator", {"expression": "1+1"}, "2"), NO_CONTEXT)
    assert result.result == {"expression": "1+1", "result": 2}


async def test_names_that_there_are(box: Toolbox) -> None:
    await box.check(["calculator", "here__one", "here__*", "gone__whatever", "gone__*"])
    await box.check([])


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (["nope"], "unknown: 'nope'; there are: calculator, web_search, here__*, gone__*"),
        (
            ["here__three", "calculator", "x" * 200],
            f"unknown: 'here__three', '{'x' * 64}'; there are: calculator, web_search, here__*,"
            " here__one, here__two, gone__*",
        ),
        (["nowhere__one"], "unknown: 'nowhere__one'"),
        (["nowhere__*"], "unknown: 'nowhere__*'"),
        (["web_search"], "web_search has no search service: set tools.search.provider"),
    ],
)
async def test_names_that_there_are_not(box: Toolbox, wanted: list[str], says: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        await box.check(wanted)
    assert says in raised.value.details["fields"]["tools"]


async def test_who_asks_about_tools_does_not_wait_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resonantgenesis_server.agents.tools.toolbox._PATIENCE", 0.01)
    box = Toolbox([Calculator()], [Source("slow", hangs=True)])
    await box.check(["slow__any"])
    listing = await box.listing()
    assert listing.unavailable == {"slow": "MCP server slow is still starting"}


async def test_the_list(box: Toolbox) -> None:
    def double(n: int) -> int:
        return 2 * n

    box = Toolbox(
        [Calculator(), WebSearch(), FunctionTool("double", double)],
        [Source("here"), Source("gone", away="gone is away")],
        ToolBounds(timeout=7, timeouts={"here__one": 8}),
    )
    listing = await box.listing()
    rows = [(t.tool.name, t.origin, t.server, t.timeout, bool(t.problem)) for t in listing.tools]
    assert rows == [
        ("calculator", "built-in", None, 7, False),
        ("web_search", "built-in", None, 7, True),
        ("double", "function", None, 7, False),
        ("here__one", "mcp", "here", 8, False),
        ("here__two", "mcp", "here", 7, False),
    ]
    assert listing.unavailable == {"gone": "gone is away"}


async def test_the_toolbox_of_the_settings(workplace: Path) -> None:
    (workplace / "own.py").write_text("def double(n: int) -> int:\n    return 2 * n\n")
    settings = ToolSettings(
        functions={"double": "own:double"}, timeout=9, timeouts={"fetch_url": 5}, max_result=2_000
    )
    async with open_toolbox(settings, CHUNK) as box:
        listing = await box.listing()
        assert [tool.tool.name for tool in listing.tools] == [*BUILT_IN, "double"]
        assert {tool.tool.name: tool.timeout for tool in listing.tools}["fetch_url"] == 5
        tools = await box.for_turn(["double"])
        assert (await tools.run(ToolCall("double", {"n": 2}, "1"), NO_CONTEXT)).result == 4


async def test_results_fit_into_a_chunk(workplace: Path) -> None:
    (workplace / "own.py").write_text("def long() -> str:\n    return 'x' * 100_000\n")
    settings = ToolSettings(functions={"long": "own:long"})
    for chunk, most in ((1024, 768), (CHUNK, 65_536)):
        async with open_toolbox(settings, chunk) as box:
            tools = await box.for_turn(["long"])
            result = await tools.run(ToolCall("long", {}, "1"), NO_CONTEXT)
            assert len(result.result) == most - 3  # quotes, and the line break in two letters


@pytest.mark.parametrize(
    ("functions", "says"),
    [
        ({"calculator": "os:getcwd"}, "the server has one of that name"),
        ({"x": "nowhere_at_all:f"}, "no module 'nowhere_at_all'"),
    ],
)
async def test_settings_that_cannot_be_opened(functions: dict[str, str], says: str) -> None:
    with pytest.raises(ToolLoadError, match=says):
        async with open_toolbox(ToolSettings(functions=functions), CHUNK):
            pass


async def test_mcp_servers_without_the_package_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "resonantgenesis_server.agents.tools.mcp.tools", raising=False)
    monkeypatch.setitem(sys.modules, "mcp_types", None)
    settings = ToolSettings.model_validate({"mcp": {"x": {"url": "http://127.0.0.1:1/mcp"}}})
    with pytest.raises(ToolLoadError, match=r"pip install 'resonantgenesis-server\[mcp\]'"):
        async with open_toolbox(settings, CHUNK):
            pass


@pytest.mark.parametrize(
    "server",
    [{}, {"command": ["x"], "url": "http://x"}, {"url": "ftp://x"}, {"url": "http://u:p@x/"}],
)
def test_what_is_no_mcp_server(server: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ToolSettings.model_validate({"mcp": {"x": server}})
    with pytest.raises(ValidationError):
        ToolSettings.model_validate({"mcp": {"a__b": {"command": ["x"]}}})
