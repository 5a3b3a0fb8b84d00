"""The playground's question as code: each form is a program that runs as it was copied."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from playwright.async_api import Page
from resonantgenesis import ResonantGenesis
from support.console import ask, browser_of, signed_in
from support.node import CLIENTS, SDK, install
from support.server import KEY, ServerProcess

pytestmark = pytest.mark.anyio
_MODULE = ("node", "--input-type=module", "--eval")
#: What runs each form.
PROGRAMS = {
    "curl": ("bash", "-c"),
    "Python": (sys.executable, "-c"),
    "TypeScript": _MODULE,
    "AI SDK": _MODULE,
    "OpenAI": (sys.executable, "-c"),
}
#: What each form has of a turn's settings: its client may have no place for all of them.
SENT = {
    "curl": "calculator",
    "Python": "calculator",
    "TypeScript": "calculator",
    "AI SDK": "// This client cannot set: tools.",
    "OpenAI": "# This client cannot set: context, max_steps, tools.",
}
#: Seconds for a program.
_SECONDS = 60


async def copied(page: Page, name: str) -> str:
    """The question as code for this client."""
    await page.evaluate("navigator.clipboard.writeText('')")
    await page.get_by_role("button", name="Copy as").click()
    await page.get_by_role("menuitem", name=name, exact=True).click()
    await page.wait_for_function("navigator.clipboard.readText()")
    code: str = await page.evaluate("navigator.clipboard.readText()")
    return code


async def printed(name: str, code: str, folder: Path) -> str:
    """What the program prints."""
    process = await asyncio.create_subprocess_exec(
        *PROGRAMS[name],
        code,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "RESONANTGENESIS_API_KEY": KEY},
    )
    try:
        async with asyncio.timeout(_SECONDS):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, code
    return said.decode()


async def last_turn(server: ServerProcess, session_id: str) -> list[str]:
    """Its question and its answer."""
    async with ResonantGenesis(base_url=server.url, api_key=KEY) as client:
        messages = (await client.sessions.messages(session_id, limit=2)).data
    return ["".join(part.get("content", "") for part in one.parts) for one in messages]


async def check_new_session(page: Page, folder: Path) -> None:
    await page.get_by_label("Your question").fill("count to 5")
    for name in PROGRAMS:
        said = await printed(name, await copied(page, name), folder)
        assert said == "1 2 3 4 5" or (name == "curl" and "event: done" in said), (name, said)


async def check_turn_of_session(page: Page, server: ServerProcess, folder: Path) -> None:
    await ask(page, "count to 3")
    await page.get_by_label("Answer 1").get_by_text("success", exact=True).wait_for()
    session_id = page.url.partition("session=")[2].partition("&")[0]
    await page.get_by_label("Context").fill('{"words_per_second": 0, "it\'s": [null, true]}')
    await page.get_by_label("Most steps").fill("3")
    await page.get_by_label("The agent's own").uncheck()
    await page.get_by_label("calculator").check()
    for turn, name in enumerate(PROGRAMS, 2):
        goal = f"count to '5\" for {name} \\ $(exit) `1` ${{2}} ü"
        await page.get_by_label("Your question").fill(goal)
        code = await copied(page, name)
        assert SENT[name] in code
        said = await printed(name, code, folder)
        question, answer = await last_turn(server, session_id)
        assert question == goal
        assert said == answer or (name == "curl" and "event: done" in said), (name, said)
        shown = page.get_by_label(f"Answer {turn}", exact=True)
        await shown.get_by_text("success", exact=True).wait_for()


async def test_each_copied_program_runs_as_it_is(server: ServerProcess, tmp_path: Path) -> None:
    install(tmp_path, {"@resonantgenesis/sdk": SDK, "ai": CLIENTS / "node_modules/ai7"})
    async with browser_of(server) as watched:
        await watched.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = await signed_in(watched, server)
        await check_new_session(page, tmp_path)
        await check_turn_of_session(page, server, tmp_path)
