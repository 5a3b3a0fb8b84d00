"""Models of OpenAI-compatible servers, over aiohttp.

Its own and not a provider's library: what one delta costs here is a tenth of what it costs there
(ARCHITECTURE.md, "Models").
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping

import aiohttp

from .calls import Delta, ModelCall, ModelFailure
from .openai_errors import http_failure
from .openai_wire import ChatDecoder, request_body

_CONNECT_SECONDS = 10.0
#: Bytes read of a refusal.
_MAX_ERROR = 64 * 1024
#: Types of answers that are surely no stream; some servers name none for theirs.
_NO_STREAMS = frozenset({"application/json", "text/html", "text/plain"})


class OpenAIChatClient:
    """Chat completions of the server at `base_url` (it ends in /v1, say); `close` ends all.

    `idle_seconds` is how long the server may say nothing. To be made in a running event loop.
    """

    def __init__(
        self,
        base_url: str,
        *,
        key: str | None,
        idle_seconds: float,
        tokens_field: str,
        trust_env: bool,
    ) -> None:
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._key = key
        self._tokens_field = tokens_field
        # How many calls there are at once is bounded by the turns that run.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=_CONNECT_SECONDS, sock_read=idle_seconds
            ),
            trust_env=trust_env,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        await self._session.close()

    async def stream(self, call: ModelCall) -> AsyncGenerator[Delta, None]:
        """As `ModelClient.stream` promises."""
        decoder = ChatDecoder()
        try:
            response = await self._post(call)
            try:
                await _check(response)
                async for data in response.content.iter_any():
                    for delta in decoder.feed(data):
                        yield delta
            finally:
                response.close()  # a connection whose answer was read whole is kept all the same
        except ModelFailure as failure:
            raise failure.without(self._key) from None
        except aiohttp.ClientError as error:
            raise _failure(error) from error
        except TimeoutError as error:
            raise ModelFailure("unavailable", "it said nothing for too long") from error
        for delta in decoder.close():
            yield delta

    async def _post(self, call: ModelCall) -> aiohttp.ClientResponse:
        return await self._session.post(
            self._url,
            data=request_body(call, tokens_field=self._tokens_field),
            headers=self._headers(),
            allow_redirects=False,  # one would take the key to who knows where
        )

    def _headers(self) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
            "Accept-Encoding": "identity",
        }
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        return headers


async def _check(response: aiohttp.ClientResponse) -> None:
    """Raises ModelFailure unless what follows is a stream."""
    if response.status != 200:
        body = await response.content.read(_MAX_ERROR)
        raise http_failure(response.status, body, retry_after(response.headers))
    if response.content_type in _NO_STREAMS:
        raise ModelFailure("unreadable", f"{response.content_type} instead of a stream")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that the headers ask to wait, if they say so in seconds."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    return None


def _failure(error: aiohttp.ClientError) -> ModelFailure:
    if isinstance(error, aiohttp.InvalidURL):
        return ModelFailure("refused", f"its address is wrong: {error}")
    return ModelFailure("unavailable", f"{type(error).__name__}: {error}")
