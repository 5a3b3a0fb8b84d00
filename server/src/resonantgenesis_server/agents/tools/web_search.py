"""The tool `web_search`: asks the search service that the configuration names."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import httpx

from ...codec.json import NotJson, loads
from ...model.limits import MIB
from .base import JsonValue, ToolContext, ToolError, in_thread, number_argument, text_argument
from .fetch.html_text import load_parser, read_html
from .settings import ProviderName

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
    """The tool `web_search`. `problem` says why it cannot work, if so. To be closed."""

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
        limit = number_argument(args, "limit", default=5, minimum=1, maximum=MAX_RESULTS)
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
            if self._client is None:  # in a thread: it reads all certificates and loads lxml
                self._client = await in_thread(_client, "web_search opens")
            return self._client


def _client() -> httpx.AsyncClient:
    load_parser()
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


@dataclass(frozen=True, slots=True)
class Found:
    """One result."""

    title: str
    url: str
    snippet: str


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A request to a provider."""

    method: Literal["GET", "POST"]
    url: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Provider:
    """`key_variables`: the variables that a key is also taken from, the field's usual names."""

    name: ProviderName
    url: str | None
    needs_key: bool
    key_variables: tuple[str, ...]
    ask: Callable[[str, str | None, str, int], Inquiry]
    read: Callable[[Any], list[Any]]
    fields: tuple[str, str, str]

    def key(self, given: str | None) -> str | None:
        """The key of the settings, or else of the variables."""
        found = (os.environ.get(name) for name in self.key_variables)
        return given or next((key for key in found if key), None)

    def results(self, answer: Any, limit: int) -> list[Found]:
        """The hits of an answer. Raises TypeError, KeyError or AttributeError for an unreadable
        answer."""
        found: list[Found] = []
        for item in self.read(answer)[:limit]:
            title, url, snippet = (str(item.get(name) or "") for name in self.fields)
            if url:
                found.append(Found(title, url, snippet))
        return found


def _ask_searxng(url: str, key: str | None, query: str, limit: int) -> Inquiry:
    return Inquiry("GET", f"{url}/search", {"q": query, "format": "json"})


def _ask_brave(url: str, key: str | None, query: str, limit: int) -> Inquiry:
    params = {"q": query, "count": str(limit), "text_decorations": "false"}
    return Inquiry("GET", f"{url}/res/v1/web/search", params, {"X-Subscription-Token": key or ""})


def _ask_tavily(url: str, key: str | None, query: str, limit: int) -> Inquiry:
    body = {"query": query, "max_results": limit}
    return Inquiry("POST", f"{url}/search", {}, {"Authorization": f"Bearer {key}"}, body)


PROVIDERS: Mapping[ProviderName, Provider] = {
    "searxng": Provider(
        "searxng",
        None,
        needs_key=False,
        key_variables=(),
        ask=_ask_searxng,
        read=lambda answer: answer["results"],
        fields=("title", "url", "content"),
    ),
    "brave": Provider(
        "brave",
        "https://api.search.brave.com",
        needs_key=True,
        key_variables=("BRAVE_API_KEY", "BRAVE_SEARCH_API_KEY"),
        ask=_ask_brave,
        # "web" is absent when nothing was found
        read=lambda answer: answer.get("web", {}).get("results", []),
        fields=("title", "url", "description"),
    ),
    "tavily": Provider(
        "tavily",
        "https://api.tavily.com",
        needs_key=True,
        key_variables=("TAVILY_API_KEY",),
        ask=_ask_tavily,
        read=lambda answer: answer["results"],
        fields=("title", "url", "content"),
    ),
}
