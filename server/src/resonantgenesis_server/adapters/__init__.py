"""Agents that people have, as agents of this server, in one line each.

`answer = adapters.pydantic_ai(my_agent)` is named on the command line as any agent in Python is. A
library is imported when its adapter is first called, and is no dependency of the server.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from ..agent_api import AgentChunk, Turn

__all__ = ["AsyncAgent", "pydantic_ai", "text"]

#: An agent of `agent_api` that runs on the event loop.
AsyncAgent = Callable[[Turn], AsyncGenerator[AgentChunk, None]]


def text(answer: Callable[[str], AsyncIterator[str]]) -> AsyncAgent:
    """An agent from a function that takes the goal and streams text."""

    async def run(turn: Turn) -> AsyncGenerator[AgentChunk, None]:
        async for piece in answer(turn.goal):
            yield piece

    return run


def pydantic_ai(agent: Any, deps: Callable[[Turn], Any] | None = None) -> AsyncAgent:
    """An agent from a `pydantic_ai.Agent`.

    Its text, thoughts, calls of tools, sources and usage are shown as ours, each request to its
    model as a step. Earlier turns are its message history. Tools that need approval make the turn
    wait. `deps` makes its dependencies.
    """
    module = importlib.import_module(".pydantic_agents", __package__)
    made: AsyncAgent = module.adapted(agent, deps)
    return made
