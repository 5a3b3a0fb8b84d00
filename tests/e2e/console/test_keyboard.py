"""The console without a mouse."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect
from support.console import browser_of, check_barriers, signed_in
from support.server import ServerProcess

pytestmark = pytest.mark.anyio
#: The name of what has the focus, and whether one sees that: an outline, or a border around.
_FOCUS = """
() => {
  const at = document.activeElement;
  const labelled = at.querySelector("[aria-label]");
  const name = at.getAttribute("aria-label") ?? labelled?.getAttribute("aria-label")
    ?? at.innerText.trim();
  const shows = (one) => getComputedStyle(one).outlineStyle !== "none";
  const composer = at.closest(".composer");
  return [name, shows(at) || (composer !== null && composer.matches(":focus-within"))];
}
"""
#: As somebody does whose hands are faster than the browser: it tells of the closing afterwards.
_CLOSE_AND_OPEN = """
() => {
  document.querySelector("dialog").close();
  dispatchEvent(new KeyboardEvent("keydown", { key: "k", ctrlKey: true }));
}
"""


async def command(page: Page, text: str) -> None:
    """Choose a command of the palette by a part of its name."""
    await page.keyboard.press("Control+k")
    await page.get_by_role("combobox", name="Command").wait_for()
    await page.keyboard.type(text)
    await expect(page.get_by_role("option").first).to_contain_text(re.compile(text, re.IGNORECASE))
    await page.keyboard.press("Enter")


async def palette_leads_everywhere(page: Page) -> None:
    await command(page, "ask guide")
    await expect(page).to_have_url(re.compile(r"agent=guide"))
    await page.keyboard.press("/")
    await page.keyboard.type("count to 3")
    await page.keyboard.press("Enter")
    await page.get_by_label("Answer 1").get_by_text("success", exact=True).wait_for()
    session_id = await page.get_by_role("link", name="sess_").inner_text()
    await command(page, "webhooks")
    await page.get_by_role("heading", name="Webhooks", exact=True).wait_for()
    await command(page, session_id)
    await expect(page).to_have_url(re.compile(session_id))
    theme = await page.locator("html").get_attribute("data-theme")
    await command(page, "light or dark")
    await expect(page.locator("html")).not_to_have_attribute("data-theme", theme or "")
    await page.keyboard.press("Control+k")
    await page.get_by_role("combobox", name="Command").fill("nothing of this name")
    await page.get_by_text("Nothing of that name").wait_for()
    await check_barriers(page)
    await page.keyboard.press("Escape")
    await command(page, "sign out")
    await page.get_by_label("API key").wait_for()


async def keys_lead_to_pages_unless_one_writes(page: Page) -> None:
    await page.get_by_label("Your question").press("?")
    await expect(page.get_by_label("Your question")).to_have_value("?")
    await page.get_by_label("Conversation").focus()
    await page.keyboard.press("?")
    keys = page.get_by_role("dialog", name="Keys")
    await keys.get_by_text("Webhooks").wait_for()
    await check_barriers(page)
    await page.keyboard.press("Escape")
    await page.keyboard.press("g")
    await page.keyboard.press("s")
    await page.get_by_role("heading", name="Sessions", exact=True).wait_for()
    await page.keyboard.press("?")
    await keys.get_by_label("Single keys").uncheck()
    await page.keyboard.press("Escape")
    await page.keyboard.press("g")
    await page.keyboard.press("e")
    await page.keyboard.press("Control+k")
    await page.get_by_role("combobox", name="Command").wait_for()
    await expect(page.get_by_role("heading", name="Sessions", exact=True)).to_be_visible()


async def palette_opens_while_the_keys_close(page: Page) -> None:
    await page.get_by_label("Conversation").focus()
    await page.keyboard.press("?")
    await page.get_by_role("dialog", name="Keys").wait_for()
    await page.evaluate(_CLOSE_AND_OPEN)
    await page.get_by_role("combobox", name="Command").wait_for()
    await expect(page.get_by_role("dialog", name="Keys")).to_have_count(0)


async def tab_reaches_all_and_shows_where_it_is(page: Page) -> None:
    # A page that has just been loaded begins at its beginning.
    await page.reload()
    await page.get_by_label("Agent", exact=True).wait_for()
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="Skip to the page")).to_be_focused()
    seen: list[str] = []
    while "Ask" not in seen[-1:] and len(seen) < 60:
        name, is_visible = await page.evaluate(_FOCUS)
        seen.append(name)
        assert is_visible, name
        if name == "Your question":
            await page.keyboard.type("x")
        await page.keyboard.press("Tab")
    for name in ("Playground", "Keys", "Sign out", "Conversation", "Copy as", "Agent", "Ask"):
        assert name in seen, (name, seen)


async def test_everything_is_reached_without_a_mouse(server: ServerProcess) -> None:
    async with browser_of(server) as watched:
        await tab_reaches_all_and_shows_where_it_is(await signed_in(watched, server))
        await palette_leads_everywhere(await signed_in(watched, server))
        await palette_opens_while_the_keys_close(await signed_in(watched, server))
        await keys_lead_to_pages_unless_one_writes(await signed_in(watched, server))
