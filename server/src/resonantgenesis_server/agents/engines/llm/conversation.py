"""The messages of a conversation with a model: instructions, context, earlier turns, tool calls."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ....codec.json import NotJson, dumps, loads
from ....model.chunks import ToolCall, ToolResult
from ...base import PastCall, PastStep, PastTurn, Turn, shortened
from ...tools.images import Image
from .calls import AssistantMessage, CallRequest, Message, ToolMessage, UserMessage

#: Characters of arguments that are no JSON, as they are shown.
_SHOWN = 500
#: What servers take as the name of a tool, and the id of a call.
_NAME_SIGNS = re.compile(r"[^a-zA-Z0-9_-]")
_MAX_NAME = 64
_ID = re.compile(r"[\x21-\x7e]{1,64}")
#: Words for no arguments.
_NOTHING = frozenset({"", "null", "none", "undefined"})

#: Characters of each result of an earlier turn. The first number counts whose results take no more
#: than half of the room.
_RESULT_CHARS = (4_000, 1_000, 200)


@dataclass(frozen=True, slots=True)
class Planned:
    """A call for the model and for clients. `problem` says why the call cannot be made; `images`
    are those that the tool has given."""

    request: CallRequest
    call: ToolCall
    problem: str = ""
    images: list[Image] = field(default_factory=list)

    def message(self, result: ToolResult) -> ToolMessage:
        """The result for the model, under the id that the model knows."""
        text = result_text(result.result, is_error=result.is_error)
        return ToolMessage(self.request.call_id, self.request.tool, text, result.is_error)


class CallIds:
    """The ids of calls in one conversation with a model, all different.

    New ids have nine letters and digits, as Mistral wants them.
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
    """Understand a call. Clients see it as `call_id`, since providers may repeat their ids.

    A server refuses a conversation with a malformed call in it, even if its own model wrote that
    call. So the model gets the arguments that were understood, `{}` if none were.
    """
    tool = request.tool.strip()
    args, problem = _understood(request.arguments)
    as_written = request.arguments if _is_object(request.arguments) else dumps(args or {}).decode()
    echo = CallRequest(ids.take(request.call_id), legal_name(tool), as_written)
    if args is None:
        shown: dict[str, Any] = {"unreadable": _shown(request.arguments)}
        return Planned(echo, ToolCall(tool[:_SHOWN], shown, call_id), problem)
    return Planned(echo, ToolCall(tool[:_SHOWN], args, call_id))


def legal_name(name: str) -> str:
    """A name that servers accept; a legal name stays as it is."""
    return _NAME_SIGNS.sub("_", name)[:_MAX_NAME] or "unknown"


def result_text(result: object, *, is_error: bool) -> str:
    """A result for a model. It is never empty, since some servers refuse that."""
    text = result if isinstance(result, str) else dumps(result).decode()
    if not text.strip():
        text = "(nothing)"
    return f"Error: {text}" if is_error else text


def _understood(arguments: str) -> tuple[dict[str, Any] | None, str]:
    """The arguments, or None with the problem."""
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
    """Parse JSON whose strings may have raw line breaks, as models write them. Raises NotJson."""
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


@dataclass(frozen=True, slots=True)
class Conversation:
    """The messages for a model. `note` names, for people, the earlier turns that are left out;
    `ids` are those of the calls in the messages."""

    model: str
    system: str
    messages: list[Message]
    note: str = ""
    ids: CallIds = field(default_factory=CallIds)


@dataclass(frozen=True, slots=True)
class _Excerpt:
    """An earlier turn with results of at most `result_chars` characters; None: without tools."""

    past: PastTurn
    result_chars: int | None

    @property
    def size(self) -> int:
        plain = len(self.past.goal) + len(self.past.output) + sum(map(len, _said(self.past)))
        if self.result_chars is None:
            return plain
        limit = self.result_chars
        calls = [call for step in self.past.steps for call in step.calls]
        return plain + sum(
            len(call.tool) + len(dumps(_arguments(call))) + len(_result(call, self.past, limit))
            for call in calls
        )


