"""Members of teams, loaded as `--agent NAME=support.team_agents:ATTRIBUTE`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from resonantgenesis_server.agent_api import (
    AgentChunk,
    AgentError,
    Ask,
    Data,
    Step,
    Text,
    ToolCall,
    ToolResult,
    Turn,
    Usage,
    agent,
)


async def upper(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Says its task louder, in a step with a tool, with a sub-agent of its own."""
    yield Step("shout")
    yield ToolCall("loud", {})
    yield ToolResult("loud", "yes")
    yield Text("(psst)", agent_id="whisperer")
    yield turn.goal.upper()
    yield Step("shout", "completed")
    yield Usage(2, 1)


async def echo(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Its task and what it is told, word by word."""
    for word in f"{turn.goal}|{turn.instructions}".split(" "):
        yield word + " "
        await asyncio.sleep(0)


async def structured(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Its answer is no text."""
    yield Data("draft", 1)
    yield Data("output", {"said": turn.goal})


async def failing(turn: Turn) -> AsyncIterator[AgentChunk]:
    yield Step("try")
    yield "almost "
    raise AgentError("the shop is closed")


async def broken(turn: Turn) -> AsyncIterator[AgentChunk]:
    yield "almost "
    raise ValueError("a secret")


async def numbers(turn: Turn) -> AsyncIterator[AgentChunk]:
    """`context.count` numbers, with pauses."""
    for number in range(int(turn.context.get("count", 50))):
        yield f"{number} "
        if number % 7 == 0:
            await asyncio.sleep(0.001)


def in_thread(turn: Turn) -> Iterator[AgentChunk]:
    """As `numbers`, in a thread."""
    for number in range(int(turn.context.get("count", 50))):
        yield f"{number} "


async def endless(turn: Turn) -> AsyncIterator[AgentChunk]:
    yield "begun "
    await asyncio.sleep(3600)


async def asks(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Asks in its place."""
    yield "May I? "
    name = await turn.ask("Your name?", {"type": "string"}, call_id="name")
    yield f"Hello {name}."


async def stops(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Asks and returns, and goes on in any process."""
    if "name" not in turn.answers:
        yield "May I? "
        yield Ask("input", "Your name?", schema={"type": "string"}, call_id="name")
        return
    yield f"Hello {turn.answers['name'].payload}; said {turn.so_far[0].text}"


async def lead(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Gives its goal, a list of AGENT:TASK, to the members, and tells what they said."""
    (tool,) = [each for each in turn.client_tools if each.name == "delegate"]
    tasks = [part.split(":") for part in turn.goal.split(";")]
    open_tasks = [n for n in range(len(tasks)) if f"d{n}" not in turn.answers]
    if open_tasks:
        yield f"Let me ask {len(open_tasks)}. "
        for n in open_tasks:
            args = {"agent": tasks[n][0], "task": tasks[n][1]}
            yield ToolCall(tool.name, args, f"d{n}")
            yield Ask("tool", tool=tool.name, args=args, call_id=f"d{n}")
        return
    said = [turn.answers[f"d{n}"] for n in range(len(tasks))]
    yield " / ".join(str(each.payload) if each else each.reason for each in said)


@agent(timeout_seconds=0.3, max_steps=2, concurrency=1)
async def bounded(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Does more than it may."""
    yield "begun "
    if "wait" in turn.goal:
        await asyncio.sleep(3600)
    for number in range(3):
        yield Step(str(number))
        yield Data("n", number)
        yield Step(str(number), "completed")
