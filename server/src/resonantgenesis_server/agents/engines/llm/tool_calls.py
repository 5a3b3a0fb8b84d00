"""The tool calls of one answer: run side by side, their results as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import structlog

from ....codec.json import NotJson, dumps, loads
from ....model.chunks import ToolCall, ToolResult
from ...tools.base import ToolContext
from ...tools.registry import ToolRegistry
from .calls import CallRequest, ToolMessage

#: Calls of one turn that run at the same time.
_AT_ONCE = 8
_STOP_SECONDS = 5.0
#: Characters of arguments that are no JSON, as they are shown.
_SHOWN = 500
log_ = structlog.get_logger("resonantgenesis.llm")


@dataclass(frozen=True, slots=True)
class Planned:
    """A call as the model wrote it, and as it is shown; `problem` says why it cannot be made."""

    request: CallRequest
    call: ToolCall
    problem: str = ""

    def message(self, result: ToolResult) -> ToolMessage:
        """The result for the model, under the id that the model knows."""
        text = result.result if isinstance(result.result, str) else dumps(result.result).decode()
        if result.is_error:
            text = f"Error: {text}"
        return ToolMessage(self.request.call_id, self.request.tool, text, result.is_error)


def plan(request: CallRequest, call_id: str) -> Planned:
    """`call_id` is the one that clients see: providers may give the same one twice."""
    try:
        args = loads(request.arguments) if request.arguments.strip() else {}
    except NotJson as error:
        shown = {"unreadable": request.arguments[:_SHOWN]}
        problem = f"the arguments are no JSON: {error}"
        return Planned(request, ToolCall(request.tool, shown, call_id), problem)
    if not isinstance(args, dict):
        problem = "the arguments must be a JSON object"
        return Planned(request, ToolCall(request.tool, {"unreadable": args}, call_id), problem)
    return Planned(request, ToolCall(request.tool, args, call_id))


async def run_calls(
    planned: Sequence[Planned], tools: ToolRegistry, context: ToolContext
) -> AsyncGenerator[tuple[Planned, ToolResult], None]:
    """Each call with its result, in the order in which they come; closing it cancels the rest.

    Raises nothing of its own: a call that fails has a result with `is_error`.
    """
    slots = asyncio.Semaphore(_AT_ONCE)

    async def run(one: Planned) -> tuple[Planned, ToolResult]:
        if one.problem:
            call = one.call
            return one, ToolResult(call.tool, one.problem, call.call_id, is_error=True)
        async with slots:
            return one, await tools.run(one.call, context)

    running = {asyncio.create_task(run(one), name=f"tool {one.call.tool}") for one in planned}
    try:
        while running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    finally:
        for task in running:
            task.cancel()
        if running:
            _, deaf = await asyncio.wait(running, timeout=_STOP_SECONDS)
            for task in deaf:
                log_.error("a tool ignores its cancellation", task=task.get_name())
