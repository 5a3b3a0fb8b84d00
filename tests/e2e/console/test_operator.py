"""The console's overview, and the organizations, as the operator of a server sees them."""

from __future__ import annotations

import asyncio
import re
import time

import pytest
from playwright.async_api import Page, expect
from resonantgenesis import ResonantGenesis
from support.console import browser_of, signed_in
from support.server import KEY, Serve, ServerProcess

pytestmark = pytest.mark.anyio
#: Seconds for which the work of the page is measured.
MEASURED = 3.0
#: Sessions that count at once, and the figure of the overview from 10,000 on.
SESSIONS = 4
MANY = re.compile(r"^\d\d+,\d{3}$")


def stat(page: Page, name: str) -> str:
    return f".stat:has-text('{name}') b"


async def busy_share(page: Page, seconds: float) -> float:
    """The part of a core that the page's main thread works in the next seconds.

    The browser counts from here on, and what others on the machine take does not count.
    """
    session = await page.context.new_cdp_session(page)
    await session.send("Performance.enable", {"timeDomain": "threadTicks"})
    began = time.monotonic()
    await asyncio.sleep(seconds)
    metrics = (await session.send("Performance.getMetrics"))["metrics"]
    worked = next(each["value"] for each in metrics if each["name"] == "TaskDuration")
    assert worked > 0
    return float(worked / (time.monotonic() - began))


async def count_for_ever(client: ResonantGenesis) -> None:
    """Turns as fast as the server makes them. Nobody watches, and only their ends come back."""
    while True:
        await client.sessions.execute("guide", "count to 20000")


async def test_the_overview_follows_what_the_organization_does(serve: Serve) -> None:
    server = serve(words_per_second=800)
    async with (
        browser_of(server) as watched,
        ResonantGenesis(base_url=server.url, api_key=KEY) as client,
    ):
        page = await signed_in(watched, server)
        await page.get_by_role("link", name="Overview").click()
        turns = [
            asyncio.create_task(client.sessions.execute("guide", "count to 9000")) for _ in range(4)
        ]
        running = page.locator(stat(page, "turns running"))
        await expect(running).not_to_have_text("0")
        await expect(page.locator(stat(page, "to the first chunk"))).to_contain_text("s")
        assert await busy_share(page, MEASURED) < 0.5
        await asyncio.gather(*turns)
        await expect(running).to_have_text("0")
        await expect(page.get_by_label("Turns that ended")).to_contain_text("success")
        await expect(page.get_by_label("Nodes").get_by_role("row")).to_have_count(2)

        await page.get_by_label("Whose").select_option("the whole server")
        await page.get_by_label("Bootstrap key").fill(KEY)
        await page.get_by_role("button", name="Open").click()
        await expect(page.locator(stat(page, "streams open"))).to_be_visible()


@pytest.mark.soak
async def test_the_overview_is_light_at_ten_thousand_chunks_a_second(server: ServerProcess) -> None:
    async with (
        browser_of(server) as watched,
        ResonantGenesis(base_url=server.url, api_key=KEY) as client,
    ):
        page = await signed_in(watched, server)
        await page.get_by_role("link", name="Overview").click()
        counting = [asyncio.create_task(count_for_ever(client)) for _ in range(SESSIONS)]
        rate = page.locator(stat(page, "chunks a second"))
        await expect(rate).to_have_text(MANY)
        share, shown = await busy_share(page, 10.0), await rate.inner_text()
        for each in counting:
            each.cancel()
        await asyncio.wait(counting)
        print(f"{shown} chunks a second: the page's main thread takes {share:.0%} of a core")
        assert share < 0.5


async def test_organizations_are_made_renamed_disabled_and_enabled(server: ServerProcess) -> None:
    async with browser_of(server) as watched:
        page = await signed_in(watched, server)
        await page.get_by_role("link", name="Organizations").click()
        await page.get_by_label("Bootstrap key").fill("rg_live_of_somebody")
        await page.get_by_role("button", name="Open").click()
        await expect(page.get_by_role("alert")).to_contain_text("not valid")
        await page.get_by_label("Bootstrap key").fill(KEY)
        await page.get_by_role("button", name="Open").click()
        await page.get_by_role("button", name="New organization").click()
        await page.get_by_role("textbox", name="Name").fill("Acme")
        await page.get_by_role("button", name="Make the organization").click()
        key = await page.get_by_role("dialog").locator("code").inner_text()
        await page.get_by_role("button", name="I have it").click()
        await page.get_by_role("button", name="Rename Acme").click()
        await page.get_by_role("textbox", name="Name").fill("Acme Ltd")
        await page.get_by_role("button", name="Save").click()
        row = page.get_by_role("row").filter(has_text="Acme Ltd")
        async with ResonantGenesis(base_url=server.url, api_key=key) as client:
            await client.agents.list()
        await row.get_by_role("button", name="Disable").click()
        await page.get_by_role("dialog").get_by_role("button", name="Disable").click()
        await expect(row).to_contain_text("disabled")
        await row.get_by_role("button", name="Enable").click()
        await expect(row).to_contain_text("enabled")
        # What was wrong is an error of the page to Chromium.
        watched.complaints = [one for one in watched.complaints if "401" not in one]
