"""The tool `web_search`: asks the search service that the configuration names."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import httpx

from ...codec.json import NotJson, loads
from ...model.limits import MIB
from .base import JsonValue, ToolContext, ToolError, number_argument, text_argument
from .blocking import in_thread
from .fetch.html_text import read_html
from .search_providers import PROVIDERS, Found, Inquiry, ProviderName

MAX_QUERY = 500
MAX_RESULTS = 20
_MAX_ANSWER = 4 * MIB
_MAX_SNIPPET = 1_000
_SECONDS = 20.0

NOT_CONFIGURED = (
    "web_search has no search service: set tools.search.provider to searxng (with"
    " tools.search.url), brave or tavily (with tools.search.api_key)"
)


class WebSearch:
    """The tool `web_search`; `problem` says why it cannot work, if it cannot. To be closed."""

    name = "web_search"
    description = "Searches the web and gives titles, addresses and short excerpts of pages."
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "query": {"type": "string", "maxLength": MAX_QUERY},
            "limit": {"type": "integer", "minimum": 1, "maximum": MAX_RESULTS, "default": 5},
        },
        "required": ["query"],
        "additionalProperties": False,
    }

    def __init__(
        self, provider: ProviderName | None = None, url: str | None = None, key: str | None = None
    ) -> None:
        self._provider = PROVIDERS[provider] if provider else None
        self._url = (url or (self._provider.url if self._provider else None) or "").rstrip("/")
        self._key = self._provider.key(key) if self._provider else None
        self._opening = asyncio.Lock()
        self._client: httpx.AsyncClient | None = None

    @property
    def problem(self) -> str | None:
        provider = self._provider
        if provider is None:
            return NOT_CONFIGURED
        if not self._url:
            return f"web_search with {provider.name} needs its address: set tools.search.url"
        if provider.needs_key and not self._key:
            variables = " or ".join(provider.key_variables)
            return (
                f"web_search with {provider.name} needs a key: set tools.search.api_key,"
                f" or the variable {variables}"
            )
        return None

    async def call(self, args: Mapping[str, Any], context: ToolContext) -> JsonValue:
        """`{query, results: [{title, url, snippet}]}`, the best first."""
        query = text_argument(args, "query", MAX_QUERY)
        limit = number_argument(args, "limit", default=5, least=1, most=MAX_RESULTS)
        if self.problem is not None or self._provider is None:
            raise ToolError(self.problem or NOT_CONFIGURED)
        answer = await self._ask(self._provider.ask(self._url, self._key, query, limit))
        try:
            found = self._provider.results(loads(answer), limit)
        except (NotJson, KeyError, TypeError, AttributeError) as exc:
            raise ToolError(f"{self._provider.name} gave an answer that cannot be read") from exc
        return {"query": query, "results": [asdict(_plain(result)) for result in found]}

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def _ask(self, inquiry: Inquiry) -> bytes:
        name = self._provider.name if self._provider else ""
        client = await self._open()
        request = client.build_request(
            inquiry.method,
            inquiry.url,
            params=dict(inquiry.params),
            headers={"Accept": "application/json", **inquiry.headers},
            json=inquiry.json,
        )
        try:
            response = await client.send(request, stream=True)
            try:
                _check(name, response)
                return await _read(name, response)
            finally:
                await response.aclose()
        except httpx.TimeoutException as exc:
            raise ToolError(f"{name} did not answer in time") from exc
        except httpx.HTTPError as exc:
            raise ToolError(f"{name} cannot be reached") from exc

    async def _open(self) -> httpx.AsyncClient:
        async with self._opening:
            if self._client is None:  # in a thread: it reads all certificates there are
                self._client = await in_thread(_client, "web_search opens")
            return self._client


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=_SECONDS)


def _check(name: str, response: httpx.Response) -> None:
    match response.status_code:
        case 200:
            return
        case 401 | 403 if name == "searxng":
            raise ToolError("searxng refuses: its settings must allow the format json")
        case 401 | 403:
            raise ToolError(f"{name} refuses the key: check tools.search.api_key")
        case 429:
            raise ToolError(f"{name} has too many requests; try again later")
    raise ToolError(f"{name} answered {response.status_code}")


async def _read(name: str, response: httpx.Response) -> bytes:
    data = bytearray()
    async for chunk in response.aiter_bytes():
        data += chunk
        if len(data) > _MAX_ANSWER:
            raise ToolError(f"{name} gave an answer that is too large")
    return bytes(data)


def _plain(result: Found) -> Found:
    """Without the markup that some services put into their words."""
    title = read_html(result.title, "").text[:_MAX_SNIPPET]
    return Found(
        title, result.url[:_MAX_SNIPPET], read_html(result.snippet, "").text[:_MAX_SNIPPET]
    )
