"""Agents that people have, as agents of this server, in one line each.

`answer = adapters.pydantic_ai(my_agent)` is named on the command line as any agent in Python is. A
library is imported when its adapter is first called, and is no dependency of the server.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any

from ..agent_api import AgentChunk, Turn

__all__ = ["AsyncAgent", "langchain", "langgraph", "openai_agents", "pydantic_ai", "text"]

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
    return _adapted("pydantic_agents", "pydantic-ai-slim", "a pydantic_ai.Agent", agent, deps)


def langgraph(
    graph: Any,
    *,
    input: Callable[[Turn], Any] | None = None,
    config: Callable[[Turn], Mapping[str, Any]] | None = None,
    context: Callable[[Turn], Any] | None = None,
) -> AsyncAgent:
    """An agent from a compiled graph of LangGraph.

    Its nodes are steps; text, thoughts, calls of tools, sources and usage of its models are shown
    as ours. An agent that a tool runs is a sub-agent. `interrupt()` makes the turn wait: for an
    approval where LangChain asks for one, else for an input. The graph goes on with the answer.

    A graph gets `{"messages": …}` with the earlier turns, unless `input` makes something else. A
    checkpointer of its own has the session's id as the thread, and then the thread has the earlier
    turns. `config` and `context` make what `astream` takes under these names.
    """
    wanted = "a compiled graph (graph.compile())"
    return _adapted("langgraph_graphs", "langgraph", wanted, graph, input, config, context)


def langchain(runnable: Any, *, input: Callable[[Turn], Any] | None = None) -> AsyncAgent:
    """An agent from a runnable of LangChain; one that `create_agent` made is a graph.

    What the runnable streams is the text. Requests to models are steps; thoughts, calls of tools
    and usage are shown as ours. A model gets the conversation as messages. Other runnables get a
    dict with the goal as `input` and the earlier turns as `history`, unless `input` makes
    something else.
    """
    if hasattr(runnable, "checkpointer"):
        return langgraph(runnable, input=input)
    wanted = "a runnable"
    return _adapted("langchain_runnables", "langchain-core", wanted, runnable, input)


def openai_agents(
    agent: Any, *, context: Callable[[Turn], Any] | None = None, run_config: Any = None
) -> AsyncAgent:
    """An agent from an `agents.Agent` of OpenAI's Agents SDK.

    Its text, thoughts, calls of tools, handoffs, sources and usage are shown as ours, each request
    to a model as a step with the name of its agent. Earlier turns are its input. Tools that need
    approval make the turn wait. `context` makes the context of the run.
    """
    return _adapted("openai_sdk", "openai-agents", "an agents.Agent", agent, context, run_config)


def _adapted(module: str, package: str, wanted: str, *arguments: Any) -> AsyncAgent:
    try:
        imported = importlib.import_module(f".{module}", __package__)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this adapter needs the package {package} (pip install {package}): {error}",
            name=error.name,
        ) from error
    if not isinstance(arguments[0], imported.TAKES):
        given = type(arguments[0]).__qualname__
        raise TypeError(f"this adapter takes {wanted}, not {given}")
    made: AsyncAgent = imported.adapted(*arguments)
    return made
