"""Debian's Chromium, driven by Playwright; nothing is downloaded and nothing but us is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import BrowserContext, Page, async_playwright

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

#: Collects what an EventSource brings; the listeners are those of PROTOCOL.md's event names.
_COLLECT = """
(url) => {
  const source = new EventSource(url);
  const seen = { frames: [], opens: 0, errors: 0, closed: false };
  source.onopen = () => { seen.opens += 1; };
  source.onerror = () => {
    seen.errors += 1;
    if (source.readyState === EventSource.CLOSED) seen.closed = true;
  };
  for (const name of ["message", "step", "tool_call", "tool_result", "error", "done"]) {
    source.addEventListener(name, (event) => {
      if (typeof event.data === "string") {
        seen.frames.push({ id: event.lastEventId, event: name, data: event.data });
      }
    });
  }
  window.seen = seen;
  window.source = source;
}
"""

_MAKE_COOKIE = """
async ([key, body]) => {
  const answer = await fetch("/v1/tokens", {
    method: "POST",
    headers: { "Authorization": "Bearer " + key, "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  return answer.status;
}
"""


@asynccontextmanager
async def chromium() -> AsyncIterator[BrowserContext]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=_ARGUMENTS, timeout=60_000
        )
        try:
            context = await browser.new_context()
            context.set_default_timeout(60_000)
            yield context
        finally:
            await browser.close()


async def sign_in(page: Page, base_url: str, key: str, **body: Any) -> None:
    """Open a page of the server's and let it have the cookie."""
    await page.goto(f"{base_url}/healthz")
    body = {"scopes": ["sessions:read"], "cookie": True, **body}
    assert await page.evaluate(_MAKE_COOKIE, [key, body]) == 201


async def open_source(page: Page, path: str) -> None:
    """Start an EventSource; `window.seen` collects what it brings."""
    await page.evaluate(_COLLECT, path)


async def seen(page: Page) -> dict[str, Any]:
    """What it has brought so far."""
    value: dict[str, Any] = await page.evaluate("() => window.seen")
    return value
