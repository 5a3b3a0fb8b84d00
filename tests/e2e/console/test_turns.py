"""What can be done with the turns of the playground, and how smoothly they come."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect
from resonantgenesis import ResonantGenesis
from support.console import ask, browser_of, check_barriers, signed_in
from support.page_trace import Tracing
from support.server import KEY, Serve, ServerProcess

pytestmark = pytest.mark.anyio
#: Milliseconds of a task, at most: a longer one is seen as a stutter.
TASK = 100.0


async def until_success(page: Page, turn: int) -> None:
    answer = page.get_by_label(f"Answer {turn}", exact=True)
    await answer.get_by_text("success", exact=True).wait_for()


async def test_a_turn_is_regenerated_and_forked(server: ServerProcess) -> None:
    async with browser_of(server) as watched:
        page = await signed_in(watched, server)
        await ask(page, "count to 3")
        await until_success(page, 1)
        await expect(page.get_by_text("first chunk after")).to_contain_text("chunks")
        await page.get_by_role("button", name="Regenerate").click()
        await until_success(page, 2)
        await page.get_by_text("regenerated as turn 2").wait_for()
        await ask(page, "count to 4")
        await until_success(page, 3)
        origin = page.url
        await page.get_by_role("button", name="Fork from here").nth(1).click()
        await page.get_by_text("begins with turn 2").wait_for()
        assert page.url != origin
        await expect(page.get_by_label("Answer 2", exact=True)).to_be_visible()
        assert await page.get_by_label("Answer 3", exact=True).count() == 0

        await page.get_by_label("Context").fill("[]")
        await page.keyboard.press("Tab")
        await ask(page, "count to 2")
        await page.get_by_text("The context must be a JSON object").wait_for()
        # What was not asked is not lost.
        await expect(page.get_by_label("Your question")).to_have_value("count to 2")
        await page.get_by_label("Context").fill("")
        await ask(page, "How do I resume a stream in Python?")
        await page.locator(".listing .hljs-keyword").first.wait_for()
        await check_barriers(page)


async def test_questions_that_wait_are_changed_and_taken_out(serve: Serve) -> None:
    server = serve(words_per_second=20)
    async with browser_of(server) as watched:
        page = await signed_in(watched, server)
        await ask(page, "count to 5000")
        await page.get_by_label("Answer 1").get_by_text("1 2").wait_for()
        for goal in ("count to 4", "count to 5"):
            await ask(page, goal)
        await page.get_by_role("button", name="Edit").first.click()
        await page.get_by_role("textbox", name="The question").fill("count to 6")
        await page.get_by_role("button", name="Save").click()
        await page.get_by_text("count to 6").wait_for()
        await page.get_by_role("button", name="Remove").nth(1).click()
        await page.get_by_label("Answer 3").get_by_text("cancelled").wait_for()
        async with ResonantGenesis(base_url=server.url, api_key=KEY) as client:
            session_id = page.url.partition("session=")[2].partition("&")[0]
            await client.sessions.cancel(session_id, turn=1)
        await until_success(page, 2)
        await expect(page.get_by_label("Answer 2")).to_contain_text("1 2 3 4 5 6")


@pytest.mark.soak
async def test_a_thousand_chunks_a_second_come_without_a_long_task(serve: Serve) -> None:
    server = serve(words_per_second=1_000)
    async with browser_of(server) as watched:
        page = await signed_in(watched, server)
        tracing = Tracing(page)
        async with tracing:
            await ask(page, "count to 10000")
            await until_success(page, 1)
        trace = tracing.trace
        print(f"longest task {trace.longest:.0f} ms, {1000 / trace.frame:.0f} frames a second")
        print(await page.get_by_text("first chunk after").inner_text())
        assert trace.longest < TASK
