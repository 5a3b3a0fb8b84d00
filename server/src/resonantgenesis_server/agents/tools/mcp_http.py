"""An MCP server elsewhere, over streamable HTTP."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping

import httpx2
from mcp.client.streamable_http import streamable_http_client

from ...model.limits import MIB
from .blocking import in_thread

#: Bytes of one message.
MAX_MESSAGE = 4 * MIB
_SECONDS = 30.0
#: How long a stream may be silent; the time limit of a call is the tool's.
_SILENCE_SECONDS = 3600.0
_PLAIN = {"Accept-Encoding": "identity"}


@contextlib.asynccontextmanager
async def http_transport(
    url: str, headers: Mapping[str, str]
) -> AsyncIterator[tuple[object, object]]:
    """The session's streams for the length of the block; every message is bounded."""
    inner = await in_thread(httpx2.AsyncHTTPTransport, "mcp reads certificates")
    timeout = httpx2.Timeout(_SECONDS, read=_SILENCE_SECONDS)
    async with (
        httpx2.AsyncClient(
            headers={**_PLAIN, **headers}, timeout=timeout, transport=_Bounded(inner)
        ) as client,
        streamable_http_client(url, http_client=client, max_sse_event_size=MAX_MESSAGE) as streams,
    ):
        yield streams


class _Bounded(httpx2.AsyncBaseTransport):
    """Ends answers that are one message and too long; the library bounds the events of a stream."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
        if not is_stream and isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _BoundedStream(response.stream)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._inner:
            size += len(chunk)
            if size > MAX_MESSAGE:
                raise httpx2.ReadError(f"a message of over {MAX_MESSAGE} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()
