"""The embedded agent `guide`: no key, no network, no model, and yet real work.

It computes with the calculator and answers from the packaged documentation; `guide_intent` holds
the rules by which it decides. The same turn always gives the same chunks.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from ....model.chunks import AgentChunk, Step, ToolCall, ToolResult, Usage
from ....model.errors import InvalidRequest
from ...base import Agent, Turn
from ...tools.base import ToolContext
from ...tools.docs_search import MAX_RESULTS, Passage
from ...tools.registry import ToolRegistry, embedded_tools
from .answer import QUOTED, Findings, is_quoted, write
from .intent import MAX_PIECES, Demo, Intent, understand

#: Words per second that a request or a setting may ask for; 0 is as fast as possible.
MAX_PACE = 1_000.0

#: Results asked of a search: those quoted and those to read next.
_RESULTS = 5
#: Below this only words matched that nearly every section has.
_MIN_SCORE = 1.0
#: Words between two reports of usage, so that a cancelled turn counts too.
_USAGE_EVERY = 500
#: Words after which an unpaced stream lets others run.
_YIELD_EVERY = 256

_PIECE = re.compile(r"\s*\S+\s*")
_LOREM_IPSUM = (
    "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut "
    "labore et dolore magna aliqua ut enim ad minim veniam quis nostrud exercitation ullamco "
    "laboris nisi ut aliquip ex ea commodo consequat"
)
_LOREM = _LOREM_IPSUM.split()


def build(settings: Mapping[str, Any]) -> Agent:
    """A guide with the setting `words_per_second`, 0 to 1000. Raises `InvalidRequest`."""
    pace = settings.get("words_per_second")
    if pace is not None and _pace(pace) != pace:
        raise InvalidRequest.field(
            "defaults.words_per_second", f"must be a number from 0 to {MAX_PACE:g}"
        )
    return GuideAgent(pace)


class GuideAgent:
    """`words_per_second`: its pace; 0 or None is as fast as possible.

    A turn's context may hold `words_per_second`, which then counts instead (brought within 0 to
    1000; what is not a number is ignored), and `user_name`, greeted in the first turn.
    """

    def __init__(
        self, words_per_second: float | None = None, tools: ToolRegistry | None = None
    ) -> None:
        self._words_per_second = words_per_second or 0.0
        self._tools = embedded_tools() if tools is None else tools

    async def run(self, turn: Turn) -> AsyncGenerator[AgentChunk, None]:
        """Steps, tool calls and their results, then the answer word by word.

        The words, put together, are the answer; tokens of usage are words. Never more steps than
        `turn.max_steps`.
        """
        asked = _pace(turn.context.get("words_per_second"))
        pace = _Pace(self._words_per_second if asked is None else asked)
        words = 0
        yield Usage(input_tokens=len(turn.goal.split()))
        async with aclosing(self._chunks(turn)) as chunks:
            async for chunk in chunks:
                if isinstance(chunk, str):
                    await pace.keep()
                    words += 1
                yield chunk
                if words == _USAGE_EVERY:
                    yield Usage(output_tokens=words)
                    words = 0
        if words:
            yield Usage(output_tokens=words)

    async def _chunks(self, turn: Turn) -> AsyncGenerator[AgentChunk, None]:
        intent = understand(turn.goal, turn.history)
        if intent.demo is not None:
            for piece in _demo_pieces(intent.demo):
                yield piece
            return
        tools = self._tools.select(turn.tools)
        calls = _plan(intent, tools, turn.turn)
        findings = Findings(greeting=_greeting(turn), goes_on=bool(intent.before))
        step: str | None = None
        for phase, name in _steps([*calls, "answer"], turn.max_steps):
            if name != step and step is not None:
                yield Step(step, "completed")
            if name != step and name is not None:
                yield Step(name, "started")
            step = name
            for call in calls.get(phase, ()):
                yield call
                result = await tools.run(call, ToolContext.of(turn))
                yield result
                _note(findings, call, result, intent.before)
        for piece in _PIECE.findall(write(findings)):
            yield piece
        if step is not None:
            yield Step(step, "completed")


class _Pace:
    """Lets one word pass per interval, without drift; a delay of over a second is not made up."""

    def __init__(self, words_per_second: float) -> None:
        self._interval = 1 / words_per_second if words_per_second > 0 else 0.0
        self._due: float | None = None
        self._passed = 0

    async def keep(self) -> None:
        if not self._interval:
            self._passed += 1
            if self._passed % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
            return
        now = asyncio.get_running_loop().time()
        if self._due is None or now - self._due > 1.0:
            self._due = now
        elif now < self._due:
            await asyncio.sleep(self._due - now)
        self._due += self._interval


def _pace(value: object) -> float | None:
    """`value` within the bounds; None for what is not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return None
    return min(max(value, 0.0), MAX_PACE)


def _plan(intent: Intent, tools: ToolRegistry, turn: int) -> dict[str, list[ToolCall]]:
    """The tool calls of each phase that has any."""
    wanted: list[tuple[str, str, dict[str, Any]]] = [
        ("calculate", "calculator", {"expression": expression}) for expression in intent.expressions
    ]
    if intent.query is not None:
        limit = min(len(intent.before) * QUOTED + _RESULTS, MAX_RESULTS)
        wanted.append(("search", "docs_search", {"query": intent.query, "limit": limit}))
    plan: dict[str, list[ToolCall]] = {}
    for number, (phase, tool, args) in enumerate(wanted, start=1):
        if tool in tools:
            plan.setdefault(phase, []).append(ToolCall(tool, args, f"call_{turn}_{number}"))
    return plan


def _steps(phases: Sequence[str], max_steps: int) -> Iterator[tuple[str, str | None]]:
    """Each phase with its step's name; with too few steps the last phases share one."""
    for index, phase in enumerate(phases):
        if max_steps < 1:
            yield phase, None
        else:
            yield phase, phase if index < max_steps - 1 else phases[-1]


def _note(findings: Findings, call: ToolCall, result: ToolResult, before: Sequence[str]) -> None:
    if call.tool == "calculator":
        said = result.result if result.is_error else result.result["result"]
        findings.sums.append((call.args["expression"], str(said), not result.is_error))
        return
    findings.query = call.args["query"]
    if result.is_error:
        findings.problem = str(result.result)
        return
    found = [Passage(**passage) for passage in result.result]
    findings.passages = [
        passage
        for passage in found
        if passage.score >= _MIN_SCORE and not any(is_quoted(passage, text) for text in before)
    ]


def _greeting(turn: Turn) -> str:
    name = turn.context.get("user_name")
    if turn.history or not isinstance(name, str):
        return ""
    plain = " ".join("".join(c if c.isprintable() else " " for c in name[:64]).split())
    return f"Hello {plain}. " if plain else ""


def _demo_pieces(demo: Demo) -> Iterator[str]:
    if not 1 <= demo.pieces <= MAX_PIECES:
        yield from _PIECE.findall(f"Please give me a number from 1 to {MAX_PIECES:,}.\n")
        return
    for number in range(1, demo.pieces + 1):
        word = str(number) if demo.kind == "count" else _LOREM[(number - 1) % len(_LOREM)]
        yield word if number == demo.pieces else f"{word} "
