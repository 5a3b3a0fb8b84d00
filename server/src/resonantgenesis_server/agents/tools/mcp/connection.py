"""One connection to an MCP server, from its start to its end, in a task of its own.

The library wants a session entered and left by one task; calls may come from any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from importlib.metadata import version
from typing import Any

import mcp_types as types
import structlog
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

#: Opens what a session speaks over: a context manager of its two streams. It is given what to call
#: when they have ended by themselves, and when the server knows the session no more.
Connect = Callable[[Callable[[], None], Callable[[], None]], AbstractAsyncContextManager[Any]]
#: Called each time that a tool says it goes on.
Progress = Callable[[], None]

#: Tools, and pages of tools, that are taken from one server.
MAX_TOOLS = 512
_MAX_PAGES = 64
#: Seconds that a connection gets to end by itself.
_END_SECONDS = 6.0
_WORDS = 1_000

log_ = structlog.get_logger("resonantgenesis.tools")


class ConnectionFailed(Exception):
    """The server could not be started or reached, or is gone; the message says why."""


class SessionLost(ConnectionFailed):
    """The server knows the session no more: what was asked was not done, and may be asked anew."""


class ServerError(Exception):
    """The server answered with an error, or with what cannot be read; the message says which."""


class Connection:
    """A server that is being started, runs, or has ended.

    `ready` is waited for before anything else. `start_seconds` bounds the start.
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
        """It has ended, or is about to."""
        return self._ending.is_set() or self._task.done()

    async def ready(self) -> None:
        """Waits until the server has started. Raises ConnectionFailed."""
        await self._started.wait()
        self._running()

    async def list_tools(self) -> None:
        """Brings `tools` up to date. Raises ConnectionFailed."""
        self.stale = False
        try:
            self.tools = await _list_tools(self._running(), self._name)
        except (MCPError, ValidationError) as exc:
            self._check_session(exc)
            self.stale = True
            raise ConnectionFailed(f"it does not list its tools: {_words(exc)}") from exc

    async def call(
        self, tool: str, args: dict[str, Any], goes_on: Progress
    ) -> types.CallToolResult:
        """Raises ServerError and ConnectionFailed."""

        async def heard(progress: float, total: float | None, message: str | None) -> None:
            goes_on()

        try:
            return await self._running().call_tool(tool, args, progress_callback=heard)
        except MCPError as exc:
            self._check_session(exc)
            # The second is what the library says when the server knows the session no more.
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
        """Begin to end it."""
        self._ending.set()
        if not self._started.is_set():
            self._task.cancel()

    async def close(self) -> None:
        """End it; returns when the process, if it is one, is gone."""
        self.end()
        _, running = await asyncio.wait({self._task}, timeout=_END_SECONDS)
        if running:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=_END_SECONDS)

    def _running(self) -> Client:
        if self._client is None or self.is_over:
            raise ConnectionFailed(self.problem or "it has ended")
        return self._client

    # -- in the task -----------------------------------------------------------------------

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
        except Exception as exc:  # the library's, httpx2's or the system's, often in groups
            began = self._client is not None
            self.problem = "its connection failed" if began else "it cannot be started or reached"
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
            message_handler=self._heard,
        )

    async def _heard(self, message: object) -> None:
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
