"""An agent that fails, for servers that load it as `guide.failing:failing`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from resonantgenesis_server.agent_api import AgentChunk, AgentError, Turn


async def failing(turn: Turn) -> AsyncIterator[AgentChunk]:
    yield "I shall "
    raise AgentError(f"cannot {turn.goal}")
