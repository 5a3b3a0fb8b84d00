"""Agents for the servers under test, loaded as `--agent NAME=support.agents:ATTRIBUTE`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from resonantgenesis_server.agent_api import (
    AgentChunk,
    AgentError,
    Data,
    Reasoning,
    Source,
    Step,
    Text,
    ToolCall,
    ToolResult,
    Turn,
    Usage,
    agent,
)

#: The guide's own sample gives up after 5 s without a byte.
SILENCE = 7.0


async def silent(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Thinks for long before it speaks; `context.seconds` says how long."""
    yield ToolCall("think", {"about": turn.goal})
    await asyncio.sleep(float(turn.context.get("seconds", SILENCE)))
    yield ToolResult("think", {"thought": turn.goal})
    yield "At last."


async def paced(turn: Turn) -> AsyncIterator[AgentChunk]:
    """`context.count` marked pieces of text, `context.pace` a second (0: as fast as it can)."""
    pace = float(turn.context.get("pace", 0))
    for number in range(1, int(turn.context.get("count", 10)) + 1):
        if pace:
            await asyncio.sleep(1 / pace)
        yield f"{turn.goal}-{number:06d} "


async def slow(turn: Turn) -> AsyncIterator[AgentChunk]:
    """`paced` for clients without a context: 20 pieces a second, for minutes."""
    turn.context.update(pace=20, count=10_000)
    async for chunk in paced(turn):
        yield chunk


