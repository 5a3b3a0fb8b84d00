"""A tool loop that stops for answers, and goes on in any process.

The log has the turn's texts, calls and results. `Kept` has the rest: what the provider wants back
with its own messages, and the ids under which the model knows its calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ....codec.json import dumps
from ....model.chunks import Ask, ToolCall, ToolResult
from ...base import Answer, PastCall, PastStep, Turn
from ...tools.base import ToolRegistry
from .calls import AssistantMessage, CallRequest, Message, ToolMessage, UserMessage
from .conversation import CallIds, Planned, legal_name, result_text

#: Bytes of JSON of what is kept; the oldest messages of the provider are left out beyond.
_MAX_KEPT = 200 * 1024


@dataclass(frozen=True, slots=True)
class KeptStep:
    """A step with calls of tools. `ids` are those of the model, by call_id."""

    native: str | None
    ids: dict[str, str]


_NOTHING_KEPT = KeptStep(None, {})


@dataclass(slots=True)
class Kept:
    """`step` is the number of the step that stopped, `calls` that of the calls up to it, and
    `finish` the reason with which the model's answer ended."""

    steps: list[KeptStep] = field(default_factory=list)
    step: int = 0
    calls: int = 0
    finish: str = ""

    @classmethod
    def of(cls, turn: Turn) -> Kept:
        """What an earlier run of the turn has kept; empty for a turn that begins."""
        kept = turn.kept
        if not isinstance(kept, dict) or not turn.so_far:
            return cls()
        steps = [KeptStep(each["native"], each["ids"]) for each in kept["steps"]]
        return cls(steps, kept["step"], kept["calls"], kept["finish"])

    def value(self) -> dict[str, Any]:
        """As JSON."""
        steps = [{"native": each.native, "ids": each.ids} for each in self.steps]
        size = len(dumps(steps))
        for each in steps:
            if size <= _MAX_KEPT:
                break
            size -= len(dumps(each["native"]))
            each["native"] = None
        return {
            "steps": steps,
            "step": self.step,
            "calls": self.calls,
            "finish": self.finish,
        }

    def messages(self, steps: Sequence[PastStep], ids: CallIds) -> list[Message]:
        """The messages of the steps before the stop; results that are missing are left out."""
        messages: list[Message] = []
        kept_steps = iter(self.steps)
        for step in steps:
            kept = next(kept_steps, _NOTHING_KEPT) if step.calls else _NOTHING_KEPT
            requests = [_request(call, kept, ids) for call in step.calls]
            if requests or step.text.strip():
                messages.append(AssistantMessage(step.text, requests, kept.native))
            for request, call in zip(requests, step.calls, strict=True):
                if call.result is not None:
                    text = result_text(call.result, is_error=call.is_error)
                    messages.append(ToolMessage(request.call_id, request.tool, text, call.is_error))
            if step.message:
                messages.append(UserMessage(step.message))
        return messages


def _request(call: PastCall, kept: KeptStep, ids: CallIds) -> CallRequest:
    known = kept.ids.get(call.call_id, "")
    args = {} if call.is_error and set(call.args) == {"unreadable"} else dict(call.args)
    return CallRequest(ids.take(known), legal_name(call.tool), dumps(args).decode())


@dataclass(frozen=True, slots=True)
class Pending:
    """The calls of the step that stopped which have no result. `denied` are those with one now
    that no tool gives: of the client, or a refusal. `runs` are to be run."""

    runs: list[Planned]
    given: list[tuple[Planned, ToolResult]]


def pending(
    step: PastStep, requests: Sequence[CallRequest], answers: Mapping[str, Answer], client: set[str]
) -> Pending:
    """What becomes of the open calls of a step, whose requests are those of its message. `client`
    are the names of the client's tools."""
    found = Pending([], [])
    for request, call in zip(requests, step.calls, strict=True):
        if call.result is not None:
            continue
        planned = Planned(request, ToolCall(call.tool, dict(call.args), call.call_id))
        answer = answers.get(call.call_id)
        if answer is None:  # it was not run, and nobody was asked
            answer = Answer(call.call_id, "cancelled")
        if not answer:
            result = ToolResult(call.tool, answer.refusal, call.call_id, is_error=True)
            found.given.append((planned, result))
        elif call.tool in client:
            result = ToolResult(call.tool, answer.payload, call.call_id)
            found.given.append((planned, result))
        else:
            found.runs.append(planned)
    return found


def ask_for(one: Planned, tools: ToolRegistry, client: set[str]) -> Ask | None:
    """The question that comes before a call, if there is one."""
    call = one.call
    if one.problem:
        return None
    if call.tool in client:
        return Ask("tool", tool=call.tool, args=call.args, call_id=call.call_id)
    if tools.needs_approval(call):
        return Ask("approval", tool=call.tool, args=call.args, call_id=call.call_id)
    return None
