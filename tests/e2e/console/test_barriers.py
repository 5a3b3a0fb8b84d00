"""No page of the console keeps anybody out, in both themes and on small screens."""

from __future__ import annotations

import pytest
from support.console import browser_of, check_barriers, signed_in
from support.server import ServerProcess

pytestmark = pytest.mark.anyio
PAGES = (
    "", "play", "sessions", "events", "agents", "teams", "workers", "webhooks", "files", "usage",
    "keys", "organizations",
)  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_no_page_has_a_serious_barrier(server: ServerProcess, scheme: str) -> None:
    async with browser_of(server) as watched:
        page = await signed_in(watched, server)
        await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        for name in PAGES:
            await page.goto(f"{server.url}/console/{name}")
            await page.get_by_role("main").locator("h1, form").first.wait_for()
            await check_barriers(page)
