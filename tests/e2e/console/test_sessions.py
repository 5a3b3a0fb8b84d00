"""The console's sessions: their logs, and the frames of each client."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from playwright.async_api import Page, expect
from resonantgenesis import ResonantGenesis
from support.console import ask, browser_of, check_barriers, signed_in
from support.server import KEY, ServerProcess

pytestmark = pytest.mark.anyio
#: Rows that are in the page at once, of however many sessions.
DRAWN = 140


async def test_the_log_and_the_frames_of_each_client(server: ServerProcess) -> None:
    async with browser_of(server) as watched:
        page = await signed_in(watched, server)
        await ask(page, "count to 5")
        await page.get_by_label("Answer 1").get_by_text("success", exact=True).wait_for()
        await page.get_by_role("link", name="sess_").click()
        await page.get_by_role("tab", name="Log").click()
        await page.locator(".log-row").filter(has_text="done").click()
        await expect(page.locator("pre")).to_contain_text('"status": "success"')
        await page.get_by_role("tab", name="As each client").click()
        for name, frame in (
            ("Server-Sent Events", "event: done"),
            ("OpenAI Responses", "completed"),
        ):
            shown = page.locator("section").filter(has_text=name)
            await expect(shown.locator("pre")).to_contain_text(frame)
        async with page.expect_download() as exported:
            await page.get_by_role("button", name="Export").click()
        log = Path(await (await exported.value).path()).read_text(encoding="utf-8")
        assert '"status":"success"' in log.replace(" ", "")
        await page.get_by_role("button", name="Delete").click()
        await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        await page.get_by_role("heading", name="Sessions", exact=True).wait_for()
        assert await page.get_by_role("link", name="sess_").count() == 0


async def test_a_search_asks_the_server(server: ServerProcess) -> None:
    async with ResonantGenesis(base_url=server.url, api_key=KEY) as client:
        title = {"title": "Grüße aus Ulm"}
        made = await client.sessions.create("guide", subject="ann", metadata=title)
        for _ in range(60):
            await client.sessions.create("guide", subject="ann")
    async with browser_of(server) as watched:
        page = await signed_in(watched, server)
        await page.goto(f"{server.url}/console/sessions")
        rows = page.locator("tbody tr")
        await expect(rows).to_have_count(50)
        await page.get_by_label("Search").fill("ULM grüsse")
        await expect(rows).to_have_count(1)
        await expect(rows.last).to_contain_text(made.session_id)
        await page.get_by_label("Search").fill("nothing like this")
        await page.get_by_text("No session has “nothing like this”").wait_for()
        await check_barriers(page)
        await page.get_by_role("button", name="Show all sessions").click()
        await expect(rows).to_have_count(50)
        await page.keyboard.press("Escape")
        await page.keyboard.press("Control+k")
        await page.get_by_role("combobox", name="Command").fill("aus ulm")
        await page.get_by_role("option", name="Grüße aus Ulm").click()
        await expect(page).to_have_url(re.compile(made.session_id))
    async with ResonantGenesis(base_url=server.url, api_key=KEY) as client:
        assert (await client.subjects.delete("ann")).sessions == 61


async def scroll_through(page: Page, first: str, last: str) -> None:
    """To the last session of the list, and back, without a mouse."""
    rows = page.locator("tbody tr[aria-rowindex]")
    await page.get_by_role("link", name=last).focus()
    while await page.get_by_role("link", name=first, exact=True).count() == 0:
        await page.keyboard.press("End")
        assert await rows.count() < DRAWN
    await page.get_by_role("link", name=first, exact=True).focus()
    await expect(page.get_by_role("link", name=first, exact=True)).to_be_in_viewport()
    assert await page.get_by_role("button", name="More sessions").count() == 0
    count = await page.get_by_role("table").get_attribute("aria-rowcount")
    await expect(rows.last).to_have_attribute("aria-rowindex", count or "")
    await check_barriers(page)
    await page.keyboard.press("Home")
    await expect(page.get_by_role("link", name=last, exact=True)).to_be_in_viewport()


@pytest.mark.parametrize("sessions", [600, pytest.param(6_000, marks=pytest.mark.soak)])
async def test_a_long_list_is_drawn_where_one_looks(server: ServerProcess, sessions: int) -> None:
    async with ResonantGenesis(base_url=server.url, api_key=KEY) as client:

        async def make() -> str:
            return (await client.sessions.create("guide", subject="many")).session_id

        first = await make()
        for _ in range(sessions // 50):
            await asyncio.gather(*[make() for _ in range(50)])
        last = await make()
        async with browser_of(server) as watched:
            page = await signed_in(watched, server)
            await page.goto(f"{server.url}/console/sessions")
            await scroll_through(page, first, last)
        deleted = 0
        while True:  # a request deletes for some seconds
            erased = await client.subjects.delete("many")
            deleted += erased.sessions
            if not erased.has_more:
                break
        assert deleted == sessions + 2
