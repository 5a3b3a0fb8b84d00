"""The console's agents."""

from __future__ import annotations

import pytest
from playwright.async_api import expect
from resonantgenesis import ResonantGenesis
from support.console import browser_of, check_barriers, signed_in
from support.server import KEY, ServerProcess

pytestmark = pytest.mark.anyio


async def test_an_agent_is_made_with_limits_changed_and_deleted(server: ServerProcess) -> None:
    async with (
        browser_of(server) as watched,
        ResonantGenesis(base_url=server.url, api_key=KEY) as client,
    ):
        page = await signed_in(watched, server)
        await page.get_by_role("link", name="Agents").click()
        await page.get_by_role("button", name="New agent").click()
        await page.get_by_role("textbox", name="Name", exact=True).fill("Ledger")
        await page.get_by_role("textbox", name="Id").fill("ledger")
        await page.get_by_label("Engine").select_option("worker")
        await page.get_by_label("Most steps").fill("0")
        await page.get_by_role("button", name="Save").click()
        await expect(page.locator(".problem")).to_contain_text("greater than or equal to 1")
        await check_barriers(page)
        await page.get_by_label("Most steps").fill("7")
        await page.get_by_label("Turns at once").fill("2")
        await page.get_by_role("button", name="Save").click()
        await page.get_by_role("button", name="Edit Ledger").click()
        await expect(page.get_by_label("Most steps")).to_have_value("7")
        await page.get_by_label("Turns at once").fill("")
        await page.get_by_role("button", name="Save").click()
        await page.get_by_role("dialog").wait_for(state="detached")
        assert (await client.agents.get("ledger")).defaults == {"max_steps": 7}
        await page.get_by_role("button", name="Delete Ledger").click()
        await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        await page.get_by_role("button", name="Delete Ledger").wait_for(state="detached")
        watched.complaints = [one for one in watched.complaints if "422" not in one]
