"""The engine `http`: a turn is a signed POST, its answer is the stream of chunks."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import httpcore
import httpx

from ....codec.json import dumps
from ....model.chunks import AgentChunk
from ....model.errors import AgentError, InvalidRequest
from ....tracing import spans
from ...base import Turn
from ...remote import EndOfTurn, chunk_of, turn_body
from ...tools.fetch.network import AddressRefused
from .answer import ACCEPT, AnswerDecoder, decoder_of
from .endpoint import Endpoint, EndpointRecords, parse_url
from .posting import EndpointClient, PostFailed, header_of, retry_after, status_text
from .settings import HttpAgentSettings

#: Tries of a turn before its first chunk, and seconds between them: up to this, doubled each time.
_TRIES, _FIRST_PAUSE = 4, 0.5
#: The longest wait that an endpoint may ask for; beyond, the client is told to come again.
_MAX_RETRY_AFTER = 30.0
_MAX_REDIRECTS = 3
#: Seconds of the event loop that an answer may take at a time.
_LOOP_SECONDS = 0.005
#: Redirects that keep method and body.
_REDIRECTS = frozenset({307, 308})
#: Answers of an endpoint that is not there now, beside those from 500 on.
_AGAIN = frozenset({408, 425, 429})
_HEADERS = [(b"Accept", ACCEPT), (b"Content-Type", b"application/json")]


class _TryAgain(Exception):
    """The endpoint has not answered, or broke off. `retry_after` in seconds, if it said so."""

    def __init__(
        self, message: str, retry_after: float | None = None, code: str = "MODEL_UNAVAILABLE"
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after
        self.code = code


class HttpAgent:
    """POSTs each turn to the endpoint. Before the first chunk a failed POST is repeated, with the
    same `webhook-id`; after it the turn ends with RUNNER_LOST."""

    #: A turn without a chunk may be run again by another process.
    can_begin_again = True

    def __init__(self, engine: HttpEngine, endpoint: Endpoint) -> None:
        self._engine = engine
        self._endpoint = endpoint

    async def run(self, turn: Turn) -> AsyncGenerator[AgentChunk, None]:
        body = dumps(turn_body(turn))
        # A turn that goes on behind its asks is sent once more, as another message.
        answered = f".{len(turn.answers)}" if turn.answers else ""
        part = f".{turn.part}" if turn.part else ""
        message_id = f"{turn.session_id}.{turn.turn}{part}{answered}"
        for attempt in range(1, _TRIES + 1):
            has_begun = False
            try:
                async with self._engine.asked(self._endpoint, message_id, body) as values:
                    async for value in values:
                        chunk = chunk_of(value)
                        if isinstance(chunk, EndOfTurn):
                            return
                        has_begun = True
                        yield chunk
                return
            except _TryAgain as failure:
                if has_begun:
                    raise _broken_off(failure.message) from None
                wait = failure.retry_after
                if attempt == _TRIES or (wait or 0) > _MAX_RETRY_AFTER:
                    raise AgentError(failure.message, failure.code, retry_after=wait) from None
                pause = _FIRST_PAUSE * 2 ** (attempt - 1) * random.uniform(0.5, 1)  # noqa: S311
            await asyncio.sleep(max(wait or 0.0, pause))


def _broken_off(why: str) -> AgentError:
    return AgentError(f"{why}; what the agent had produced is kept", "RUNNER_LOST")


class HttpEngine:
    """All agents of the engine `http`. To be closed."""

    def __init__(self, settings: HttpAgentSettings, records: EndpointRecords) -> None:
        self._records = records
        self._client = EndpointClient(
            settings.allow_hosts, "http_agents.allow_hosts", settings.silence
        )

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raises InvalidRequest unless `settings["url"]` is an address that may be asked."""
        url = settings.get("url")
        if not isinstance(url, str):
            raise InvalidRequest.field("url", "the engine 'http' needs the address of the agent")
        self._client.check(parse_url(url))

    def build(self, settings: Mapping[str, Any]) -> HttpAgent:
        """The agent of `settings["endpoint"]`, as the records keep it. Raises InvalidRequest."""
        return HttpAgent(self, self._records.open(settings["endpoint"]))

    async def close(self) -> None:
        await self._client.close()

    @asynccontextmanager
    async def asked(
        self, endpoint: Endpoint, message_id: str, body: bytes
    ) -> AsyncIterator[AsyncGenerator[object, None]]:
        """The values of the answer. Leaving the block early closes the connection.

        Raises AgentError for an answer that is none, and _TryAgain, also from the values.
        """
        url = endpoint.url
        for _ in range(_MAX_REDIRECTS + 1):
            headers = [*_HEADERS, *endpoint.signed(message_id, body, time.time())]
            headers += [(name.encode(), of.encode()) for name, of in spans.headers().items()]
            async with self._posted(url, headers, body) as response:
                if response.status not in _REDIRECTS:
                    decoder = _checked(response)
                    values = _values(response, decoder)
                    try:
                        yield values
                    finally:
                        await values.aclose()
                    return
                url = self._redirected(url, response)
        raise AgentError(f"the agent's endpoint redirects more than {_MAX_REDIRECTS} times")

    @asynccontextmanager
    async def _posted(
        self, url: httpx.URL, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> AsyncIterator[httpcore.Response]:
        try:
            async with self._client.post(url, headers, body) as response:
                yield response
        except AddressRefused:
            raise AgentError(
                f"the agent's endpoint {url.host} is not on the public internet; the server's"
                f" setting {self._client.setting} lists the others"
            ) from None
        except PostFailed as error:
            raise _TryAgain(f"the agent's endpoint {error}") from error

    def _redirected(self, url: httpx.URL, response: httpcore.Response) -> httpx.URL:
        location = header_of(response, b"location")
        try:
            target = parse_url(str(url.join(location)))
            self._client.check(target)
        except (InvalidRequest, httpx.InvalidURL, ValueError):
            raise AgentError(
                "the agent's endpoint redirects to what is no address for agents"
            ) from None
        return target


def _checked(response: httpcore.Response) -> AnswerDecoder:
    """The decoder of an answer that is a stream of chunks. Raises AgentError, _TryAgain."""
    status = response.status
    said = f"the agent's endpoint answered {status_text(status)}"
    if status in _AGAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        code = "RATE_LIMITED" if status == HTTPStatus.TOO_MANY_REQUESTS else "MODEL_UNAVAILABLE"
        raise _TryAgain(said, retry_after(response), code)
    if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        raise AgentError(said)
    content_type = header_of(response, b"content-type")
    decoder = decoder_of(content_type or ("text/plain" if status == 204 else ""))
    encoding = header_of(response, b"content-encoding").strip().lower()
    if decoder is None or encoding not in {"", "identity"}:
        raise AgentError(
            f"the agent's endpoint answered with {(encoding or content_type)[:100] or 'no type'};"
            " it must be text/event-stream, application/x-ndjson or text/plain, not compressed"
        )
    return decoder


async def _values(
    response: httpcore.Response, decoder: AnswerDecoder
) -> AsyncGenerator[object, None]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    # What has come is read without a wait, and may be a piece for each byte of it.
    async for data in response.aiter_stream():
        if loop.time() - began > _LOOP_SECONDS:
            await asyncio.sleep(0)
            began = loop.time()
        for value in decoder.feed(data):
            yield value
    for value in decoder.end():
        yield value
    is_framed = "chunked" in header_of(response, b"transfer-encoding").lower()
    if not is_framed and not header_of(response, b"content-length") and response.status != 204:
        # Nobody can tell the end of such a body from a cut.
        raise _TryAgain("the agent's answer has no length, is not chunked, and has no `done`")


def make_engine(settings: HttpAgentSettings, records: EndpointRecords) -> HttpEngine:
    return HttpEngine(settings, records)
