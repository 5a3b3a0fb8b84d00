"""Agents of the servers under test, loaded as `ws_agents:NAME`. They run in this process, so a
test opens the gate that an agent waits at."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator

from resonantgenesis_server.agent_api import AgentChunk, Turn

#: By goal.
gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)


async def gated(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Says the goal, waits for its gate, says `end`."""
    yield turn.goal
    await gates[turn.goal].wait()
    yield "end"


async def many(turn: Turn) -> AsyncIterator[AgentChunk]:
    """As many chunks as the goal says, each of `context.size` characters."""
    size = int(turn.context.get("size", 5))
    for number in range(int(turn.goal)):
        yield f"{number:0{size}d}"
        if number % 50 == 49:
            await asyncio.sleep(0)


async def failing(turn: Turn) -> AsyncIterator[AgentChunk]:
    yield turn.goal
    raise RuntimeError("for the log only")


async def saying(turn: Turn) -> AsyncIterator[AgentChunk]:
    """`context.text` so often that it is `context.size` characters, in pieces."""
    text, left = str(turn.context["text"]), int(turn.context["size"])
    while left > 0:
        yield (text * 10_000)[: min(left, 10_000)]
        left -= 10_000