async def refusing(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Says something, and then why it cannot go on."""
    yield f"{turn.goal}: "
    raise AgentError("the shop is closed")


async def stepping(turn: Turn) -> AsyncIterator[AgentChunk]:
    """As many steps as its goal says."""
    for number in range(int(turn.goal)):
        yield Step(f"step {number}")
        yield Step(f"step {number}", "completed")


async def stubborn(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Goes on whatever it is told."""
    until = time.monotonic() + 6
    while time.monotonic() < until:
        try:
            await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            continue
        yield "no "


async def deaf(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Never ends, whatever it is told."""
    yield "never "
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)


def sleeper(turn: Turn) -> Iterator[AgentChunk]:
    """Blocks its thread, where no cancellation can reach it."""
    yield "yawn "
    time.sleep(4)
    yield "too late"


async def exits(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Means to end the process, in the way that its goal names."""
    yield "bye "
    if turn.goal == "interrupt":
        raise KeyboardInterrupt
    sys.exit(3)


def exits_in_a_thread(turn: Turn) -> Iterator[AgentChunk]:
    """The same, where it blocks."""
    yield "bye "
    if turn.goal == "interrupt":
        raise KeyboardInterrupt
    sys.exit(3)


async def exits_elsewhere(turn: Turn) -> AsyncIterator[AgentChunk]:
    """The same in a task that it starts, or in a callback of the loop, as `context.where` says."""
    yield "bye "
    error = KeyboardInterrupt() if turn.goal == "interrupt" else SystemExit(3)

    async def child() -> None:
        raise error

    def callback() -> None:
        raise error

    match turn.context["where"]:
        case "awaited task":
            await asyncio.create_task(child())
        case "task":
            task = asyncio.create_task(child())
            await asyncio.wait({task})
        case "callback":
            asyncio.get_running_loop().call_soon(callback)
            await asyncio.sleep(0)
    yield "still here"


async def spend(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Takes as many tokens as its goal says; with `context.file`, once that file is there."""
    yield "spending "
    while "file" in turn.context and not Path(turn.context["file"]).exists():
        await asyncio.sleep(0.01)
    yield Usage(int(turn.goal) - 1, 1)
    yield "spent"


async def reporting(_turn: Turn) -> AsyncIterator[AgentChunk]:
    """Tells its viewers how far it is, again and again, until it is cancelled."""
    yield "So "
    number = 0
    while True:
        yield Data("progress", {"step": number}, id="p", transient=True)
        number += 1
        await asyncio.sleep(0.01)


async def talkative(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Chunks of every kind, then what the user says while it runs, unless its goal is `short`."""
    yield Reasoning("Let me ")
    yield Reasoning("think.")
    yield Data("weather", {"sky": "?"}, id="w")
    yield ToolCall("ask_helper", {}, "h")
    yield Text("I help.", agent_id="helper", parent="h")
    yield ToolResult("ask_helper", "done", "h")
    yield f"Turn {turn.turn}. "
    yield Data("weather", {"sky": "blue"}, id="w")
    yield Source("https://example.com/", "Example")
    if turn.goal != "short":
        for message in await turn.inbox.wait():
            yield f"You said: {message.content}."


async def refunds(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Asks before it pays; a line in the file `context.paid` for each payment."""
    yield "Looking. "
    call = ToolCall("refund", {"order": turn.goal}, "refund")
    yield call
    decided = await turn.approve(call, "Pay it back?", expires_in=turn.context.get("seconds"))
    if not decided:
        yield ToolResult("refund", decided.refusal, "refund", is_error=True)
        yield "Not paid."
        return
    with Path(turn.context["paid"]).open("a", encoding="utf-8") as paid:
        paid.write(f"{turn.session_id} {turn.goal}\n")
    yield ToolResult("refund", "paid", "refund")
    yield "Paid."


async def buyer(turn: Turn) -> AsyncIterator[AgentChunk]:
    """`refunds` for clients without a context: the goal is the file."""
    turn.context["paid"] = turn.goal
    async for chunk in refunds(turn):
        yield chunk


def refunds_in_a_thread(turn: Turn) -> Iterator[AgentChunk]:
    """The same, where it blocks; without an id of its own for the call."""
    yield "Looking. "
    call = ToolCall("refund", {"order": turn.goal})
    yield call
    if turn.approve_from_thread(call):
        yield ToolResult("refund", "paid")
        name = turn.ask_from_thread("Your name?", {"type": "string", "minLength": 2})
        yield f"Paid, {name}."


async def questions(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Three questions at once, after `context.seconds`."""
    await asyncio.sleep(float(turn.context.get("seconds", 0)))
    said = await asyncio.gather(
        *(turn.ask(f"Number {n}?", {"type": "integer"}, call_id=f"n{n}") for n in range(3))
    )
    yield " ".join(map(str, said))


async def parcel(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Asks for several values at once, and says which it got."""
    properties = {
        "city": {"type": "string", "title": "City"},
        "weight": {"type": "number"},
        "fragile": {"type": "boolean"},
        "speed": {"enum": ["slow", "fast"]},
        "note": {"type": "string"},
    }
    required = ["city", "weight", "fragile", "speed"]
    schema = {"type": "object", "properties": properties, "required": required}
    yield json.dumps(await turn.ask("Where to?", {**schema, "additionalProperties": False}))


async def location(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Runs a tool of the client."""
    call = ToolCall("location", {}, "where")
    yield call
    found = await turn.toolbox.run(call)
    yield found
    yield "Nowhere." if found.is_error else f"In {found.result['city']}."


@agent(
    timeout_seconds=0.2,
    max_steps=2,
    concurrency=1,
    description="waits",
    input_schema={"type": "object", "properties": {"city": {"type": "string"}}},
)
async def bounded(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Does more than it may."""
    if turn.goal == "wait":
        await asyncio.sleep(3600)
    for number in range(3):
        yield Step(str(number))


async def blocking(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Sleeps in the wrong way for `context.seconds`; says where it runs."""
    time.sleep(float(turn.context.get("seconds", 0.6)))
    yield threading.current_thread().name
    async with asyncio.timeout(20):
        stored = await turn.files.store("a.txt", pieces())
        result = await turn.toolbox.run(ToolCall("calculator", {"expression": "1 + 2"}))
        read = b"".join([piece async for piece in turn.files.read(stored.file_id)])
    yield f"; {result.result['result']}, {read.decode()}"
    if turn.goal == "wait":
        await asyncio.sleep(3600)


async def pieces() -> AsyncIterator[bytes]:
    for piece in (b"a", b"b"):
        await asyncio.sleep(0)
        yield piece
