"""The console's playground: a turn asked, watched, stopped and answered."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import expect
from resonantgenesis import ResonantGenesis
from support.console import PATIENCE, ask, browser_of, check_barriers, link_of, signed_in
from support.server import KEY, Serve, ServerProcess

pytestmark = pytest.mark.anyio


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
        await other.get_by_role("heading", name="Overview").wait_for()
        await other.goto(page.url)
        for window in (page, other):
            await expect(
                window.get_by_label("Answer 1").get_by_text("success", exact=True)
            ).to_be_visible(timeout=PATIENCE * 1000)
        text = await answer.inner_text()
        assert await other.get_by_label("Answer 1").inner_text() == text
        counted = [int(word) for word in re.findall(r"\d+", text.partition("success")[0])]
        assert counted == list(range(1, 201))


async def test_a_draft_outlives_a_reload_and_a_turn_is_cancelled(serve: Serve) -> None:
    server = serve(words_per_second=20, agents={"slow": "support.agents:slow"})
    async with browser_of(server) as watched:
        page = await signed_in(watched, server)
        question = page.get_by_label("Your question")
        await question.fill("count to 5000")
        await page.get_by_label("Agent", exact=True).select_option("slow")
        await page.get_by_label("Agent", exact=True).select_option("guide")
        await page.reload()
        await expect(question).to_have_value("count to 5000")
        # What has not reached the server is not lost either.
        await page.route("**/execute", lambda route: route.abort())
        await question.press("Enter")
        await expect(question).to_have_value("")
        await page.unroute_all(behavior="ignoreErrors")
        await page.reload()
        await expect(question).to_have_value("count to 5000")
        await question.press("Enter")
        await page.get_by_label("Answer 1").get_by_text("1 2").wait_for()
        await page.reload()
        await expect(question).to_have_value("")
        # The SDK says why it asks again.
        watched.complaints = [one for one in watched.complaints if "could not connect" not in one]
        await question.fill("Stop at 50.")
        await page.get_by_role("button", name="Steer").click()
        await page.get_by_text("before its next step").wait_for()
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


async def test_several_values_are_asked_for_with_a_form(serve: Serve) -> None:
    server = serve(agents={"parcel": "support.agents:parcel"})
    async with browser_of(server) as watched:
        page = await signed_in(watched, server)
        await page.get_by_label("Agent", exact=True).select_option("parcel")
        await ask(page, "Send it.")
        card = page.get_by_label("The agent asks")
        await card.get_by_label("City").fill("Oslo")
        await card.get_by_label("weight").fill("2.5")
        await card.get_by_label("fragile").select_option("yes")
        await card.get_by_label("speed").select_option("fast")
        await check_barriers(page)
        await card.get_by_role("button", name="Send").click()
        said = '{"city": "Oslo", "weight": 2.5, "fragile": true, "speed": "fast"}'
        await expect(page.get_by_label("Answer 1")).to_contain_text(said)


async def test_a_link_with_the_session_alone_asks_its_agent(server: ServerProcess) -> None:
    async with ResonantGenesis(base_url=server.url, api_key=KEY) as client:
        made = await client.sessions.execute("silent", "Hello", context={"seconds": 0})
    async with browser_of(server) as watched:
        page = await signed_in(watched, server)
        await page.goto(f"{server.url}/console/play?session={made.session_id}")
        await expect(page.get_by_label("Agent", exact=True)).to_have_value("silent")
