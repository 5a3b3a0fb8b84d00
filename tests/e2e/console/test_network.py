"""The console without a network, and with a credential that ends."""

from __future__ import annotations

import json

import pytest
from playwright.async_api import Route, expect
from resonantgenesis import AuthenticationError, ResonantGenesis
from support.console import browser_of, link_of, signed_in
from support.server import KEY, ServerProcess

pytestmark = pytest.mark.anyio


async def test_a_page_says_that_it_is_offline_and_comes_back_by_itself(
    server: ServerProcess,
) -> None:
    async with browser_of(server) as watched:
        page = await signed_in(watched, server)
        await page.get_by_role("link", name="Agents").click()
        await page.get_by_role("row").filter(has_text="Guide").wait_for()
        await page.context.set_offline(True)
        await page.get_by_role("link", name="Teams").click()
        await page.get_by_text("The server cannot be reached").first.wait_for()
        # What was loaded stays, and says from when it is.
        await page.get_by_role("link", name="Agents").click()
        await page.get_by_text("is asked again every few seconds").wait_for()
        await page.get_by_role("row").filter(has_text="Guide").wait_for()
        await page.context.set_offline(False)
        await expect(page.get_by_text("is asked again every few seconds")).to_have_count(0)
        await page.get_by_role("link", name="Teams").click()
        await page.get_by_text("No teams yet").wait_for()
        watched.complaints = [one for one in watched.complaints if "onnect" not in one]


async def test_a_token_is_renewed_before_it_ends_and_its_key_ends_it(server: ServerProcess) -> None:
    async def shorten(route: Route) -> None:
        await route.continue_(post_data=json.dumps({"ttl_seconds": 16}))

    async with (
        browser_of(server) as watched,
        ResonantGenesis(base_url=server.url, api_key=KEY) as client,
    ):
        page = await watched.page()
        await page.route("**/v1/tokens/sign-in", shorten)
        key = await client.keys.create(name="for a while", scopes=["tokens:write", "agents:read"])
        await page.goto(f"{server.url}/console/agents")
        await page.get_by_label("API key").fill(key.key)
        async with (
            page.expect_response("**/v1/tokens/sign-in") as signed,
            page.expect_response("**/v1/tokens/renew") as renewed,
        ):
            await page.get_by_role("button", name="Sign in").click()
        first = (await (await signed.value).json())["token"]
        assert (await (await renewed.value).json())["token"] != first
        with pytest.raises(AuthenticationError):
            async with ResonantGenesis(base_url=server.url, api_key=first) as old:
                while True:
                    await old.agents.list()
        await page.reload()
        await page.get_by_role("row").filter(has_text="Guide").wait_for()
        await client.keys.revoke(key.id)
        await page.get_by_role("link", name="Workers").click()
        await page.get_by_text("Your sign-in has ended").wait_for()
        await page.unroute("**/v1/tokens/sign-in")
        await page.goto(await link_of(server))
        await page.get_by_role("heading", name="Overview").wait_for()
        watched.complaints = [one for one in watched.complaints if "401" not in one]
