"""No page of the console keeps anybody out, in both themes and on small screens."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from resonantgenesis import ResonantGenesis
from support.console import browser_of, check_barriers_in_both_themes, signed_in
from support.server import KEY, ServerProcess

pytestmark = pytest.mark.anyio
PAGES = (
    "", "play", "sessions", "events", "agents", "teams", "workers", "webhooks", "files", "usage",
    "keys", "organizations", "nowhere",
)  # fmt: skip


async def check_pages(server: ServerProcess, names: Sequence[str]) -> None:
    """Check these pages, and the one on which one signs in."""
    async with browser_of(server) as watched:
        page = await signed_in(watched, server)
        for name in names:
            await page.goto(f"{server.url}/console/{name}")
            await page.get_by_role("main").locator("h1, form").first.wait_for()
            await page.get_by_role("status", name="Loading").wait_for(state="detached")
            await check_barriers_in_both_themes(page)
        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_label("API key").wait_for()
        await check_barriers_in_both_themes(page)


@pytest.mark.parametrize("half", [0, 1])
async def test_no_page_has_a_serious_barrier(server: ServerProcess, half: int) -> None:
    await check_pages(server, PAGES[half::2])


async def test_no_view_of_a_session_has_a_serious_barrier(server: ServerProcess) -> None:
    async with ResonantGenesis(base_url=server.url, api_key=KEY) as client:
        session = await client.sessions.create(agent_id="guide")
        await session.execute(goal="How do I resume a stream in Python?")
    views = ("", "?view=log", "?view=replay", "?view=frames")
    await check_pages(server, [f"sessions/{session.session_id}{view}" for view in views])