def open_conversation(
    turn: Turn,
    model: str,
    history_chars: int,
    *,
    with_tools: bool = True,
    result_chars: int = _RESULT_CHARS[0],
) -> Conversation:
    """The newest turns that fit into `history_chars` characters, then the goal.

    No turn is older than one that is left out. Goals and texts of turns are whole. Results of tools
    are shortened where room is short, or the turn comes without its tools, but never with a call
    that lacks its result. `with_tools`: the model has tools; models without tools refuse calls. No
    result takes more than `result_chars`; 0: no turn comes with its tools.
    """
    with_tools = with_tools and result_chars > 0
    kept: list[_Excerpt] = []
    room = history_chars
    for past in reversed(turn.history):
        excerpt = _fitting(past, room, result_chars if with_tools else 0)
        room -= excerpt.size
        if room < 0:
            break
        kept.append(excerpt)
    ids = CallIds()
    messages: list[Message] = []
    for excerpt in reversed(kept):
        messages += _messages(excerpt, ids)
    messages.append(UserMessage(turn.goal))
    # The session may have had more than the runner hands on.
    earlier = turn.turn - 1 if turn.earlier is None else turn.earlier
    earlier = max(earlier, len(turn.history))
    note = _note(earlier - len(kept), history_chars)
    return Conversation(model, _system(turn), messages, note, ids)


def _fitting(past: PastTurn, room: int, result_chars: int) -> _Excerpt:
    """The turn with results of up to `result_chars` characters; 0: without its tools."""
    plain = _Excerpt(past, None)
    if past.steps and result_chars:
        for limit in sorted({min(each, result_chars) for each in _RESULT_CHARS}, reverse=True):
            excerpt = _Excerpt(past, limit)
            if excerpt.size - plain.size <= (room - plain.size) / 2:
                return excerpt
    return plain


def _said(past: PastTurn) -> list[str]:
    """The messages of the user while the turn ran."""
    return [*(step.message for step in past.steps if step.message), *past.left]


def _messages(excerpt: _Excerpt, ids: CallIds) -> Iterator[Message]:
    past, limit = excerpt.past, excerpt.result_chars
    if limit is None:
        taken = [step.message for step in past.steps if step.message]
        yield UserMessage("\n\n".join([past.goal, *taken]))
        yield AssistantMessage(_answer(past, past.output))
        yield from map(UserMessage, past.left)
        return
    yield UserMessage(past.goal)
    said = "".join(step.text for step in past.steps)
    is_known = past.output.startswith(said)
    for step in past.steps:
        yield from _step(step, step.text if is_known else "", past, limit, ids)
    yield AssistantMessage(_answer(past, past.output[len(said) :] if is_known else past.output))
    yield from map(UserMessage, past.left)


def _step(step: PastStep, text: str, past: PastTurn, limit: int, ids: CallIds) -> Iterator[Message]:
    calls = [
        CallRequest(ids.take(), legal_name(call.tool), dumps(_arguments(call)).decode())
        for call in step.calls
    ]
    if calls or text.strip():
        yield AssistantMessage(text, calls)
    for request, call in zip(calls, step.calls, strict=True):
        is_error = call.is_error or call.result is None
        yield ToolMessage(request.call_id, request.tool, _result(call, past, limit), is_error)
    if step.message:
        yield UserMessage(step.message)


def _arguments(call: PastCall) -> Mapping[str, Any]:
    """The arguments for the model: `{}` if they could not be read."""
    return {} if call.is_error and set(call.args) == {"unreadable"} else dict(call.args)


def _result(call: PastCall, past: PastTurn, limit: int) -> str:
    if call.result is None:
        return f"Error: (no result: the turn ended before it, {past.status})"
    return result_text(shortened(call.result, limit), is_error=call.is_error)


def _note(left_out: int, history_chars: int) -> str:
    if not left_out:
        return ""
    turns = "turn is" if left_out == 1 else f"{left_out} turns are"
    return (
        f"the oldest {turns} left out: the model is told {history_chars} characters of history"
        " (llm.history_chars)"
    )


def _answer(past: PastTurn, text: str) -> str:
    """The text of an answer, never empty: some providers refuse that."""
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
