"""The console's files and workers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import expect
from resonantgenesis import ResonantGenesis
from resonantgenesis.serving import Turn
from support.console import browser_of, signed_in
from support.server import KEY, ServerProcess

pytestmark = pytest.mark.anyio


async def test_a_file_is_stored_fetched_and_deleted(server: ServerProcess, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "report.bin").write_bytes(content)
    async with browser_of(server) as watched:
        page = await signed_in(watched, server)
        await page.get_by_role("link", name="Files").click()
        await page.get_by_text("No files yet").wait_for()
        await page.get_by_label("Files to upload").set_input_files(tmp_path / "report.bin")
        row = page.get_by_role("row").filter(has_text="report.bin")
        await expect(row).to_contain_text("3 MB")
        async with page.expect_download() as fetched:
            await row.get_by_role("button", name="Download").click()
        assert Path(await (await fetched.value).path()).read_bytes() == content
        await row.get_by_role("button", name="Delete").click()
        await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        await page.get_by_text("No files yet").wait_for()


async def test_a_worker_is_listed_while_it_is_connected(server: ServerProcess) -> None:
    async def handler(turn: Turn) -> AsyncIterator[str]:
        yield turn.goal

    async with (
        browser_of(server) as watched,
        ResonantGenesis(base_url=server.url, api_key=KEY) as client,
    ):
        await client.agents.create(id="ledger", name="Ledger", engine="worker")
        page = await signed_in(watched, server)
        await page.get_by_role("link", name="Workers").click()
        await page.get_by_text("No worker serves Ledger").wait_for()
        serving = asyncio.create_task(client.agents.serve("ledger", handler, name="w-1"))
        row = page.get_by_role("row").filter(has_text="w-1")
        await expect(row).to_contain_text("ready")
        serving.cancel()
        await asyncio.wait({serving})
        await page.get_by_text("No worker is connected").wait_for()
        await client.agents.delete("ledger")
