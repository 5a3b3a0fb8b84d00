"""A session of the console replayed, and in the frames of each kind of client."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect
from resonantgenesis import ResonantGenesis
from support.console import browser_of, check_barriers, signed_in
from support.server import KEY, Serve, ServerProcess

pytestmark = pytest.mark.anyio
#: Of each kind of client: a frame with which the turn begins, and one with which it ends.
FRAMES = {
    "Server-Sent Events": ("event: step", "event: done"),
    "Compact": ("event: step", '"content":"1 2 3"'),
    "WebSocket": ('← {"type":"subscribed"', '← {"type":"done"'),
    "AI SDK": ('"type":"start"', "[DONE]"),
    "OpenAI Responses": ("response.created", "response.completed"),
    "AG-UI": ('"type":"RUN_STARTED"', '"type":"RUN_FINISHED"'),
}


async def session_of(client: ResonantGenesis) -> str:
    made = await client.sessions.create(agent_id="guide")
    for goal in ("count to 3", "count to 5", "count to 3"):
        await made.execute(goal=goal)
    return made.session_id


async def open_view(page: Page, url: str, view: str) -> None:
    await page.goto(f"{url}?view={view}")
    await page.get_by_role("tabpanel").wait_for()


async def frames_of_one_turn(page: Page, url: str) -> None:
    """Each kind of client gets the turn that was chosen, and nothing of the others."""
    await open_view(page, url, "frames")
    for turn, last in ((3, "3"), (2, "5")):
        await page.get_by_label("Turn").select_option(str(turn))
        for name, (first, end) in FRAMES.items():
            frames = page.get_by_role("region", name=name).locator("pre")
            await expect(frames).to_contain_text(first)
            if name != "Compact":
                await expect(frames).to_contain_text(end)
            await expect(frames).to_contain_text(last)
        runs = page.get_by_role("region", name="AG-UI").locator("pre")
        assert (await runs.inner_text()).count("RUN_STARTED") == 1
    await check_barriers(page)


async def replay_at_any_pace(page: Page, url: str) -> None:
    await open_view(page, url, "replay")
    stage = page.get_by_label("The conversation")
    done = stage.get_by_text("success", exact=True)
    await page.get_by_label("Pace").select_option("at once")
    await expect(done).to_have_count(3)
    await expect(stage.get_by_text("count to 5")).to_be_visible()
    # Back to a moment within the second turn, which runs again.
    slider = page.get_by_label("Position in the log")
    await slider.fill("9")
    await expect(stage.get_by_label("Answer 2").get_by_text("running")).to_be_visible()
    await expect(stage.get_by_label("Answer 2").locator(".markdown")).to_have_text("1 2")
    assert await stage.get_by_label("Answer 3").count() == 0
    await page.get_by_label("Pace").select_option("100 times")
    await page.get_by_role("button", name="Play").click()
    await expect(done).to_have_count(3)
    await expect(page.get_by_role("button", name="Play")).to_be_visible()
    await check_barriers(page)


async def log_that_grows(page: Page, url: str, client: ResonantGenesis) -> None:
    """It is read without a mouse."""
    await open_view(page, url, "log")
    log = page.get_by_label("Entries of the log")
    await log.press("Home")
    await log.press("ArrowDown")
    await expect(page.get_by_label("Entry 2", exact=True)).to_contain_text('"content": "1 "')
    await page.get_by_label("Follow").check()
    session = await client.sessions.get(url.rpartition("/")[2])
    last = (await session.execute(goal="count to 400")).position
    await expect(page.locator(f"#entry-{last} .kind")).to_have_text("done")
    await check_barriers(page)


async def test_a_session_in_all_its_views(server: ServerProcess) -> None:
    async with (
        browser_of(server) as watched,
        ResonantGenesis(base_url=server.url, api_key=KEY) as client,
    ):
        page = await signed_in(watched, server)
        url = f"{server.url}/console/sessions/{await session_of(client)}"
        await frames_of_one_turn(page, url)
        await replay_at_any_pace(page, url)
        await log_that_grows(page, url, client)


async def log_without_its_beginning(page: Page, url: str) -> None:
    """Conversation, log and frames say what is no longer kept."""
    await open_view(page, url, "chat")
    await expect(page.get_by_text("Turns 1 to 3 are no longer kept")).to_be_visible()
    await expect(page.get_by_label("Answer 4", exact=True)).to_contain_text("success")
    await page.get_by_role("tab", name="Log").click()
    await expect(page.get_by_text("older ones are no longer kept")).to_be_visible()
    await page.get_by_label("Entries of the log").press("Home")
    await expect(page.locator(".log-row[aria-selected=true] .kind")).not_to_be_empty()
    await open_view(page, url, "frames")
    await page.get_by_label("Turn", exact=True).select_option("1")
    events = page.get_by_role("region", name="Server-Sent Events")
    await expect(events).to_contain_text("no longer kept")
    await check_barriers(page)


async def turn_that_waits(page: Page, url: str) -> None:
    """AG-UI's clients get a run that ends with the question, the others what is asked."""
    await open_view(page, url, "frames")
    runs = page.get_by_role("region", name="AG-UI").locator("pre")
    await expect(runs).to_contain_text('"type":"RUN_FINISHED"')
    await expect(runs).to_contain_text("Pay it back?")
    events = page.get_by_role("region", name="Server-Sent Events").locator("pre")
    await expect(events).to_contain_text("event: waiting")
    await open_view(page, url, "chat")
    answer = page.get_by_label("Answer 1", exact=True)
    await expect(answer.locator("summary").filter(has_text="refund")).to_contain_text("waiting")


async def test_a_trimmed_log_and_a_turn_that_waits_say_so(serve: Serve) -> None:
    agents = {"refunds": "support.agents:buyer"}
    server = serve(agents=agents, limits__chunks_per_session=100)
    async with (
        browser_of(server) as watched,
        ResonantGenesis(base_url=server.url, api_key=KEY) as client,
    ):
        trimmed = await client.sessions.create(agent_id="guide")
        for words in (60, 61, 62, 63):
            await trimmed.execute(goal=f"count to {words}")
        waiting = await client.sessions.create(agent_id="refunds")
        assert (await waiting.execute(goal="paid", raise_on_error=False)).status == "waiting"
        page = await signed_in(watched, server)
        sessions = f"{server.url}/console/sessions"
        await log_without_its_beginning(page, f"{sessions}/{trimmed.session_id}")
        await turn_that_waits(page, f"{sessions}/{waiting.session_id}")
        # Chromium complains of answers that are errors, and of sockets left while they open.
        expected = ("410", "closed before the connection is established")
        watched.complaints = [
            one for one in watched.complaints if not any(words in one for words in expected)
        ]
