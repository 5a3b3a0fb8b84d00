from __future__ import annotations

import json
from typing import Any

import pytest
from resonantgenesis_server.agents.tools.base import NO_CONTEXT, ToolError
from resonantgenesis_server.agents.tools.web_search import ProviderName, WebSearch
from web_site import Answer, WebSite

pytestmark = pytest.mark.anyio

KEY = "the-key-of-the-provider"
PATHS: dict[ProviderName, str] = {
    "searxng": "/search",
    "brave": "/res/v1/web/search",
    "tavily": "/search",
}


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BRAVE_API_KEY", "BRAVE_SEARCH_API_KEY", "TAVILY_API_KEY"):
        monkeypatch.delenv(name, raising=False)


async def search(
    site: WebSite, provider: ProviderName, args: dict[str, Any], key: str | None = KEY
) -> Any:
    tool = WebSearch(provider, site.url("/"), key)
    try:
        return await tool.call(args, NO_CONTEXT)
    finally:
        await tool.close()


def answer(site: WebSite, provider: ProviderName, results: list[dict[str, Any]]) -> None:
    body = {"web": {"results": results}} if provider == "brave" else {"results": results}
    site.page(PATHS[provider], json.dumps(body), "application/json")


@pytest.mark.parametrize(
    ("provider", "snippet"),
    [("searxng", "content"), ("brave", "description"), ("tavily", "content")],
)
async def test_results_of_each_provider(
    site: WebSite, provider: ProviderName, snippet: str
) -> None:
    results = [
        {"title": f"T{n} &amp; <b>more</b>", "url": f"http://{n}.example/", snippet: "a <i>b</i>"}
        for n in range(4)
    ]
    results.insert(1, {"title": "nowhere", "url": None, snippet: None})
    answer(site, provider, results)
    found = await search(site, provider, {"query": "what & why", "limit": 3})
    assert found == {
        "query": "what & why",
        "results": [
            {"title": f"T{n} & more", "url": f"http://{n}.example/", "snippet": "a b"}
            for n in range(2)
        ],
    }


async def test_what_searxng_is_asked(site: WebSite) -> None:
    answer(site, "searxng", [])
    await search(site, "searxng", {"query": "what & why"}, key=None)
    (request,) = site.requests
    assert (request.method, request.path) == ("GET", "/search?q=what+%26+why&format=json")


async def test_what_brave_is_asked(site: WebSite) -> None:
    site.page(PATHS["brave"], '{"query": {}}', "application/json")  # as when nothing was found
    found = await search(site, "brave", {"query": "q", "limit": 7})
    assert found["results"] == []
    (request,) = site.requests
    assert request.path == "/res/v1/web/search?q=q&count=7&text_decorations=false"
    assert request.headers["x-subscription-token"] == KEY


async def test_what_tavily_is_asked(site: WebSite) -> None:
    answer(site, "tavily", [])
    await search(site, "tavily", {"query": "q", "limit": 7})
    (request,) = site.requests
    assert (request.method, request.path) == ("POST", "/search")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert json.loads(request.body) == {"query": "q", "max_results": 7}


@pytest.mark.parametrize(
    ("provider", "variable"),
    [
        ("brave", "BRAVE_API_KEY"),
        ("brave", "BRAVE_SEARCH_API_KEY"),
        ("tavily", "TAVILY_API_KEY"),
    ],
)
async def test_a_key_from_the_environment(
    site: WebSite, monkeypatch: pytest.MonkeyPatch, provider: ProviderName, variable: str
) -> None:
    monkeypatch.setenv(variable, "from-the-environment")
    answer(site, provider, [])
    await search(site, provider, {"query": "q"}, key=None)
    assert "from-the-environment" in str(site.requests[0].headers)
    await search(site, provider, {"query": "q"})  # the setting wins
    assert KEY in str(site.requests[1].headers)


@pytest.mark.parametrize(
    ("tool", "says"),
    [
        (WebSearch(), "no search service: set tools.search.provider"),
        (WebSearch("searxng"), "needs its address: set tools.search.url"),
        (WebSearch("brave", None, ""), "set tools.search.api_key, or the variable BRAVE_API_KEY"),
        (WebSearch("tavily"), "or the variable TAVILY_API_KEY"),
    ],
)
async def test_what_is_missing_is_said(
    monkeypatch: pytest.MonkeyPatch, tool: WebSearch, says: str
) -> None:
    assert says in (tool.problem or "")
    with pytest.raises(ToolError, match=says):
        await tool.call({"query": "q"}, NO_CONTEXT)


def test_nothing_is_missing() -> None:
    assert WebSearch("searxng", "http://x").problem is None
    assert WebSearch("tavily", None, KEY).problem is None


@pytest.mark.parametrize(
    ("provider", "status", "says"),
    [
        ("brave", "401 Unauthorized", "refuses the key: check tools.search.api_key"),
        ("tavily", "403 Forbidden", "refuses the key"),
        ("searxng", "403 Forbidden", "its settings must allow the format json"),
        ("brave", "429 Too Many Requests", "too many requests"),
        ("searxng", "500 Oops", "searxng answered 500"),
        ("searxng", "302 Found", "searxng answered 302"),
    ],
)
async def test_errors_of_the_provider(
    site: WebSite, provider: ProviderName, status: str, says: str
) -> None:
    site.answers[PATHS[provider]] = Answer(b"details", status)
    with pytest.raises(ToolError, match=says) as raised:
        await search(site, provider, {"query": "q"})
    assert KEY not in str(raised.value)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"results": 5}', b'{"results": [5]}', b"{}"])
async def test_what_is_no_answer(site: WebSite, body: bytes) -> None:
    site.page("/search", body, "application/json")
    with pytest.raises(ToolError, match="cannot be read"):
        await search(site, "searxng", {"query": "q"})


async def test_an_answer_is_bounded(site: WebSite) -> None:
    site.page("/search", b'{"results": ["' + b"x" * 5_000_000, "application/json")
    with pytest.raises(ToolError, match="too large"):
        await search(site, "searxng", {"query": "q"})


async def test_results_are_bounded(site: WebSite) -> None:
    answer(
        site, "searxng", [{"title": "t" * 9_000, "url": "u" * 9_000, "content": "c" * 9_000}] * 30
    )
    found = await search(site, "searxng", {"query": "q", "limit": 20})
    assert len(found["results"]) == 20
    assert {len(value) for result in found["results"] for value in result.values()} == {1_000}


async def test_nobody_there() -> None:
    tool = WebSearch("searxng", "http://127.0.0.1:1")
    with pytest.raises(ToolError, match="searxng cannot be reached"):
        await tool.call({"query": "q"}, NO_CONTEXT)
    await tool.close()


@pytest.mark.parametrize(
    "args", [{}, {"query": " "}, {"query": "x" * 501}, {"query": "q", "limit": 21}]
)
async def test_bad_arguments(args: dict[str, Any]) -> None:
    with pytest.raises(ToolError, match=r"query|limit"):
        await WebSearch("searxng", "http://127.0.0.1:1").call(args, NO_CONTEXT)
