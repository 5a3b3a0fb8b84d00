"""Models of OpenAI-compatible servers, over aiohttp.

We use no provider's library: a delta costs a tenth here (bench/NOTES.md, "Engines").
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp
import structlog

from .....codec.json import dumps
from ..calls import Delta, ModelCall, ModelFailure
from .decoder import ChatDecoder
from .errors import http_failure
from .request import ServerForm

_CONNECT_SECONDS = 10.0
#: Bytes read of a refusal.
_MAX_ERROR = 64 * 1024
#: Seconds behind a finish_reason: for the usage to come, and for the rest once that has.
_USAGE_SECONDS, _REST_SECONDS = 2.0, 0.5
#: Seconds behind [DONE] for the end of the body, which lets the connection be used again.
_END_SECONDS = 0.3
#: How often one call is asked in another form.
_FORMS = 6
_REFUSED = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY})
_NOT_THERE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED})
log_ = structlog.get_logger("resonantgenesis.llm")


class OpenAIChatClient:
    """Chat completions of the server at `base_url`; `close` ends all connections.

    The address ends in /v1, which may be left out behind a mere host. `idle_seconds` is how long
    the server may be silent. `think`: the models write reasoning into their texts. `headers` go
    with every request. Make clients in a running event loop.
    """

    def __init__(
        self,
        base_url: str,
        *,
        key: str | None,
        idle_seconds: float,
        tokens_field: str,
        trust_env: bool,
        think: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._urls = _addresses(base_url)
        self._key = key
        self._think = think
        self._more = dict(headers or {})
        self._form = ServerForm(tokens_field)
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
        """Stream the answer, as `ModelClient.stream` promises."""
        decoder = ChatDecoder(think=self._think)
        try:
            response = await self._answer(call)
            try:
                content, ending = response.content, _Ending(decoder)
                while data := await (
                    ending.read(content) if decoder.has_ended else content.readany()
                ):
                    for delta in decoder.feed(data):
                        yield delta
                for delta in decoder.close():
                    yield delta
                await _read_end(content)
            finally:
                response.close()  # a connection whose answer was read whole stays in the pool
        except ModelFailure as failure:
            raise failure.without(self._key) from None
        except aiohttp.ClientError as error:
            raise _failure(error) from error
        except TimeoutError as error:
            raise ModelFailure("unavailable", "it said nothing for too long") from error

    async def _answer(self, call: ModelCall) -> aiohttp.ClientResponse:
        """The response that holds the answer. Asks again in another form if one is refused."""
        urls = self._urls
        for attempt in range(_FORMS):
            body = self._form.body(call)
            response = await self._post(urls[0], dumps(body))
            if 200 <= response.status < 300:
                self._urls = urls[:1]
                return response
            try:
                said = await _read_some(response.content)
            finally:
                response.close()
            failure = http_failure(response.status, said, retry_after(response.headers))
            if response.status in _NOT_THERE and len(urls) > 1:
                urls = urls[1:]
                continue
            learned = None
            if failure.kind == "refused" and response.status in _REFUSED:
                learned = self._form.learn(body, said.decode("utf-8", "replace"))
            if learned is None or attempt == _FORMS - 1:
                raise failure
            failure = failure.without(self._key)
            log_.info("the provider is asked otherwise", sends=learned, said=failure.said)
        raise AssertionError("unreachable")

    async def _post(self, url: str, body: bytes) -> aiohttp.ClientResponse:
        return await self._session.post(
            url,
            data=body,
            headers=self._headers(),
            allow_redirects=False,  # a redirect would take the key to an unknown server
        )

    def _headers(self) -> dict[str, str]:
        headers = self._more | {
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
            "Accept-Encoding": "identity",
        }
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        return headers


def _addresses(base_url: str) -> list[str]:
    """Where chat completions are, and for an address without a path where else they may be."""
    base = base_url.rstrip("/").removesuffix("/chat/completions")
    bases = [base] if urlsplit(base).path.strip("/") else [base, f"{base}/v1"]
    return [f"{each}/chat/completions" for each in bases]


class _Ending:
    """Reads the rest behind a whole answer, for a short time only; a broken connection is no
    failure."""

    def __init__(self, decoder: ChatDecoder) -> None:
        self._decoder = decoder
        self._seen = (-1, False)
        self._until: float | None = None

    async def read(self, content: aiohttp.StreamReader) -> bytes:
        """The next bytes; b"" ends the wait."""
        if self._decoder.is_over:
            return b""
        seen = self._decoder.pieces, self._decoder.has_usage
        if seen != self._seen:  # only parts of the answer give it more time
            self._seen = seen
            seconds = _REST_SECONDS if self._decoder.has_usage else _USAGE_SECONDS
            now = asyncio.get_running_loop().time()
            self._until = None if self._decoder.is_talking else now + seconds
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._until):
                    return await content.readany()
            # A loop that was held up sees the deadline before it reads what came in time.
            # Its readers run in the pass of the first sleep or the next one.
            for _ in range(2):
                await asyncio.sleep(0)
            return content.read_nowait()
        except aiohttp.ClientError:
            return b""


async def _read_end(content: aiohttp.StreamReader) -> None:
    """Read on to the end of the body if it comes at once."""
    with contextlib.suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(_END_SECONDS):
            read = 0
            while read < _MAX_ERROR and (data := await content.readany()):
                read += len(data)


async def _read_some(content: aiohttp.StreamReader) -> bytes:
    """The first bytes of a refusal."""
    said = b""
    while len(said) < _MAX_ERROR and (data := await content.read(_MAX_ERROR - len(said))):
        said += data
    return said


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
