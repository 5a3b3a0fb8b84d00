"""An MCP server of the configuration: started when first needed, and again after it has failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from importlib.metadata import version
from typing import Any

import mcp_types as types
import structlog
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from ....background import Backoff
from ..base import ToolError, no_progress

#: Opens a transport: a context manager of its two streams. The arguments are called when the
#: streams have ended by themselves, and when the server no longer knows the session.
Connect = Callable[[Callable[[], None], Callable[[], None]], AbstractAsyncContextManager[Any]]
#: Called each time that a tool reports progress.
Progress = Callable[[], None]

#: Tools, and pages of tools, that are taken from one server.
MAX_TOOLS = 512
_MAX_PAGES = 64
#: Seconds that a connection gets to end by itself.
_END_SECONDS = 6.0
#: Characters of an error.
_WORDS = 1_000
#: Seconds after which the list of tools is asked for again.
_LIST_AGE = 60.0
#: Seconds of the first pause between two starts, and of the longest.
_FIRST_PAUSE, _MAX_PAUSE = 1.0, 60.0
#: Seconds in which a server that let a call hang must list its tools, or it is restarted.
_ALIVE_SECONDS = 5.0
#: Calls of one server under way at once; others wait.
_MAX_CALLS = 64

log_ = structlog.get_logger("resonantgenesis.tools")


class ConnectionFailed(Exception):
    """The server could not be started or reached, or is gone. The message says why."""


class SessionLost(ConnectionFailed):
    """The server no longer knows the session. It did nothing; the call may be repeated."""


class ServerError(Exception):
    """The server answered with an error, or its answer cannot be read. The message says which."""


class McpConnection:
    """One connection to an MCP server, from its start to its end, in a task of its own.

    The library wants a session entered and left by one task; calls may come from any task. Wait
    for `ready` first. `start_seconds` bounds the start.
    """

    def __init__(self, name: str, connect: Connect, start_seconds: float) -> None:
        #: The server has said that its tools have changed.
        self.stale = False
        self.tools: list[types.Tool] = []
        #: Why it failed, if it did.
        self.problem = ""
        self._session_lost = False
        self._name = name
        self._connect = connect
        self._start_seconds = start_seconds
        self._client: Client | None = None
        self._started = asyncio.Event()
        self._ending = asyncio.Event()
        self._task = asyncio.create_task(self._live(), name=f"MCP server {name}")

    @property
    def is_over(self) -> bool:
        """The connection has ended, or is about to."""
        return self._ending.is_set() or self._task.done()

    async def ready(self) -> None:
        """Wait until the server has started. Raises ConnectionFailed."""
        await self._started.wait()
        self._running()

    async def list_tools(self) -> None:
        """Bring `tools` up to date. Raises ConnectionFailed."""
        self.stale = False
        try:
            self.tools = await _list_tools(self._running(), self._name)
        except (MCPError, ValidationError) as exc:
            self._check_session(exc)
            self.stale = True
            raise ConnectionFailed(f"it does not list its tools: {_words(exc)}") from exc

    async def call(
        self, tool: str, args: dict[str, Any], on_progress: Progress
    ) -> types.CallToolResult:
        """Call a tool. Raises ServerError and ConnectionFailed."""

        async def report(progress: float, total: float | None, message: str | None) -> None:
            on_progress()

        try:
            return await self._running().call_tool(tool, args, progress_callback=report)
        except MCPError as exc:
            self._check_session(exc)
            # The library says "Session terminated" when the server no longer knows the session.
            if exc.code == types.CONNECTION_CLOSED or exc.message == "Session terminated":
                raise ConnectionFailed(self.problem or "its connection ended") from exc
            raise ServerError(_words(exc)) from exc
        except (ValidationError, RuntimeError) as exc:
            # RuntimeError: the result does not fit the schema that the server gave for it.
            raise ServerError(f"its answer cannot be read: {_words(exc)}") from exc

    def _check_session(self, error: Exception) -> None:
        """Raises SessionLost."""
        if self._session_lost:
            raise SessionLost("it was restarted") from error

    def _lose_session(self) -> None:
        self._session_lost = True
        self._ending.set()

    def end(self) -> None:
        """Begin to end the connection."""
        self._ending.set()
        if not self._started.is_set():
            self._task.cancel()

    async def close(self) -> None:
        """End the connection. Returns when the process, if there is one, is gone."""
        self.end()
        _, running = await asyncio.wait({self._task}, timeout=_END_SECONDS)
        if running:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=_END_SECONDS)

    def _running(self) -> Client:
        if self._client is None or self.is_over:
            raise ConnectionFailed(self.problem or "it has ended")
        return self._client

    async def _live(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(self._start_seconds):
                    client = await stack.enter_async_context(self._new_client())
                    self.tools = await _list_tools(client, self._name)
                self._client = client
                self._started.set()
                await self._ending.wait()
        except TimeoutError:
            self.problem = f"it did not start within {self._start_seconds:g} s"
        except Exception as exc:  # of the library, of httpx2 or of the system, often in groups
            had_started = self._client is not None
            self.problem = (
                "its connection failed" if had_started else "it cannot be started or reached"
            )
            log_.warning("MCP server failed", server=self._name, error=_words(exc))
        finally:
            self._ending.set()
            self._started.set()

    def _new_client(self) -> Client:
        return Client(
            self._connect(self._ending.set, self._lose_session),
            client_info=types.Implementation(
                name="resonantgenesis", version=version("resonantgenesis-server")
            ),
            message_handler=self._on_message,
        )

    async def _on_message(self, message: object) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self.stale = True


async def _list_tools(client: Client, name: str) -> list[types.Tool]:
    tools: list[types.Tool] = []
    cursor: str | None = None
    for _ in range(_MAX_PAGES):
        page = await client.list_tools(cursor=cursor, cache_mode="refresh")
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None or len(tools) > MAX_TOOLS:
            break
    if cursor is not None or len(tools) > MAX_TOOLS:
        log_.warning("MCP server with too many tools; some are left out", server=name)
    return tools[:MAX_TOOLS]


def _words(error: BaseException) -> str:
    """The innermost reason, in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    said = " ".join(str(error).split())[:_WORDS]
    return said or type(error).__name__


