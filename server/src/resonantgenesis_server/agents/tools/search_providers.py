"""The services that `web_search` can ask: what each is sent, and how its answer reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ProviderName = Literal["searxng", "brave", "tavily"]


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
        """Raises TypeError, KeyError or AttributeError for what is no answer of this provider."""
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
