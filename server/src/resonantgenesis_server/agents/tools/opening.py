"""The toolbox of the configuration, opened and closed."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import AsyncIterator, Callable
from typing import cast

from ...model.extras import how_to_install
from .base import Tool, ToolBounds, ToolSource
from .calculator import Calculator
from .current_time import CurrentTime
from .docs_search import DocsSearch
from .fetch.url import fetch_tool
from .functions import FunctionTool, ToolLoadError, load_tool
from .settings import AllowedHost, McpSettings, SearchSettings, ToolSettings
from .toolbox import Toolbox
from .web_search import WebSearch


@contextlib.asynccontextmanager
async def open_toolbox(settings: ToolSettings, max_chunk: int) -> AsyncIterator[Toolbox]:
    """The tools of the settings. MCP servers are started at need, and ended afterwards.

    Results fit into a chunk of `max_chunk` bytes. Raises `ToolLoadError`.
    """
    fetch = fetch_tool(
        [AllowedHost.parse(host) for host in settings.fetch.allow_hosts], settings.fetch.max_bytes
    )
    search = _search(settings.search)
    built_in: list[Tool] = [Calculator(), CurrentTime(), DocsSearch(), fetch, search]
    functions = _functions(settings, {tool.name for tool in built_in})
    sources = _sources(settings.mcp)
    bounds = ToolBounds(
        settings.timeout,
        settings.timeouts,
        min(settings.max_result, max_chunk * 3 // 4),
        settings.approvals,
    )
    try:
        yield Toolbox([*built_in, *functions], sources, bounds)
    finally:
        await asyncio.gather(fetch.close(), search.close(), *(f.close() for f in functions))
        await asyncio.gather(*(source.close() for source in sources))


def _search(settings: SearchSettings) -> WebSearch:
    key = settings.api_key
    return WebSearch(
        settings.provider, settings.url, None if key is None else key.get_secret_value()
    )


def _functions(settings: ToolSettings, taken: set[str]) -> list[FunctionTool]:
    for name in settings.functions:
        if name in taken:
            raise ToolLoadError(f"tool {name}: the server has one of that name; choose another")
    return [load_tool(name, reference) for name, reference in settings.functions.items()]


def _sources(servers: dict[str, McpSettings]) -> list[ToolSource]:
    """Import the MCP client, an extra, only if there are servers."""
    if not servers:
        return []
    try:
        module = importlib.import_module(".mcp.tools", __package__)
    except ModuleNotFoundError as exc:
        raise ToolLoadError(
            f"MCP servers need the package {exc.name!r}: {how_to_install('mcp')}"
        ) from exc
    open_server = cast("Callable[[str, McpSettings], ToolSource]", module.open_server)
    return [open_server(name, given) for name, given in servers.items()]
