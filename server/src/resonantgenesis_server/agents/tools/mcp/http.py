"""An MCP server elsewhere, over streamable HTTP."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

import httpx2
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from ....model.limits import MIB
from ..blocking import in_thread

#: Bytes of one message.
MAX_MESSAGE = 4 * MIB
_SECONDS = 30.0
#: How long a stream may be silent; the time limit of a call is the tool's.
_SILENCE_SECONDS = 3600.0
#: What a server answers for a session that it does not know, and where a request names its own.
_NOT_FOUND, _SESSION = 404, "mcp-session-id"
_PLAIN = {"Accept-Encoding": "identity"}


@contextlib.asynccontextmanager
async def http_transport(
    url: str, headers: Mapping[str, str], lost: Callable[[], None]
) -> AsyncIterator[tuple[object, object]]:
    """The session's streams for the length of the block; every message is bounded.

    `lost` is called when the server knows the session no more, as after a restart. A server that
    takes no POST at the address speaks the older transport, with server-sent events.
    """
    tls = await in_thread(httpx2.create_ssl_context, "mcp reads certificates")
    all_headers = {**_PLAIN, **headers}

    def client(
        headers: dict[str, str] | None = None,
        timeout: httpx2.Timeout | None = None,
        auth: httpx2.Auth | None = None,
    ) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            headers=all_headers | (headers or {}),
            timeout=httpx2.Timeout(_SECONDS, read=_SILENCE_SECONDS),
            transport=_Bounded(httpx2.AsyncHTTPTransport(verify=tls), lost),
            auth=auth,
        )

    if await _is_older(client(), url):
        async with sse_client(url, httpx_client_factory=client) as streams:
            yield streams
        return
    async with (
        client() as http,
        streamable_http_client(url, http_client=http, max_sse_event_size=MAX_MESSAGE) as streams,
    ):
        yield streams


async def _is_older(http: httpx2.AsyncClient, url: str) -> bool:
    """Whether a POST is refused where a GET gives events (MCP 2025-03-26, transports,
    backwards compatibility)."""
    ping = {"jsonrpc": "2.0", "id": "probe", "method": "ping"}
    accept = {"Accept": "application/json, text/event-stream"}
    async with http:
        async with http.stream("POST", url, json=ping, headers=accept) as answer:
            if answer.status_code not in (404, 405):
                return False
        async with http.stream("GET", url, headers={"Accept": "text/event-stream"}) as answer:
            kind = answer.headers.get("content-type", "")
            return answer.is_success and kind.startswith("text/event-stream")


class _Bounded(httpx2.AsyncBaseTransport):
    """Ends answers that are one message and too long; the library bounds the events of a stream.

    Tells when the server knows the session no more.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport, lost: Callable[[], None]) -> None:
        self._inner = inner
        self._lost = lost

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        if response.status_code == _NOT_FOUND and _SESSION in request.headers:
            self._lost()
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
