"""The five ways to watch a session; each drops at random and comes back with its position."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import orjson
from resonantgenesis import ResonantGenesis

from .browser import chromium, open_source, seen, sign_in
from .proxy import EvilProxy
from .server import KEY, ServerProcess
from .wire import Frame, FrameReader, streaming

Viewer = Callable[[ServerProcess, str, random.Random], Awaitable[list[Frame]]]
#: How often a viewer leaves before it stays to the end.
DROPS = 3


def _patience(drops: int, rng: random.Random) -> int:
    """How many frames to take before the next drop; the last connection has no end."""
    return rng.randrange(1, 60) if drops < DROPS else 1_000_000


async def by_curl(server: ServerProcess, session_id: str, rng: random.Random) -> list[Frame]:
    found: list[Frame] = []
    for drops in range(DROPS + 1):
        after = found[-1].position if found else 0
        process = await asyncio.create_subprocess_exec(
            "curl", "--silent", "--no-buffer", "--max-time", "60",
            "--header", f"Authorization: Bearer {KEY}",
            f"{server.url}/v1/sessions/{session_id}/stream?resume_from={after}",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        reader, left = FrameReader(), _patience(drops, rng)
        while left > 0 and (data := await process.stdout.read(65_536)):
            new = reader.feed(data)[:left]
            left -= len(new)
            found += new
        if process.returncode is None and left <= 0:
            process.kill()
        await process.wait()
    return found


async def by_browser(server: ServerProcess, session_id: str, rng: random.Random) -> list[Frame]:
    """EventSource with the cookie, through a network that cuts; it comes back by itself."""
    fates = iter(["cut", "cut"])
    proxy = EvilProxy(server.port, lambda: next(fates, "pass"), rng)
    proxy.budget = lambda: rng.randrange(1_500, 9_000)
    async with proxy.running(), chromium() as context:
        page = await context.new_page()
        await sign_in(page, server.url, KEY)
        # Cookies know no ports: the page on the other side of the proxy has it too.
        await page.goto(f"{proxy.url}/healthz")
        await open_source(page, f"/v1/sessions/{session_id}/stream?resume_from=0")
        await page.wait_for_function("() => window.seen.closed", timeout=60_000)
        brought = await seen(page)
    assert brought["opens"] >= 2, "the network was meant to cut it"
    return [Frame(one["id"], one["event"], one["data"]) for one in brought["frames"]]


async def by_sdk(server: ServerProcess, session_id: str, rng: random.Random) -> list[Frame]:
    found: list[Frame] = []
    async with ResonantGenesis(api_key=KEY, base_url=server.url) as client:
        for drops in range(DROPS + 1):
            left = _patience(drops, rng)
            after = found[-1].position if found else 0
            stream = client.sessions.join(session_id, resume_from=after)
            async for chunk in stream:
                found.append(_as_frame(chunk.raw))
                left -= 1
                if not left:
                    break
            await stream.aclose()
    return found


def _as_frame(raw: dict[str, object]) -> Frame:
    kind = "message" if raw["type"] == "text" else str(raw["type"])
    return Frame(str(raw["position"]), kind, orjson.dumps(raw).decode())


async def by_polling(server: ServerProcess, session_id: str, rng: random.Random) -> list[Frame]:
    found: list[Frame] = []
    async with server.client() as client:
        while True:
            params = {
                "after": found[-1].position if found else 0,
                "limit": rng.randrange(1, 40),
                "wait": rng.choice([0, 1, 10]),
            }
            answer = await client.get(f"/v1/sessions/{session_id}/events", params=params)
            assert answer.status_code == 200, answer.text
            found += [_as_frame(raw) for raw in answer.json()["events"]]
            if answer.json()["done"]:
                return found
            if not answer.json()["events"]:
                await asyncio.sleep(0.02)


async def by_compact(server: ServerProcess, session_id: str, rng: random.Random) -> list[Frame]:
    """Merged ranges; each connection but the last is left in the middle."""
    found: list[Frame] = []
    async with server.client() as client:
        for drops in range(DROPS + 1):
            left = _patience(drops, rng)
            params = {"compact": "true", "resume_from": found[-1].position if found else 0}
            path = f"/v1/sessions/{session_id}/stream"
            async with streaming(client, "GET", path, params=params) as (response, frames):
                assert response.status_code in {200, 204}
                async for frame in _first(frames, left):
                    found.append(frame)
    return found


async def _first(frames: AsyncIterator[Frame], count: int) -> AsyncIterator[Frame]:
    async for frame in frames:
        yield frame
        count -= 1
        if not count:
            return


VIEWERS: dict[str, Viewer] = {
    "curl": by_curl,
    "browser": by_browser,
    "sdk": by_sdk,
    "polling": by_polling,
    "compact": by_compact,
}


async def wait_for_position(client: httpx.AsyncClient, session_id: str, position: int) -> None:
    """Return when the session has come so far; 0: at once."""
    while position:
        params = {"after": 0, "limit": 1}
        answer = await client.get(f"/v1/sessions/{session_id}", params=params)
        if answer.json()["position"] >= position:
            return
        await asyncio.sleep(0.02)
