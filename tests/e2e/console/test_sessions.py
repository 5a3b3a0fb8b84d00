"""The console's sessions: their logs, and the frames of each client."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import expect
from support.console import ask, browser_of, signed_in
from support.server import ServerProcess

pytestmark = pytest.mark.anyio


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
        async with page.expect_download() as exported:
            await page.get_by_role("button", name="Export").click()
        log = Path(await (await exported.value).path()).read_text(encoding="utf-8")
        assert '"status":"success"' in log.replace(" ", "")
        await page.get_by_role("button", name="Delete").click()
        await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        await page.get_by_role("heading", name="Sessions", exact=True).wait_for()
        assert await page.get_by_role("link", name="sess_").count() == 0
