"""A session of 100,000 chunks in the console, measured by the browser's own trace."""

from __future__ import annotations

import time

import pytest
from playwright.async_api import Page, expect
from resonantgenesis import ResonantGenesis
from support.console import browser_of, signed_in
from support.page_trace import Trace, Tracing
from support.server import KEY, ServerProcess

pytestmark = pytest.mark.anyio
#: Chunks of a turn; every turn has three more that are no text.
TURN = 20_000
#: Seconds until a session is open, and milliseconds of a task, at most.
OPEN = 2.0
TASK = 100.0
#: Milliseconds between two frames at 60 a second, with a tenth for the clock of a busy machine.
FRAME = 1000 / 60 * 1.1


async def long_session(server: ServerProcess, chunks: int) -> tuple[str, int]:
    """A session of about so many chunks, and the position of its last one."""
    async with ResonantGenesis(base_url=server.url, api_key=KEY) as client:
        made = await client.sessions.create(agent_id="guide", context={"words_per_second": 0})
        position = 0
        while position < chunks:
            goal = f"count to {min(TURN, chunks - position)}"
            position = (await made.execute(goal=goal)).position
        return made.session_id, position


async def scroll(page: Page, pixels: int, pixels_per_second: int) -> None:
    """As a finger does it, so that the browser itself decides when to draw."""
    box = await page.locator(".log").bounding_box()
    assert box is not None
    session = await page.context.new_cdp_session(page)
    await session.send(
        "Input.synthesizeScrollGesture",
        {
            "x": box["x"] + box["width"] / 2,
            "y": box["y"] + box["height"] / 2,
            "yDistance": -pixels,
            "speed": pixels_per_second,
        },
    )


async def read_log(page: Page, server: ServerProcess, chunks: int) -> tuple[float, Trace, Trace]:
    """Open the log of a session of so many chunks, scroll and jump in it as a person does. Seconds
    until it was open, what the opening took, and what the scrolling."""
    session_id, last = await long_session(server, chunks)
    await page.goto(f"{server.url}/console/sessions")
    link = page.get_by_role("link", name=session_id)
    await link.wait_for()
    opening = Tracing(page)
    async with opening:
        begun = time.monotonic()
        await link.click()
        await page.get_by_role("tab", name="Log").click()
        await page.locator("#entry-2 .kind").wait_for()
        seconds = time.monotonic() - begun
    scrolling = Tracing(page)
    async with scrolling:
        await scroll(page, 9_000, 3_000)
    await page.get_by_label("Position", exact=True).fill(str(last // 2))
    await page.get_by_role("button", name="Go", exact=True).click()
    await page.locator(f"#entry-{last // 2} .kind").wait_for()
    await page.keyboard.press("Tab")
    await page.get_by_label("Entries of the log").press("End")
    entry = page.get_by_label(f"Entry {last}", exact=True)
    await expect(entry).to_contain_text('"status": "success"')
    return seconds, opening.trace, scrolling.trace


async def test_a_log_is_read_where_one_looks(server: ServerProcess) -> None:
    async with browser_of(server) as watched:
        page = await signed_in(watched, server)
        await read_log(page, server, 3_000)


@pytest.mark.soak
async def test_a_hundred_thousand_chunks_open_and_scroll_smoothly(server: ServerProcess) -> None:
    async with browser_of(server) as watched:
        page = await signed_in(watched, server)
        seconds, opening, scrolling = await read_log(page, server, 100_000)
        print(
            f"open after {seconds:.2f} s, longest task {opening.longest:.0f} ms; scrolled at "
            f"{1000 / scrolling.frame:.0f} frames a second, longest task {scrolling.longest:.0f} ms"
        )
        assert seconds < OPEN
        assert max(opening.longest, scrolling.longest) < TASK
        assert scrolling.frame < FRAME
