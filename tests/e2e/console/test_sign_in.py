"""People who sign in to the console, and what it then offers."""

from __future__ import annotations

import pytest
from playwright.async_api import expect
from support.console import browser_of, link_of, signed_in
from support.server import KEY, ServerProcess

pytestmark = pytest.mark.anyio


async def test_a_link_signs_in_once_and_a_wrong_key_is_told(server: ServerProcess) -> None:
    link = await link_of(server)
    async with browser_of(server) as watched:
        page = await watched.page()
        await page.goto(f"{server.url}/")
        assert page.url == f"{server.url}/console/"
        await page.get_by_label("API key").fill("rg_live_wrong")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("alert")).to_contain_text("does not know")
        await page.goto(link)
        await page.get_by_role("heading", name="Overview").wait_for()
        assert "sign-in" not in page.url
        await page.get_by_role("button", name="Sign out").click()
        await page.goto(link)
        await expect(page.get_by_role("alert")).to_contain_text("has been used")
        await page.get_by_label("API key").fill(KEY)
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_role("heading", name="Overview").wait_for()
        # Chromium tells of every answer that is an error.
        watched.complaints = [one for one in watched.complaints if "40" not in one]


async def test_a_key_may_do_what_it_was_given(server: ServerProcess) -> None:
    async with browser_of(server) as watched:
        page = await signed_in(watched, server)
        await page.get_by_role("link", name="Keys").click()
        await page.get_by_role("button", name="New key").click()
        await page.get_by_label("Name").fill("for the console")
        await page.get_by_label("tokens:write").check()
        await page.get_by_role("button", name="Make the key").click()
        key = await page.get_by_role("dialog").locator("code").inner_text()
        await page.get_by_role("button", name="I have it").click()
        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_label("API key").fill(key)
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_role("link", name="Agents").click()
        await page.get_by_role("heading", name="Agents").wait_for()
        # What it may not do is not offered.
        assert await page.get_by_role("link", name="Keys").count() == 0
        assert await page.get_by_role("button", name="New agent").count() == 0
