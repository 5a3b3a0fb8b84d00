"""MCP servers that fail in every way: what callers are told, and what is left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from pathlib import Path

import pytest
import uvloop
from mcp_rig import dies, ended, is_alive, open_rig, server_of, started, tiny, tiny_server
from resonantgenesis_server.agents.tools.base import ToolError
from resonantgenesis_server.agents.tools.mcp.server import MAX_TOOLS

pytestmark = pytest.mark.anyio

STDIO = "resonantgenesis_server.agents.tools.mcp.transports"


@pytest.fixture
def starts(tmp_path: Path) -> Path:
    return tmp_path / "starts"


async def test_it_is_started_when_it_is_needed_and_once(starts: Path) -> None:
    async with open_rig(tiny("normal", starts)) as rig:
        await rig.box.for_turn(["calculator"])
        await rig.box.check(["calculator"])
        assert started(starts) == []
        results = await asyncio.gather(*(rig.call("say", text=str(n)) for n in range(20)))
        assert [result.result for result in results] == [str(n) for n in range(20)]
        ((pid,),) = started(starts)
        assert is_alive(pid)
    assert not is_alive(pid)


async def test_one_that_ends_while_nobody_calls_is_started_anew_unnoticed(starts: Path) -> None:
    async with open_rig(tiny("normal", starts)) as rig:
        assert (await rig.call("say", text="1")).result == "1"
        ((pid,),) = started(starts)
        os.kill(pid, signal.SIGKILL)
        await ended(server_of(rig))
        assert (await rig.call("say", text="2")).result == "2"
        assert len(started(starts)) == 2


async def test_one_that_ends_in_a_call_is_an_error_of_that_call(starts: Path) -> None:
    async with open_rig(tiny("normal", starts)) as rig:
        failed = await rig.call("end")
        assert failed.is_error
        assert failed.result == "MCP server s is not available: its connection ended"
        assert (await rig.call("say", text="2")).result == "2"


async def test_one_that_never_says_anything(starts: Path) -> None:
    async with open_rig(tiny("mute", starts, start_timeout=0.2)) as rig:
        failed = await rig.call("say", text="1")
        assert failed.is_error
        assert failed.result == "MCP server s is not available: it did not start within 0.2 s"
        await ended(server_of(rig))
        assert not any(is_alive(pid) for pids in started(starts) for pid in pids)


async def test_one_that_cannot_be_started() -> None:
    async with open_rig({"command": ["/nowhere/at/all"]}) as rig:
        listing = await rig.box.listing()
        said = "MCP server s is not available: it cannot be started or reached"
        assert listing.unavailable == {"s": said}
        assert "/nowhere" not in (await rig.call("say")).result


async def test_what_is_no_message_is_passed_over(starts: Path) -> None:
    async with open_rig(tiny("noisy", starts)) as rig:
        assert (await rig.call("say", text="1")).result == "1"


async def test_an_answer_that_is_none(starts: Path) -> None:
    async with open_rig(tiny("wrong", starts)) as rig:
        failed = await rig.call("say", text="1")
        assert failed.is_error
        assert failed.result.startswith("MCP server s: its answer cannot be read")
        assert len(started(starts)) == 1  # and it is not restarted for it


async def test_an_answer_without_end(starts: Path) -> None:
    async with open_rig(tiny("long", starts)) as rig:
        failed = await rig.call("say", text="1")
        assert failed.result == "MCP server s is not available: its connection ended"
        await ended(server_of(rig))
        assert not is_alive(started(starts)[0][0])


async def test_tools_without_end(starts: Path) -> None:
    async with open_rig(tiny("paged", starts)) as rig:
        names = await rig.names()
        assert len(names) == MAX_TOOLS
        assert names[-1] == "s__t25_11"


async def test_a_stop_ends_one_that_ignores_it(
    starts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{STDIO}._GRACE", 0.05)
    async with open_rig(tiny("stubborn", starts)) as rig:
        await rig.names()
    assert not is_alive(started(starts)[0][0])


async def test_a_stop_ends_what_the_server_has_started(starts: Path) -> None:
    async with open_rig(tiny("parent", starts)) as rig:
        await rig.names()
        ((pid, child),) = started(starts)
        assert is_alive(child)
    assert not is_alive(pid)
    await dies(child)


async def test_a_crash_ends_what_the_server_has_started(starts: Path) -> None:
    async with open_rig(tiny("parent", starts)) as rig:
        await rig.call("end")
        await ended(server_of(rig))
        ((_, child),) = started(starts)
        await dies(child)


async def test_a_stop_while_it_starts(starts: Path) -> None:
    async with open_rig(tiny("mute", starts)) as rig:
        asking = asyncio.create_task(rig.names())
        async with asyncio.timeout(10):
            while not started(starts):
                await asyncio.sleep(0.01)
    await asyncio.wait({asking})
    assert not any(is_alive(pid) for pids in started(starts) for pid in pids)


async def test_pauses_between_starts_grow_and_a_success_ends_them(
    starts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    now = 1_000.0
    server = tiny_server("quits", starts, lambda: now)

    async def fails() -> str:
        with pytest.raises(ToolError) as raised:
            await server.tools()
        return str(raised.value)

    said = "MCP server s is not available: it cannot be started or reached"
    assert await fails() == said
    assert await fails() == f"{said}; it is tried again in 1 s"  # at once, and then a pause
    for pause in (1, 2, 4, 8, 16, 32, 60, 60):
        count = len(started(starts))
        now += pause - 0.01
        assert said in await fails()
        assert len(started(starts)) == count  # not even tried
        now += 0.02
        await fails()
        assert len(started(starts)) == count + 1
    await server.close()


async def test_a_success_ends_the_pauses(starts: Path) -> None:
    now = 1_000.0
    server = tiny_server("normal", starts, lambda: now)
    for _ in range(5):
        with pytest.raises(ToolError, match="its connection ended"):
            await server.call("end", {})
        now += 100
    assert not (await server.call("say", {"text": "x"})).is_error
    for _ in range(2):
        with pytest.raises(ToolError, match=r"its connection ended$"):
            await server.call("end", {})
        assert not (await server.call("say", {"text": "x"})).is_error
    await server.close()
    with pytest.raises(ToolError, match="is shut down"):
        await server.tools()


async def test_what_misses_its_schema_is_understood_as_far_as_it_can_be(starts: Path) -> None:
    async with open_rig(tiny("odd", starts)) as rig:
        tools = await rig.box.for_turn(["s__*"])
        assert [tool.name for tool in tools] == ["s__bare", "s__none", "s__null", "s__misfit"]
        for tool in tools:
            assert tool.parameters["type"] == "object"
            assert isinstance(tool.parameters["properties"], dict)
        results = {name: await rig.call(name) for name in ("bare", "none", "null", "misfit")}
    assert not any(result.is_error for result in results.values())
    assert results["bare"].result == {"text": "Three were found.", "structured": {"n": 3}}
    assert results["none"].result == {"n": 4}
    assert results["null"].result == (
        "before\n[hologram: not shown]\n[image: not shown]\n[None: not shown]\nafter"
    )
    assert results["misfit"].result == {"n": "many"}


def test_a_server_that_exits_at_once_leaves_no_exception_behind(
    starts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def ask() -> None:
        for command in (["true"], ["false"]):
            async with open_rig({"command": command}) as rig:
                for _ in range(3):
                    assert (await rig.call("say")).is_error
        gc.collect()

    uvloop.run(ask())  # whose pipes fail in another way than asyncio's own
    assert "never retrieved" not in caplog.text
