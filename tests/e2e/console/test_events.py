"""The console's live events."""

from __future__ import annotations

import pytest
from playwright.async_api import expect
from resonantgenesis import ResonantGenesis
from support.console import browser_of, signed_in
from support.server import KEY, ServerProcess

pytestmark = pytest.mark.anyio


async def test_events_wait_while_they_are_paused(server: ServerProcess) -> None:
    async with (
        browser_of(server) as watched,
        ResonantGenesis(base_url=server.url, api_key=KEY) as client,
    ):
        page = await signed_in(watched, server)
        await page.get_by_role("link", name="Events").click()
        await client.events.publish("app.first", {"n": 1})
        await page.get_by_role("button", name="app.first").wait_for()
        await page.get_by_role("button", name="Pause").click()
        await client.events.publish("app.second", {"n": 2})
        await page.get_by_role("button", name="1 new").wait_for()
        assert await page.get_by_role("button", name="app.second").count() == 0
        await page.get_by_role("button", name="Go on").click()
        await page.get_by_role("button", name="app.second").click()
        await expect(page.get_by_role("dialog")).to_contain_text('"n": 2')
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Publish").click()
        form = page.get_by_role("dialog")
        await form.get_by_label("Type").fill("app.third")
        await form.get_by_role("button", name="Publish").click()
        await page.get_by_role("button", name="app.third").wait_for()
