"""The documentation site: it finds words, shows every path of the API, and asks no other host."""

from __future__ import annotations

import asyncio
import re

import pytest
from support.browser import chromium
from support.server import ServerProcess

pytestmark = pytest.mark.anyio


async def test_a_person_finds_what_the_site_has(server: ServerProcess) -> None:
    complaints: list[str] = []
    async with chromium() as context, asyncio.timeout(120):
        page = await context.new_page()
        page.on("console", lambda said: complaints.append(said.text))
        # What a page still loads when the next one comes is given up.
        page.on(
            "requestfailed",
            lambda request: request.failure == "net::ERR_ABORTED" or complaints.append(request.url),
        )
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.goto(f"{server.url}/docs")
        assert page.url == f"{server.url}/docs/"
        search = page.get_by_placeholder("Search")
        await search.click()
        await page.get_by_text("Type to start searching").wait_for()
        await search.press_sequentially("resume lost connection")
        await page.locator(".md-search-result__link[href*='streaming.html']").first.click()
        await page.get_by_role("heading", name="Streaming over SSE").wait_for()
        await page.goto(f"{server.url}/docs/concepts.html")
        drawing = page.get_by_role("img", name="The log of a session")
        assert await drawing.evaluate("one => one.naturalWidth") > 0
        # "Try it out" asks this server.
        await page.goto(f"{server.url}/docs/api/#/operations/healthz")
        await page.get_by_role("button", name="Try it out").click()
        await page.get_by_role("button", name="Execute").click()
        await page.locator(".live-responses-table").get_by_text("ok").first.wait_for()
    assert complaints == []
    assert [url for url in asked if not url.startswith((server.url, "data:", "blob:"))] == []


async def test_what_is_not_there_is_said_in_our_shape(server: ServerProcess) -> None:
    async with server.client() as client:
        answer = await client.get("/docs/nothing.html")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "NOT_FOUND")
        # No way out of the folder.
        for path in ("/docs/..%2f__init__.py", "/docs/%2e%2e/__init__.py", "/docs//etc/passwd"):
            assert (await client.get(path)).status_code == 404, path
        index = await client.get("/llms.txt")
        assert index.headers["content-type"].startswith("text/markdown")
        page = await client.get(f"/{index.text.split('](')[1].partition(')')[0]}")
        assert page.text.startswith("# ")


async def test_the_sockets_have_a_page_with_every_message(server: ServerProcess) -> None:
    async with server.client() as client:
        page = (await client.get("/docs/sockets.html")).text
        described = (await client.get("/asyncapi.json")).json()["components"]["messages"]
        for message in described.values():
            assert re.search(rf"<h4[^>]*>{message['name']}<", page), message["name"]
        assert "callback_url" in page and "your_key" in page  # a field, and an example
        assert "docs/sockets.md" in (await client.get("/llms.txt")).text


async def test_the_pages_let_only_their_own_scripts_run(server: ServerProcess) -> None:
    async with server.client() as client:
        answer = await client.get("/docs/")
        policy = dict(
            part.strip().split(" ", 1)
            for part in answer.headers["content-security-policy"].split(";")
        )
        assert "unsafe" not in policy["script-src"]
        assert policy["default-src"] == "'none'"
        assert (
            await client.get("/docs/", headers={"If-None-Match": answer.headers["etag"]})
        ).status_code == 304
