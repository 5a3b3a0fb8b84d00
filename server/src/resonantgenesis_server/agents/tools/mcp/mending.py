"""What MCP servers send that the library would refuse, mended before it is read.

The library holds a server to its schema to the letter. One block of an unknown kind, one tool
without a schema, or a result that misses the schema which the tool gave would cost the whole
answer. An agent is better served by what can be understood of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self

import mcp_types as types
from pydantic import TypeAdapter, ValidationError

_BLOCK: TypeAdapter[types.ContentBlock] = TypeAdapter(types.ContentBlock)
_NO_PARAMETERS = {"type": "object", "properties": {}}


@contextlib.asynccontextmanager
async def mended(transport: AbstractAsyncContextManager[Any]) -> AsyncIterator[tuple[Any, Any]]:
    """The streams of a transport; what comes in is mended."""
    async with transport as (incoming, outgoing):
        yield _Mended(incoming), outgoing


class _Mended:
    """A stream of messages, as the library reads it."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def receive(self) -> Any:
        return _mend(await self._inner.receive())

    async def aclose(self) -> None:
        await self._inner.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return _mend(await self._inner.__anext__())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    @property
    def last_context(self) -> Any:
        return getattr(self._inner, "last_context", None)


def _mend(item: Any) -> Any:
    """A message, its result mended in place; an exception of the transport as it is."""
    result = getattr(getattr(item, "message", None), "result", None)
    if isinstance(result, dict):
        if isinstance(tools := result.get("tools"), list):
            result["tools"] = [mend_tool(tool) for tool in tools]
        if isinstance(content := result.get("content"), list):
            result["content"] = [mend_block(block) for block in content]
        elif "content" not in result and "structuredContent" in result:
            result["content"] = []
    return item


def mend_tool(tool: Any) -> Any:
    """A tool of a list: its arguments are an object with properties, its results are not bound.

    Providers of models refuse an object without `properties`.
    """
    if not isinstance(tool, dict):
        return tool
    schema = tool.get("inputSchema")
    fields = schema if isinstance(schema, dict) else {}
    if not isinstance(fields.get("properties"), dict):
        fields = {name: value for name, value in fields.items() if name != "properties"}
    kept = {name: value for name, value in tool.items() if name != "outputSchema"}
    return kept | {"inputSchema": {**_NO_PARAMETERS, **fields, "type": "object"}}


def mend_block(block: Any) -> Any:
    """A block of a result; one that cannot be read is a text that says so."""
    try:
        _BLOCK.validate_python(block, by_name=False)
    except ValidationError:
        kind = block.get("type") if isinstance(block, dict) else None
        text = block.get("text") if isinstance(block, dict) else None
        if not isinstance(text, str):
            text = f"[{str(kind)[:64]}: not shown]"
        return {"type": "text", "text": text}
    return block
