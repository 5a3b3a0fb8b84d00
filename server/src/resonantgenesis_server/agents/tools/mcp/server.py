"""An MCP server of the configuration: started when first needed, and again after it has failed."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import mcp_types as types
import structlog

from ..base import ToolError, no_progress
from .connection import Connect, Connection, ConnectionFailed, Progress, ServerError, SessionLost

#: Seconds after which the list of tools is asked for again.
_LIST_AGE = 60.0
#: Seconds of the first pause between two starts, and of the longest.
_FIRST_PAUSE = 1.0
_MAX_PAUSE = 60.0
#: Seconds in which a server that let a call hang must list its tools, or it is restarted.
_ALIVE_SECONDS = 5.0
#: Calls of one server under way at once; others wait.
_MAX_CALLS = 64

log_ = structlog.get_logger("resonantgenesis.tools")


class McpServer:
    """Keeps one connection at most.

    After a failure the next need starts it anew; after a second one in a row there is a pause,
    longer each time, in which it is said to be unavailable. To be closed.
    """

    def __init__(
        self,
        name: str,
        connect: Connect,
        *,
        start_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._connect = connect
        self._start_seconds = start_seconds
        self._clock = clock
        self._starting = asyncio.Lock()
        self._connection: Connection | None = None
        self._listed_at = 0.0
        self._failures = 0
        self._not_before = 0.0
        self._problem = ""
        self._calls = asyncio.Semaphore(_MAX_CALLS)
        self._check: asyncio.Task[None] | None = None
        self._closed = False

    async def tools(self) -> list[types.Tool]:
        """What the server offers, at most a minute old; starts it. Raises ToolError."""
        connection = await self._connected()
        if connection.stale or self._clock() - self._listed_at > _LIST_AGE:
            try:
                async with asyncio.timeout(self._start_seconds):
                    await connection.list_tools()
            except SessionLost:
                return (await self._connected()).tools
            except (ConnectionFailed, TimeoutError) as exc:
                self._lost(connection, str(exc) or "it does not list its tools in time")
                raise ToolError(self._unavailable()) from exc
            self._listed_at = self._clock()
        return connection.tools

    async def call(
        self, tool: str, args: dict[str, Any], progress: Progress = no_progress
    ) -> types.CallToolResult:
        """Calls a tool; starts the server. Raises ToolError.

        A server that knows the session no more gets a new one, and the call once more. Cancelled,
        it leaves behind a look at whether the server still lives.
        """
        async with self._calls:
            try:
                return await self._call(tool, args, progress)
            except SessionLost:
                return await self._call(tool, args, progress)

    async def _call(
        self, tool: str, args: dict[str, Any], progress: Progress
    ) -> types.CallToolResult:
        """Raises SessionLost where that is no failure of the server's, and ToolError."""
        connection = await self._connected()
        try:
            result = await connection.call(tool, args, progress)
        except asyncio.CancelledError:
            self._look_at(connection)
            raise
        except SessionLost as exc:
            if self._failures:
                self._lost(connection, str(exc))
                raise ToolError(self._unavailable()) from exc
            self._lost(connection, str(exc))
            raise
        except ConnectionFailed as exc:
            self._lost(connection, str(exc))
            raise ToolError(self._unavailable()) from exc
        except ServerError as exc:
            self._failures = 0
            raise ToolError(f"MCP server {self.name}: {exc}") from exc
        self._failures = 0
        return result

    async def close(self) -> None:
        self._closed = True
        if self._check is not None:
            self._check.cancel()
            await asyncio.wait({self._check})
        if self._connection is not None:
            await self._connection.close()

    # -- inside ----------------------------------------------------------------------------

    async def _connected(self) -> Connection:
        async with self._starting:
            connection = self._connection
            if connection is None or connection.is_over:
                connection = self._connection = await self._start(connection)
        try:
            await connection.ready()
        except ConnectionFailed as exc:
            self._lost(connection, str(exc))
            raise ToolError(self._unavailable()) from exc
        return connection

    async def _start(self, before: Connection | None) -> Connection:
        if before is not None and not self._problem:
            self._failed(before.problem or "it ended by itself")
        if self._clock() < self._not_before:
            raise ToolError(self._unavailable())
        if before is not None:
            await before.close()  # two at once might be in each other's way
        if self._closed:
            raise ToolError(f"MCP server {self.name} is shut down")
        self._problem = ""
        self._listed_at = self._clock()
        return Connection(self.name, self._connect, self._start_seconds)

    def _lost(self, connection: Connection, why: str) -> None:
        if connection is self._connection and not self._problem:
            connection.end()
            self._failed(why)

    def _failed(self, why: str) -> None:
        self._problem = why
        self._failures += 1
        if self._failures > 1:
            pause = min(_MAX_PAUSE, _FIRST_PAUSE * 2 ** min(self._failures - 2, 16))
            self._not_before = self._clock() + pause * random.uniform(0.75, 1.25)  # noqa: S311
        log_.warning("MCP server is lost", server=self.name, reason=why)

    def _unavailable(self) -> str:
        wait = self._not_before - self._clock()
        again = f"; it is tried again in {wait:.0f} s" if wait >= 1 else ""
        return f"MCP server {self.name} is not available: {self._problem}{again}"

    def _look_at(self, connection: Connection) -> None:
        if self._check is None or self._check.done():
            self._check = asyncio.create_task(self._look(connection))

    async def _look(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(_ALIVE_SECONDS):
                await connection.list_tools()
        except TimeoutError:
            self._lost(connection, "it does not answer")
        except ConnectionFailed as exc:
            self._lost(connection, str(exc))
