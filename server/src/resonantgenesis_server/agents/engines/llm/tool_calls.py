"""The tool calls of one answer: run side by side, their results as they come."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from ....codec.json import NotJson, dumps, loads
from ....model.chunks import ToolCall, ToolResult
from ...tools.base import ToolContext
from ...tools.images import Image
from ...tools.registry import ToolRegistry
from .calls import CallRequest, ToolMessage

#: Calls of one turn that run at the same time.
_AT_ONCE = 8
_STOP_SECONDS = 5.0
#: Characters of arguments that are no JSON, as they are shown.
_SHOWN = 500
#: What servers take as the name of a tool, and the id of a call.
_NAME_SIGNS = re.compile(r"[^a-zA-Z0-9_-]")
_MAX_NAME = 64
_ID = re.compile(r"[\x21-\x7e]{1,64}")
#: Words for no arguments.
_NOTHING = frozenset({"", "null", "none", "undefined"})
log_ = structlog.get_logger("resonantgenesis.llm")


@dataclass(frozen=True, slots=True)
class Planned:
    """A call as it is told to the model again, and as it is shown; `problem` says why it cannot be
    made; `images` are those that its tool has given."""

    request: CallRequest
    call: ToolCall
    problem: str = ""
    images: list[Image] = field(default_factory=list)

    def message(self, result: ToolResult) -> ToolMessage:
        """The result for the model, under the id that the model knows."""
        text = result_text(result.result, is_error=result.is_error)
        return ToolMessage(self.request.call_id, self.request.tool, text, result.is_error)


class CallIds:
    """The ids of calls in one conversation with a model: no two are the same.

    Those that are made have nine letters and digits, as Mistral wants them.
    """

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._count = 0

    def take(self, wanted: str = "") -> str:
        """`wanted` if that can be had."""
        while not _ID.fullmatch(wanted) or wanted in self._used:
            self._count += 1
            wanted = f"c{self._count:08d}"
        self._used.add(wanted)
        return wanted


def plan(request: CallRequest, call_id: str, ids: CallIds) -> Planned:
    """`call_id` is the one that clients see: providers may give the same one twice.

    A server refuses a conversation with a badly written call in it, though its own model wrote that
    call. So the model is told what was understood: `{}` where nothing was.
    """
    tool = request.tool.strip()
    args, problem = _understood(request.arguments)
    as_written = request.arguments if _is_object(request.arguments) else dumps(args or {}).decode()
    told = CallRequest(ids.take(request.call_id), legal_name(tool), as_written)
    if args is None:
        shown: dict[str, Any] = {"unreadable": _shown(request.arguments)}
        return Planned(told, ToolCall(tool[:_SHOWN], shown, call_id), problem)
    return Planned(told, ToolCall(tool[:_SHOWN], args, call_id))


def legal_name(name: str) -> str:
    """A name that servers take, the same one if it is."""
    return _NAME_SIGNS.sub("_", name)[:_MAX_NAME] or "unknown"


def result_text(result: object, *, is_error: bool) -> str:
    """A result for a model; never empty, which some servers refuse."""
    text = result if isinstance(result, str) else dumps(result).decode()
    if not text.strip():
        text = "(nothing)"
    return f"Error: {text}" if is_error else text


def _understood(arguments: str) -> tuple[dict[str, Any] | None, str]:
    """The arguments, or None and what is wrong with them."""
    text = arguments.strip()
    if text.lower().strip('"') in _NOTHING:
        return {}, ""
    try:
        args = _parsed(text)
        if isinstance(args, str):  # JSON within JSON
            inner = args.strip()
            args = {} if inner.lower() in _NOTHING else _parsed(inner) if inner[:1] == "{" else args
    except NotJson as error:
        return None, f"the arguments are no JSON: {error}"
    if args is None:
        return {}, ""
    if not isinstance(args, dict):
        return None, "the arguments must be a JSON object"
    return args, ""


def _parsed(text: str) -> Any:
    """JSON; models write line breaks into its strings as they are. Raises NotJson."""
    try:
        return loads(text)
    except NotJson:
        try:
            return loads(dumps(json.loads(text, strict=False)))
        except (ValueError, RecursionError):
            pass
        raise


def _is_object(text: str) -> bool:
    try:
        return isinstance(loads(text), dict)
    except NotJson:
        return False


def _shown(arguments: str) -> Any:
    try:
        return loads(arguments)
    except NotJson:
        return arguments[:_SHOWN]


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
            shown = replace(context, show_image=one.images.append)
            return one, await tools.run(one.call, shown)

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
