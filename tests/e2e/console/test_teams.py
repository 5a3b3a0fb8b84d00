"""The console's teams."""

from __future__ import annotations

import pytest
from playwright.async_api import expect
from support.console import ask, browser_of, check_barriers, signed_in
from support.server import ServerProcess

pytestmark = pytest.mark.anyio


async def test_a_team_is_made_asked_and_deleted(server: ServerProcess) -> None:
    async with browser_of(server) as watched:
        page = await signed_in(watched, server)
        await page.get_by_role("link", name="Teams").click()
        await page.get_by_role("button", name="New team").click()
        await page.get_by_label("Name").fill("Desk")
        for member in ("silent", "guide"):
            await page.get_by_label("Add a member").select_option(member)
        await page.get_by_label("Leave silent out").click()
        await page.get_by_label("Role of guide").fill("counts")
        await check_barriers(page)
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("row").filter(has_text="Desk")).to_contain_text("counts")
        await page.get_by_role("link", name="Desk").click()
        await ask(page, "count to 3")
        await page.get_by_label("Answer 1").get_by_text("success", exact=True).wait_for()
        await page.get_by_role("link", name="Teams").click()
        await page.get_by_label("Delete Desk").click()
        await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        await page.get_by_text("No teams yet").wait_for()
