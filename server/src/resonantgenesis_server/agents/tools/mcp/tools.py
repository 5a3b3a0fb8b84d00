"""The tools of MCP servers, named SERVER__TOOL, and what their answers mean to an agent.

The library holds a server to its schema to the letter: one block of an unknown kind, one tool
without a schema, or one result that misses the schema of its tool would cost the whole answer.
An agent is better served by the part that can be understood. So answers are mended before the
library reads them.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self

import mcp_types as types
from pydantic import TypeAdapter, ValidationError

from ....codec.json import NotJson, dumps
from ....model.limits import KIB
from ..base import SEPARATOR, JsonValue, ToolContext, ToolError
from ..images import read_image
from ..settings import McpSettings
from .server import McpServer
from .transports import http_transport, stdio_transport

_MAX_NAME = 64
_MAX_DESCRIPTION = 1_024
_MAX_SCHEMA = 32 * KIB
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")

_BLOCK: TypeAdapter[types.ContentBlock] = TypeAdapter(types.ContentBlock)
_NO_PARAMETERS = {"type": "object", "properties": {}}


def open_server(name: str, settings: McpSettings) -> McpTools:
    """The tools of the server in the settings. The server is not started yet."""
    if settings.command:
        env = {key: value.get_secret_value() for key, value in settings.env.items()}
        command = settings.command

        def connect(ended: Callable[[], None], lost: Callable[[], None]) -> Any:
            return mended(stdio_transport(name, command, env, settings.cwd, ended))

    else:
        headers = {key: value.get_secret_value() for key, value in settings.headers.items()}

        def connect(ended: Callable[[], None], lost: Callable[[], None]) -> Any:
            return mended(http_transport(settings.url or "", headers, lost))

    return McpTools(McpServer(name, connect, start_seconds=settings.start_timeout))


class McpTools:
    """The tools of one server, as a source."""

    def __init__(self, server: McpServer) -> None:
        self.name = server.name
        self._server = server

    async def tools(self) -> list[McpTool]:
        """The tools of the server now; starts the server. Raises `ToolError`.

        A tool whose schema is too large for a model is left out.
        """
        tools: dict[str, McpTool] = {}
        for tool in await self._server.tools():
            made = McpTool(self._server, tool)
            if _is_sound(made.parameters):
                tools.setdefault(made.name, made)
        return list(tools.values())

    async def close(self) -> None:
        """End the server, and all that it started in its process group."""
        await self._server.close()


class McpTool:
    """One tool of a server. Its result becomes JSON or text."""

    def __init__(self, server: McpServer, tool: types.Tool) -> None:
        self.name = tool_name(server.name, tool.name)
        self.description = (tool.description or tool.title or tool.name)[:_MAX_DESCRIPTION]
        self.parameters: Mapping[str, Any] = tool.input_schema
        self._server = server
        self._tool = tool.name

    async def call(self, args: Mapping[str, Any], context: ToolContext) -> JsonValue:
        """The structured result, else the texts; both, where the texts say something else.

        Images go to the context. Raises `ToolError`.
        """
        result = await self._server.call(self._tool, dict(args), context.progress)
        for data in _images(result):
            if (image := read_image(data)) is not None:
                context.show_image(image)
        text = _text(result)
        if result.is_error:
            raise ToolError(text or f"{self.name} failed")
        structured = result.structured_content
        if structured is None:
            return text
        value: JsonValue = structured
        if isinstance(structured, dict) and set(structured) == {"result"}:
            value = structured["result"]  # servers wrap a value that is no object
        if not text or _says_the_same(text, structured, value):
            return value
        return {"text": text, "structured": value}


def _says_the_same(text: str, *values: JsonValue) -> bool:
    """Whether the text repeats one of the values, plainly or as JSON, for clients that read text.

    A list may come as one block per item.
    """
    lines = [_loads(line) for line in text.splitlines()]
    return _loads(text) in values or any(lines == value for value in values)


def _loads(line: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(line)
    except ValueError:
        return line
    return value


def tool_name(server: str, tool: str) -> str:
    """SERVER__TOOL in the letters that model providers allow; a cut name ends in a digest."""
    name = _NOT_IN_NAMES.sub("_", f"{server}{SEPARATOR}{tool}")
    if len(name) <= _MAX_NAME and name.endswith(tool):
        return name
    digest = hashlib.sha256(tool.encode()).hexdigest()[:8]
    return f"{name[: _MAX_NAME - 9]}_{digest}"


def _is_sound(schema: Mapping[str, Any]) -> bool:
    try:
        return len(dumps(dict(schema))) <= _MAX_SCHEMA
    except NotJson:
        return False


def _images(result: types.CallToolResult) -> Iterator[str]:
    """The images of a result, as base64."""
    for block in result.content:
        if isinstance(block, types.ImageContent):
            yield block.data
        elif isinstance(block, types.EmbeddedResource):
            resource = block.resource
            if isinstance(resource, types.BlobResourceContents) and _is_image(resource.mime_type):
                yield resource.blob


def _is_image(mime_type: str | None) -> bool:
    return (mime_type or "").lower().startswith("image/")


def _text(result: types.CallToolResult) -> str:
    return "\n".join(_words(block) for block in result.content)


@functools.singledispatch
def _words(block: object) -> str:
    return f"[{type(block).__name__}: not shown]"


@_words.register
def _(block: types.TextContent) -> str:
    return block.text


@_words.register
def _(block: types.ImageContent) -> str:
    return f"[image, {block.mime_type}: not shown]"


@_words.register
def _(block: types.AudioContent) -> str:
    return f"[audio, {block.mime_type}: not shown]"


@_words.register
def _(block: types.ResourceLink) -> str:
    return f"[{block.name}]({block.uri})"


@_words.register
def _(block: types.EmbeddedResource) -> str:
    resource = block.resource
    if isinstance(resource, types.TextResourceContents):
        return resource.text
    return f"[{resource.uri}, {resource.mime_type or 'binary'}: not shown]"


@contextlib.asynccontextmanager
async def mended(transport: AbstractAsyncContextManager[Any]) -> AsyncIterator[tuple[Any, Any]]:
    """The streams of a transport; incoming messages are mended."""
    async with transport as (incoming, outgoing):
        yield _Mended(incoming), outgoing


class _Mended:
    """A stream of messages with the methods that the library calls."""

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
    """Mend the result of a message in place. Exceptions of the transport stay as they are."""
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
    """A listed tool whose arguments are an object with properties; its results have no schema.

    Model providers refuse an object without `properties`.
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
    """A block of a result; a text says so where the block cannot be read."""
    try:
        _BLOCK.validate_python(block, by_name=False)
    except ValidationError:
        kind = block.get("type") if isinstance(block, dict) else None
        text = block.get("text") if isinstance(block, dict) else None
        if not isinstance(text, str):
            text = f"[{str(kind)[:64]}: not shown]"
        return {"type": "text", "text": text}
    return block
