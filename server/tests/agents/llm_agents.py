"""Agents on the provider of the tests, and tools for them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from resonantgenesis_server.agents.base import Turn
from resonantgenesis_server.agents.engines.llm.engine import LlmAgent, LlmEngine
from resonantgenesis_server.agents.engines.llm.models import Models
from resonantgenesis_server.agents.engines.llm.settings import LlmSettings
from resonantgenesis_server.agents.tools.base import (
    JsonValue,
    Tool,
    ToolBounds,
    ToolContext,
    ToolError,
)
from resonantgenesis_server.agents.tools.images import Image
from resonantgenesis_server.agents.tools.toolbox import Toolbox
from resonantgenesis_server.model.chunks import AgentChunk, Text, Usage
from support.models import FakeProvider

#: A pixel.
PNG = Image(
    "image/png",
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJg"
    "gg==",
)
_SAY: Mapping[str, Any] = {"type": "object", "properties": {"say": {"type": "string"}}}


class Echo:
    """Gives its arguments back, with the session it works for."""

    name = "echo"
    description = "Gives back what it is given."
    parameters = _SAY

    async def call(self, args: Mapping[str, Any], context: ToolContext) -> JsonValue:
        return {"args": dict(args), "session": context.session_id}


class Broken(Echo):
    name = "broken"

    async def call(self, args: Mapping[str, Any], context: ToolContext) -> JsonValue:
        raise ToolError("it is out of order")


class Crashing(Echo):
    name = "crashing"

    async def call(self, args: Mapping[str, Any], context: ToolContext) -> JsonValue:
        raise RuntimeError("a secret of the inside")


class Photo(Echo):
    """Gives so many images, as an MCP server would."""

    name = "photo"

    async def call(self, args: Mapping[str, Any], context: ToolContext) -> JsonValue:
        for _ in range(args.get("count", 1)):
            context.show_image(PNG)
        return "[image, image/png: not shown]"


class Hanging(Echo):
    """Never returns; says when it began and whether it was cancelled."""

    name = "hanging"

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def call(self, args: Mapping[str, Any], context: ToolContext) -> JsonValue:
        self.begun.set()
        try:
            return await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class Talk:
    """An engine on the provider; `agent` makes one whose model is `m`."""

    def __init__(self, provider: FakeProvider, *tools: Tool, **settings: Any) -> None:
        urls = {"local": provider.url, "anthropic": provider.url.removesuffix("/v1")}
        given = {"base_urls": urls, "api_keys": {"anthropic": "k"}, "retry_delay": 0.001}
        bounds = ToolBounds(timeout=settings.pop("tool_timeout", 30.0))
        self.engine = LlmEngine(
            Models(LlmSettings(**{**given, **settings})), Toolbox([Echo(), *tools], bounds=bounds)
        )

    def agent(self, model: str = "local:m", **options: Any) -> LlmAgent:
        return self.engine.build({"model": model, **options})

    async def run(self, turn: Turn, model: str = "local:m", **options: Any) -> list[AgentChunk]:
        """All chunks of a turn."""
        return [chunk async for chunk in self.agent(model, **options).run(turn)]


def text_of(chunks: list[AgentChunk]) -> str:
    return "".join(
        chunk if isinstance(chunk, str) else chunk.content
        for chunk in chunks
        if isinstance(chunk, str | Text)
    )


def usage_of(chunks: list[AgentChunk]) -> tuple[int, int]:
    told = [chunk for chunk in chunks if isinstance(chunk, Usage)]
    return sum(u.input_tokens for u in told), sum(u.output_tokens for u in told)


def without_usage(chunks: list[AgentChunk]) -> list[AgentChunk]:
    """The rest, with texts that then follow each other as one."""
    rest: list[AgentChunk] = []
    for chunk in chunks:
        if isinstance(chunk, str) and rest and isinstance(rest[-1], str):
            rest[-1] += chunk
        elif not isinstance(chunk, Usage):
            rest.append(chunk)
    return rest
