"""The console's live events."""

from __future__ import annotations

from datetime import datetime

import pytest
from playwright.async_api import expect
from resonantgenesis import ResonantGenesis
from support.console import browser_of, signed_in
from support.server import KEY, ServerProcess

pytestmark = pytest.mark.anyio
#: A time in milliseconds as the field has it: the browser's own zone, to the second.
_AS_WRITTEN = """
(time) => {
  const local = new Date(time - new Date(time).getTimezoneOffset() * 60_000);
  return local.toISOString().slice(0, 19);
}
"""


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


async def test_what_is_published_in_a_pause_comes_after_it_in_order(server: ServerProcess) -> None:
    async with (
        browser_of(server) as watched,
        ResonantGenesis(base_url=server.url, api_key=KEY) as client,
    ):
        page = await signed_in(watched, server)
        await page.goto(f"{server.url}/console/events")
        await client.events.publish("app.before", {})
        await page.get_by_role("button", name="app.before").wait_for()
        await page.get_by_role("button", name="Pause").click()
        for number in range(100):
            await client.events.publish(f"app.n{number}", {})
        await page.get_by_role("button", name="Go on (100 new)").wait_for()
        names = page.locator("tbody").get_by_role("button", name="app.")
        assert (await names.all_inner_texts())[0] == "app.before"
        await page.get_by_role("button", name="Go on").click()
        await expect(names.first).to_have_text("app.n99")
        texts = await names.all_inner_texts()
        assert texts[:101] == [*[f"app.n{number}" for number in range(99, -1, -1)], "app.before"]


async def test_events_are_replayed_since_a_time(server: ServerProcess) -> None:
    async with (
        browser_of(server) as watched,
        ResonantGenesis(base_url=server.url, api_key=KEY) as client,
    ):
        page = await signed_in(watched, server)
        await page.goto(f"{server.url}/console/events")

        async def publish(kind: str) -> str:
            """Its second, as one writes it into the field."""
            event = await client.events.publish(kind, {})
            at = datetime.fromisoformat(event.created_at)
            written: str = await page.evaluate(_AS_WRITTEN, at.timestamp() * 1_000)
            return written

        async def show(since: str) -> None:
            await page.get_by_label("Since").fill(since)
            await page.get_by_role("button", name="Show").click()

        await page.get_by_label("Patterns").fill("app.since.*")
        earlier = await publish("app.since.earlier")
        later = await publish("app.since.later")
        while later == earlier:  # of the same second
            later = await publish("app.since.later")
        old = page.get_by_role("button", name="app.since.earlier")
        new = page.get_by_role("button", name="app.since.later")
        await show(later)
        await expect(new).to_have_count(1)
        await expect(old).to_have_count(0)
        await show(earlier)
        await expect(old).to_have_count(1)
        await show("")
        await expect(old).to_have_count(1)
        await client.events.publish("app.since.live", {})
        await page.get_by_role("button", name="app.since.live").wait_for()
