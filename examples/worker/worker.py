"""A worker: an agent in a process of its own, which takes turns over a socket.

Start as many as you like. Ctrl-C lets the turns that run end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from resonantgenesis import SyncResonantGenesis
from resonantgenesis.serving import AgentChunk, AgentError, ToolCall, ToolResult, Turn


async def answer(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Spells the goal, one letter after the other."""
    if len(turn.goal) > 100:
        raise AgentError("that is too long to be spelled")
    yield ToolCall("count_letters", {"text": turn.goal}, call_id="1")
    yield ToolResult("count_letters", len(turn.goal), call_id="1")
    for letter in turn.goal:
        await asyncio.sleep(0.02)
        yield letter + " "


def main() -> None:
    with SyncResonantGenesis() as client:
        client.agents.serve("speller", answer, capacity=8)


if __name__ == "__main__":
    main()
