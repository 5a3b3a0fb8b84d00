"""The console, used as a person does, in Chromium on the real server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page, expect
from resonantgenesis import ResonantGenesis, verify_webhook
from support.browser import chromium
from support.receiver import Receiver
from support.server import KEY, Serve, ServerProcess

pytestmark = pytest.mark.anyio
PATIENCE = 120
AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
PAGES = ("play", "sessions", "events", "agents", "teams", "webhooks", "usage", "keys")


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
        assert watched.complaints == []


async def link_of(server: ServerProcess) -> str:
    async with ResonantGenesis(base_url=server.url, api_key=KEY) as client:
        return f"{server.url}{(await client.tokens.link()).path}"


async def signed_in(watched: Watched, server: ServerProcess) -> Page:
    page = await watched.page()
    await page.goto(await link_of(server))
    await page.get_by_label("Your question").wait_for()
    return page


async def ask(page: Page, goal: str) -> None:
    await page.get_by_label("Your question").fill(goal)
    await page.keyboard.press("Enter")


async def check_barriers(page: Page) -> None:
    """Nothing of the page keeps anybody out, and it is as wide as its window."""
    await page.evaluate(AXE.read_text(encoding="utf-8"))
    found = await page.evaluate("axe.run()")
    serious = [
        (one["id"], one["nodes"][0]["html"])
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
    ]
    assert serious == [], page.url
    for width in (1440, 360):
        await page.set_viewport_size({"width": width, "height": 800})
        assert await page.evaluate("document.body.scrollWidth") <= width, (page.url, width)


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
        await page.get_by_label("Your question").wait_for()
        assert "sign-in" not in page.url
        await page.get_by_role("button", name="Sign out").click()
        await page.goto(link)
        await expect(page.get_by_role("alert")).to_contain_text("has been used")
        await page.get_by_label("API key").fill(KEY)
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_label("Your question").wait_for()
        # Chromium tells of every answer that is an error.
        watched.complaints = [one for one in watched.complaints if "40" not in one]


async def test_an_answer_goes_on_over_a_reload_a_cut_and_in_a_second_window(serve: Serve) -> None:
    server = serve(words_per_second=20)
    async with browser_of(server) as watched:
        page = await signed_in(watched, server)
        await ask(page, "count to 200")
        answer = page.get_by_label("Answer 1")
        await expect(answer).to_contain_text("1 2 3")
        await page.reload()
        await expect(answer).to_contain_text("1 2 3")
        await page.get_by_role("button", name="Cut the connection").click()
        other = await watched.page()
        # The address alone leads there; each window signs in by itself.
        await other.goto(await link_of(server))
        await other.get_by_label("Your question").wait_for()
        await other.goto(page.url)
        for window in (page, other):
            await expect(
                window.get_by_label("Answer 1").get_by_text("success", exact=True)
            ).to_be_visible(timeout=PATIENCE * 1000)
        text = await answer.inner_text()
        assert await other.get_by_label("Answer 1").inner_text() == text
        counted = [int(word) for word in re.findall(r"\d+", text.partition("success")[0])]
        assert counted == list(range(1, 201))


async def test_a_turn_is_cancelled(serve: Serve) -> None:
    server = serve(words_per_second=20)
    async with browser_of(server) as watched:
        page = await signed_in(watched, server)
        await ask(page, "count to 5000")
        await page.get_by_role("button", name="Stop").click()
        await page.get_by_label("Answer 1").get_by_text("cancelled").wait_for()


async def test_an_approval_is_answered_in_place(serve: Serve, tmp_path: Path) -> None:
    server = serve(agents={"refunds": "support.agents:buyer"})
    async with browser_of(server) as watched:
        page = await signed_in(watched, server)
        await page.get_by_label("Agent", exact=True).select_option("refunds")
        await ask(page, str(tmp_path / "paid"))
        await page.get_by_label("Approval needed").get_by_role("button", name="Approve").click()
        await page.get_by_label("Answer 1").get_by_text("success", exact=True).wait_for()
    assert (tmp_path / "paid").read_text(encoding="utf-8").count("\n") == 1


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
        await check_barriers(page)
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_no_page_has_a_serious_barrier(server: ServerProcess, scheme: str) -> None:
    async with browser_of(server) as watched:
        page = await signed_in(watched, server)
        await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        for name in PAGES:
            await page.goto(f"{server.url}/console/{name}")
            await page.get_by_role("main").locator("h1, form").first.wait_for()
            await check_barriers(page)