class McpServer:
    """A server of the settings, with one connection at most; `close` ends it.

    The first need starts the server, and the next need after a failure starts it again. From the
    second failure in a row there is a pause before each start, with back-off. Calls within the
    pause fail at once.
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
        self._connection: McpConnection | None = None
        self._listed_at = 0.0
        self._backoff = Backoff(_FIRST_PAUSE, _MAX_PAUSE)
        self._has_failed = False
        self._not_before = 0.0
        self._problem = ""
        self._calls = asyncio.Semaphore(_MAX_CALLS)
        self._check: asyncio.Task[None] | None = None
        self._closed = False

    async def tools(self) -> list[types.Tool]:
        """The tools of the server, at most a minute old. Starts the server. Raises ToolError."""
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
        """Call a tool. Starts the server. Raises ToolError.

        A server that no longer knows the session gets a new one, and the call is repeated once. A
        cancelled call leaves a check behind, whether the server still answers.
        """
        async with self._calls:
            try:
                return await self._call(tool, args, progress)
            except SessionLost:
                return await self._call(tool, args, progress)

    async def _call(
        self, tool: str, args: dict[str, Any], progress: Progress
    ) -> types.CallToolResult:
        """Raises SessionLost if the server had not failed before, and ToolError."""
        connection = await self._connected()
        try:
            result = await connection.call(tool, args, progress)
        except asyncio.CancelledError:
            self._begin_check(connection)
            raise
        except ConnectionFailed as exc:
            may_repeat = isinstance(exc, SessionLost) and not self._has_failed
            self._lost(connection, str(exc))
            if may_repeat:
                raise
            raise ToolError(self._unavailable()) from exc
        except ServerError as exc:
            self._succeeded()
            raise ToolError(f"MCP server {self.name}: {exc}") from exc
        self._succeeded()
        return result

    async def close(self) -> None:
        self._closed = True
        if self._check is not None:
            self._check.cancel()
            await asyncio.wait({self._check})
        if self._connection is not None:
            await self._connection.close()

    async def _connected(self) -> McpConnection:
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

    async def _start(self, before: McpConnection | None) -> McpConnection:
        if before is not None and not self._problem:
            self._failed(before.problem or "it ended by itself")
        if self._clock() < self._not_before:
            raise ToolError(self._unavailable())
        if before is not None:
            await before.close()  # two processes at once might disturb each other
        if self._closed:
            raise ToolError(f"MCP server {self.name} is shut down")
        self._problem = ""
        self._listed_at = self._clock()
        return McpConnection(self.name, self._connect, self._start_seconds)

    def _lost(self, connection: McpConnection, why: str) -> None:
        if connection is self._connection and not self._problem:
            connection.end()
            self._failed(why)

    def _failed(self, why: str) -> None:
        self._problem = why
        if self._has_failed:
            self._not_before = self._clock() + self._backoff.failed()
        self._has_failed = True
        log_.warning("MCP server is lost", server=self.name, reason=why)

    def _succeeded(self) -> None:
        self._has_failed = False
        self._backoff.succeeded()

    def _unavailable(self) -> str:
        wait = self._not_before - self._clock()
        again = f"; it is tried again in {wait:.0f} s" if wait >= 1 else ""
        return f"MCP server {self.name} is not available: {self._problem}{again}"

    def _begin_check(self, connection: McpConnection) -> None:
        if self._check is None or self._check.done():
            self._check = asyncio.create_task(self._check_alive(connection))

    async def _check_alive(self, connection: McpConnection) -> None:
        try:
            async with asyncio.timeout(_ALIVE_SECONDS):
                await connection.list_tools()
        except TimeoutError:
            self._lost(connection, "it does not answer")
        except ConnectionFailed as exc:
            self._lost(connection, str(exc))
