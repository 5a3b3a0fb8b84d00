"""The console's webhooks and their deliveries."""

from __future__ import annotations

import pytest
from playwright.async_api import expect
from resonantgenesis import ResonantGenesis, verify_webhook
from support.console import browser_of, check_barriers_in_both_themes, signed_in
from support.receiver import Receiver
from support.server import KEY, Serve

pytestmark = pytest.mark.anyio


async def test_a_webhook_is_made_tested_and_sent_an_event_again(serve: Serve) -> None:
    server = serve(webhooks__allow_hosts="127.0.0.1", webhooks__first_retry=0.05)
    async with (
        browser_of(server) as watched,
        ResonantGenesis(base_url=server.url, api_key=KEY) as client,
        Receiver().running() as receiver,
    ):
        page = await signed_in(watched, server)
        await page.get_by_role("link", name="Webhooks").click()
        await page.get_by_role("button", name="New webhook").click()
        await page.get_by_label("URL").fill(receiver.url())
        await page.get_by_role("textbox", name="Events").fill("app.invoice.*")
        await page.get_by_label("Headers").fill("X-Tenant: 7")
        await page.get_by_role("button", name="Make the webhook").click()
        secret = await page.get_by_role("dialog").locator("code").inner_text()
        await page.get_by_role("button", name="I have it").click()
        await page.get_by_role("link", name=receiver.url()).click()

        await page.get_by_role("button", name="Send a test").click()
        row = page.get_by_role("row").filter(has_text="webhook.test")
        await expect(row).to_contain_text("200")
        (tested,) = receiver.taken
        verify_webhook(tested.body, tested.headers, secret)
        assert tested.headers["x-tenant"] == "7"

        receiver.answer = lambda _: (200 if len(receiver.requests) > 2 else 500, {})
        await client.events.publish("app.invoice.paid", {"n": 1})
        rows = page.get_by_role("row").filter(has_text="app.invoice.paid")
        await expect(rows).to_have_count(2)
        await expect(rows.nth(1)).to_contain_text("500")
        await rows.first.get_by_role("button", name="Resend").click()
        await expect(rows).to_have_count(3)
        await check_barriers_in_both_themes(page)
        assert [each.event["data"] for each in receiver.taken[1:]] == [{"n": 1}] * 2

        await page.get_by_role("button", name="Rotate").click()
        await page.get_by_role("dialog").get_by_role("button", name="Rotate").click()
        assert await page.get_by_role("dialog").locator("code").inner_text() != secret
        await page.get_by_role("button", name="I have it").click()
        await page.get_by_role("button", name="Disable").click()
        await page.get_by_role("button", name="Enable", exact=True).click()
        await page.get_by_role("button", name="Disable").wait_for()
        await page.get_by_role("button", name="Delete").click()
        await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        await page.get_by_text("No webhooks yet").wait_for()
