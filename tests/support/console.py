"""The console, used as a person does, in Chromium on the real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import BrowserContext, Page
from resonantgenesis import ResonantGenesis

from .browser import chromium
from .server import KEY, ServerProcess

#: Seconds for a test.
PATIENCE = 120
_AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"


class Watched:
    """A browser, and what its pages complained of or asked of another host."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context = context
        self.url = url
        self.complaints: list[str] = []

    async def page(self) -> Page:
        page = await self.context.new_page()
        page.on("console", lambda said: self._note(said.text, said.type in {"error", "warning"}))
        page.on("pageerror", lambda error: self._note(str(error), True))
        page.on("request", lambda asked: self._note(asked.url, self._leads_out(asked.url)))
        return page

    def _leads_out(self, url: str) -> bool:
        return not url.startswith((self.url, "data:", "blob:"))

    def _note(self, text: str, is_complaint: bool) -> None:
        # A connection that was cut on purpose is an error of the network to the browser.
        if is_complaint and "ERR_" not in text:
            self.complaints.append(text)


@asynccontextmanager
async def browser_of(server: ServerProcess) -> AsyncIterator[Watched]:
    async with asyncio.timeout(PATIENCE), chromium() as context:
        watched = Watched(context, server.url)
        yield watched
        assert watched.complaints == [], watched.complaints


async def link_of(server: ServerProcess) -> str:
    async with ResonantGenesis(base_url=server.url, api_key=KEY) as client:
        return f"{server.url}{(await client.tokens.link()).path}"


async def signed_in(watched: Watched, server: ServerProcess) -> Page:
    """A page of the playground."""
    page = await watched.page()
    await page.goto(await link_of(server))
    await page.get_by_role("heading", name="Overview").wait_for()
    await page.goto(f"{server.url}/console/play")
    await page.get_by_label("Your question").wait_for()
    return page


async def ask(page: Page, goal: str) -> None:
    await page.get_by_label("Your question").fill(goal)
    await page.keyboard.press("Enter")


async def check_barriers(page: Page) -> None:
    """Nothing of the page keeps anybody out, and it is as wide as its window."""
    if await page.evaluate("typeof axe") == "undefined":
        await page.evaluate(_AXE.read_text(encoding="utf-8"))
    found = await page.evaluate("axe.run()")
    serious = [
        (one["id"], one["nodes"][0]["html"])
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
    ]
    assert serious == [], (page.url, serious)
    for width in (360, 1440):
        await page.set_viewport_size({"width": width, "height": 800})
        assert await page.evaluate("document.body.scrollWidth") <= width, (page.url, width)


async def check_barriers_in_both_themes(page: Page) -> None:
    for scheme in ("dark", "light"):
        await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        await page.locator(f"html[data-theme={scheme}]").wait_for()
        await check_barriers(page)
