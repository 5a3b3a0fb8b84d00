"""What a model is told before it answers: instructions, context, and the turns so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ....codec.json import dumps
from ...base import PastCall, PastStep, PastTurn, Turn, shortened
from .calls import AssistantMessage, CallRequest, Message, ToolMessage, UserMessage
from .tool_calls import CallIds, legal_name, result_text

#: Characters of an earlier turn's results that are told, each; the first with which its tools take
#: no more than half of the room that there is.
_RESULT_CHARS = (4_000, 1_000, 200)


@dataclass(frozen=True, slots=True)
class Opening:
    """`note` says, for people, which earlier turns are not among the messages; `ids` are those of
    the calls in them."""

    model: str
    system: str
    messages: list[Message]
    note: str = ""
    ids: CallIds = field(default_factory=CallIds)


@dataclass(frozen=True, slots=True)
class _Told:
    """An earlier turn, with results of at most so many characters; None: without its tools."""

    past: PastTurn
    result_chars: int | None

    @property
    def size(self) -> int:
        plain = len(self.past.goal) + len(self.past.output)
        if self.result_chars is None:
            return plain
        most = self.result_chars
        calls = [call for step in self.past.steps for call in step.calls]
        return plain + sum(
            len(call.tool) + len(dumps(_arguments(call))) + len(_result(call, self.past, most))
            for call in calls
        )


def open_conversation(
    turn: Turn, model: str, history_chars: int, *, with_tools: bool = True
) -> Opening:
    """The newest turns that fit into `history_chars` characters, then the goal.

    No turn is told that is older than one left out. What a turn said and was asked is told whole;
    results of its tools are shortened where room is short, or it is told without its tools, never
    with a call that lacks its result. `with_tools`: the model has some; others refuse to read of
    calls.
    """
    kept: list[_Told] = []
    room = history_chars
    for past in reversed(turn.history):
        told = _fitting(past, room, with_tools=with_tools)
        room -= told.size
        if room < 0:
            break
        kept.append(told)
    ids = CallIds()
    messages: list[Message] = []
    for told in reversed(kept):
        messages += _messages(told, ids)
    messages.append(UserMessage(turn.goal))
    # The session may have had more than the runner hands on.
    earlier = max(turn.turn - 1, len(turn.history))
    note = _note(earlier - len(kept), history_chars)
    return Opening(model, _system(turn), messages, note, ids)


def _fitting(past: PastTurn, room: int, *, with_tools: bool) -> _Told:
    plain = _Told(past, None)
    if past.steps and with_tools:
        for most in _RESULT_CHARS:
            told = _Told(past, most)
            if told.size - plain.size <= (room - plain.size) / 2:
                return told
    return plain


def _messages(told: _Told, ids: CallIds) -> Iterator[Message]:
    past, most = told.past, told.result_chars
    yield UserMessage(past.goal)
    if most is None:
        yield AssistantMessage(_answer(past, past.output))
        return
    said = "".join(step.text for step in past.steps)
    is_known = past.output.startswith(said)
    for step in past.steps:
        yield from _step(step, step.text if is_known else "", past, most, ids)
    yield AssistantMessage(_answer(past, past.output[len(said) :] if is_known else past.output))


def _step(step: PastStep, text: str, past: PastTurn, most: int, ids: CallIds) -> Iterator[Message]:
    calls = [
        CallRequest(ids.take(), legal_name(call.tool), dumps(_arguments(call)).decode())
        for call in step.calls
    ]
    yield AssistantMessage(text, calls)
    for request, call in zip(calls, step.calls, strict=True):
        is_error = call.is_error or call.result is None
        yield ToolMessage(request.call_id, request.tool, _result(call, past, most), is_error)


def _arguments(call: PastCall) -> Mapping[str, Any]:
    """Without those that could not be read: the model was told `{}` of them."""
    return {} if call.is_error and set(call.args) == {"unreadable"} else dict(call.args)


def _result(call: PastCall, past: PastTurn, most: int) -> str:
    if call.result is None:
        return f"Error: (no result: the turn ended before it, {past.status})"
    return result_text(shortened(call.result, most), is_error=call.is_error)


def _note(left_out: int, history_chars: int) -> str:
    if not left_out:
        return ""
    turns = "turn is" if left_out == 1 else f"{left_out} turns are"
    return (
        f"the oldest {turns} left out: the model is told {history_chars} characters of history"
        " (llm.history_chars)"
    )


def _answer(past: PastTurn, text: str) -> str:
    """Never empty: some providers refuse that, and two messages of the same side in a row."""
    if past.status == "success":
        return text if text.strip() else "(no answer)"
    return f"{text}\n(the answer ended here: {past.status})".lstrip()


def _system(turn: Turn) -> str:
    parts = [turn.instructions or ""]
    if turn.context:
        parts.append(f"Context of this conversation:\n{_context(turn.context)}")
    return "\n\n".join(part for part in parts if part)


def _context(context: Mapping[str, Any]) -> str:
    text = context.get("text")
    if len(context) == 1 and isinstance(text, str):
        return text
    return dumps(dict(context)).decode()
