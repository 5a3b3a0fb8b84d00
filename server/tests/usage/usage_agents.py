"""Agents for servers under test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from resonantgenesis_server.agent_api import AgentChunk, AgentError, Turn, Usage


async def spend(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Takes as many tokens as its goal says, in two portions; `wait` and `fail` come after."""
    tokens, _, then = turn.goal.partition(" ")
    yield "spent "
    yield Usage(int(tokens) - 1, 0)
    yield Usage(0, 1)
    if then == "wait":
        await asyncio.sleep(3600)
    if then == "fail":
        raise AgentError("as asked")
