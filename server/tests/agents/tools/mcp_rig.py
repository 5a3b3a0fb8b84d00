"""MCP servers for tests, and what is left of their processes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from resonantgenesis_server.agents.tools.base import NO_CONTEXT
from resonantgenesis_server.agents.tools.mcp.server import McpServer
from resonantgenesis_server.agents.tools.mcp.tools import open_server
from resonantgenesis_server.agents.tools.opening import open_toolbox
from resonantgenesis_server.agents.tools.settings import McpSettings, ToolSettings
from resonantgenesis_server.agents.tools.toolbox import Toolbox
from resonantgenesis_server.model.chunks import ToolCall, ToolResult

SUPPORT = Path(__file__).parents[4] / "tests" / "support"
SDK_SERVER = [sys.executable, str(SUPPORT / "mcp_server.py")]


@asynccontextmanager
async def http_server(
    port: int = 0, *, older: bool = False
) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """A server of the SDK over streamable HTTP, or the older HTTP: its address and its process."""
    mode, path = ("--sse", "sse") if older else ("--http", "mcp")
    process = await asyncio.create_subprocess_exec(
        *SDK_SERVER,
        mode,
        str(port),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        port = int(await asyncio.wait_for(process.stdout.readline(), 30))
        yield f"http://127.0.0.1:{port}/{path}", process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Rig:
    """A toolbox with one MCP server, `s`."""

    def __init__(self, box: Toolbox) -> None:
        self.box = box

    async def names(self) -> list[str]:
        return [tool.name for tool in await self.box.for_turn(["s__*"])]

    async def call(self, tool: str, **args: Any) -> ToolResult:
        tools = await self.box.for_turn([f"s__{tool}"])
        return await tools.run(ToolCall(f"s__{tool}", args, "1"), NO_CONTEXT)


@asynccontextmanager
async def open_rig(settings: dict[str, Any], **tools: Any) -> AsyncIterator[Rig]:
    made = ToolSettings.model_validate({"mcp": {"s": settings}, **tools})
    async with open_toolbox(made, 256 * 1024) as box:
        yield Rig(box)


def tiny(mode: str, starts: Path, **more: Any) -> dict[str, Any]:
    """Settings of a server without a library; its starts are written to `starts`."""
    command = [sys.executable, str(SUPPORT / "mcp_tiny.py"), mode, str(starts)]
    return {"command": command, **more}


def tiny_server(mode: str, starts: Path, clock: Any) -> McpServer:
    """The same by itself, with a clock of the test."""
    settings = McpSettings.model_validate(tiny(mode, starts))
    server = open_server("s", settings)._server
    server._clock = clock
    return server


def started(starts: Path) -> list[list[int]]:
    """The process ids of each start, the server's first."""
    if not starts.exists():
        return []
    return [[int(pid) for pid in line.split()] for line in starts.read_text().splitlines()]


def is_alive(pid: int) -> bool:
    """Whether it runs; one that has ended may wait for ever to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def server_of(rig: Rig) -> McpServer:
    (source,) = rig.box._sources.values()
    server: McpServer = source._server  # type: ignore[attr-defined]
    return server


async def ended(server: McpServer) -> None:
    """Waits until the connection of now is over."""
    assert server._connection is not None
    await asyncio.wait_for(asyncio.wait({server._connection._task}), 10)


async def dies(pid: int) -> None:
    """Waits until a process that was killed is gone."""
    async with asyncio.timeout(10):
        while is_alive(pid):
            await asyncio.sleep(0.005)
