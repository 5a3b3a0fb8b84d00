"""Tools of a real MCP server, over stdio and over HTTP."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from mcp_rig import SDK_SERVER, Rig, http_server, is_alive, open_rig
from resonantgenesis_server.agents.tools.base import NO_CONTEXT, ToolBounds
from resonantgenesis_server.agents.tools.images import Image
from resonantgenesis_server.agents.tools.mcp.tools import tool_name
from resonantgenesis_server.model.chunks import ToolCall

pytestmark = pytest.mark.anyio

NAMES = (
    *("add", "about", "echo", "fail", "hang", "freeze", "crash", "large", "process", "picture"),
    *("variable", "grow", "steps", "photo"),
)


@pytest.fixture(params=["stdio", "http", "older"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    if request.param == "stdio":
        async with open_rig({"command": SDK_SERVER}) as made:
            yield made
        return
    older = request.param == "older"
    async with http_server(older=older) as (url, _), open_rig({"url": url}) as made:
        yield made


async def test_its_tools_can_be_called(rig: Rig) -> None:
    names = await rig.names()
    dotted = tool_name("s", "dotted.name")
    assert sorted(names) == sorted([*(f"s__{name}" for name in NAMES), dotted])
    tools = {tool.name: tool for tool in await rig.box.for_turn(None)}
    assert tools["s__add"].description == "Adds two numbers."
    assert tools["s__add"].parameters["required"] == ["a"]
    assert tools["s__add"].parameters["properties"]["b"]["default"] == 1

    async def result(tool: str, **args: Any) -> tuple[Any, bool]:
        called = await rig.call(tool, **args)
        return called.result, called.is_error

    assert await result("add", a=1, b=2) == (3, False)
    assert await result("about", topic="x") == ({"topic": "x", "known": True}, False)
    assert await result("echo", text="grün") == ("grün", False)
    assert await result(dotted.removeprefix("s__")) == ("dotted", False)
    assert await result("picture") == ("[image, image/png: not shown]", False)
    images: list[Image] = []
    context = replace(NO_CONTEXT, show_image=images.append)
    photos = await rig.box.for_turn(["s__photo", "s__picture"])
    shown = await photos.run(ToolCall("s__photo", {"media": "jpeg"}, "1"), context)
    assert shown.result == "a pixel\n[image, image/jpeg: not shown]"
    # Its first bytes tell what it is; what is none is told of only.
    await photos.run(ToolCall("s__picture", {}, "2"), context)
    assert [image.content_type for image in images] == ["image/png"]
    said, is_error = await result("fail", why="no such thing")
    assert is_error
    assert "no such thing" in said
    said, is_error = await result("add", a="many")
    assert is_error
    assert "valid integer" in said

    many = await asyncio.gather(*(rig.call("add", a=n, b=n) for n in range(50)))
    assert [called.result for called in many] == [2 * n for n in range(50)]

    long, is_error = await result("large", size=300_000)
    assert not is_error
    assert len(long) < 65_536
    assert long.endswith("[cut: the whole has 300000 characters]")
    # Over the bound of a message: the connection is given up, and made anew by the next call.
    said, is_error = await result("large", size=5_000_000)
    assert is_error
    assert "MCP server s is not available" in said
    assert await result("echo", text="again") == ("again", False)


async def test_tools_that_come_later_are_found(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "s__grown" not in await rig.names()
    await rig.call("grow")
    monkeypatch.setattr("resonantgenesis_server.agents.tools.mcp.server._LIST_AGE", -1)
    assert (await rig.call("grown")).result == "grown"


async def test_one_that_hangs_is_timed_out_and_the_others_go_on() -> None:
    timeouts = {"s__hang": 0.05}
    async with open_rig({"command": SDK_SERVER}, timeouts=timeouts) as rig:
        before = (await rig.call("process")).result["server"]
        hung = await rig.call("hang")
        assert hung.result == "s__hang gave no result within 0.05 s"
        after = (await rig.call("process")).result["server"]
        assert after == before


async def test_one_that_freezes_its_server_has_it_restarted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("resonantgenesis_server.agents.tools.mcp.server._ALIVE_SECONDS", 0.05)
    async with open_rig({"command": SDK_SERVER}, timeouts={"s__freeze": 0.05}) as rig:
        before = (await rig.call("process")).result["server"]
        frozen = await rig.call("freeze")
        assert frozen.result == "s__freeze gave no result within 0.05 s"
        (source,) = rig.box._sources.values()
        await source._server._check  # type: ignore[attr-defined]
        after = (await rig.call("process")).result["server"]
        assert after != before
        assert not is_alive(before)


async def test_a_crash_is_an_error_and_the_next_call_has_a_new_server() -> None:
    async with open_rig({"command": SDK_SERVER}) as rig:
        before = (await rig.call("process")).result["server"]
        crashed = await rig.call("crash")
        assert crashed.is_error
        assert crashed.result.startswith("MCP server s is not available: ")
        after = await rig.call("process")
        assert not after.is_error
        assert after.result["server"] != before


async def test_a_server_elsewhere_that_goes_and_comes_back() -> None:
    async with http_server() as (url, process), open_rig({"url": url}) as rig:
        assert (await rig.call("add", a=1)).result == 2
        process.kill()
        await process.wait()
        gone = await rig.call("add", a=1)
        assert gone.is_error
        assert gone.result.startswith("MCP server s is not available: ")
        listing = await rig.box.listing()
        assert "s" in listing.unavailable


async def test_it_gets_its_variables_and_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESONANTGENESIS_BOOTSTRAP_KEY", "a-secret-of-the-server")
    settings = {"command": SDK_SERVER, "env": {"OF_ITS_OWN": "given"}}
    async with open_rig(settings) as rig:
        assert (await rig.call("variable", name="OF_ITS_OWN")).result == "given"
        assert (await rig.call("variable", name="RESONANTGENESIS_BOOTSTRAP_KEY")).result == ""
        assert (await rig.call("variable", name="PATH")).result != ""


def test_names_fit_the_providers_of_models() -> None:
    assert tool_name("s", "read_file-2") == "s__read_file-2"
    names = {tool_name("s", tool) for tool in ("a.b", "a/b", "a b", "a_b", "x" * 100, "x" * 101)}
    assert len(names) == 6
    assert all(re.fullmatch(r"s__[A-Za-z0-9_-]{1,61}", name) for name in names)


async def test_a_server_that_was_restarted_has_a_new_session_and_the_call_repeated() -> None:
    async with http_server() as (url, process), open_rig({"url": url}) as rig:
        assert (await rig.call("add", a=1)).result == 2
        process.kill()
        await process.wait()
        async with http_server(int(url.split(":")[2].split("/")[0])):
            again = await asyncio.gather(*(rig.call("add", a=n) for n in range(5)))
            assert [(each.result, each.is_error) for each in again] == [
                (n + 1, False) for n in range(5)
            ]


async def test_a_tool_that_says_it_goes_on_has_its_time_anew(rig: Rig) -> None:
    names = await rig.box.for_turn(["s__steps"])
    names._bounds = ToolBounds(timeout=0.5)
    call = ToolCall("s__steps", {"count": 12, "pause": 0.1}, "1")
    assert (await names.run(call, NO_CONTEXT)).result == "done"
    call = ToolCall("s__steps", {"count": 1, "pause": 5.0}, "1")
    assert (await names.run(call, NO_CONTEXT)).result == "s__steps gave no result within 0.5 s"


async def test_a_tool_that_there_is_not_is_told_with_those_that_there_are(rig: Rig) -> None:
    missing = await rig.call("subtract", a=1)
    assert missing.is_error
    assert "'s__subtract'" in missing.result
    assert "s__add" in missing.result
