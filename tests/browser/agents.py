"""Agents for the browser tests, loaded as `browser.agents:NAME`."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator

from resonantgenesis_server.agent_api import AgentChunk, Step, Turn

#: Tokens a second, and how many come between two sleeps: timers are no finer than this.
RATE = 2_000
_BURST = 20

#: What `held` waits for, by session.
_released: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)


async def fast(turn: Turn) -> AsyncIterator[AgentChunk]:
    """As many numbers as the goal says, each a chunk, 2,000 a second; late ones are made up for."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for number in range(1, int(turn.goal) + 1):
        yield f"{number} "
        if number % _BURST == 0:
            await asyncio.sleep(max(0.0, begun + number / RATE - loop.time()))


async def thinking(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Thinks aloud before it answers."""
    yield Step("think")
    for word in ("One ", "thing ", "after ", "another."):
        yield Step("think", "progress", detail=word)
    yield Step("think", "completed")
    yield f"About {turn.goal}: yes."


async def held(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Counts to the first number of its goal, and once its session is released to the second."""
    first, last = map(int, turn.goal.split())
    for number in range(1, last + 1):
        if number == first + 1:
            await _released[turn.session_id].wait()
        yield f"{number} "


async def release(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Lets the session go on that its goal names."""
    _released[turn.goal].set()
    yield "gone"
