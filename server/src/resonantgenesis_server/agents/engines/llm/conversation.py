"""What a model is told before it answers: instructions, context, and the turns so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ....codec.json import dumps
from ...base import PastTurn, Turn
from .calls import AssistantMessage, Message, UserMessage


@dataclass(frozen=True, slots=True)
class Opening:
    """`note` says, for people, which earlier turns are not among the messages."""

    model: str
    system: str
    messages: list[Message]
    note: str = ""


def open_conversation(turn: Turn, model: str, history_chars: int) -> Opening:
    """The newest turns that fit into `history_chars` characters, then the goal.

    A turn is told whole or not at all, and none that is older than one left out.
    """
    kept: list[PastTurn] = []
    room = history_chars
    for past in reversed(turn.history):
        room -= len(past.goal) + len(past.output)
        if room < 0:
            break
        kept.append(past)
    messages: list[Message] = []
    for past in reversed(kept):
        messages += [UserMessage(past.goal), AssistantMessage(_answer(past))]
    messages.append(UserMessage(turn.goal))
    # The session may have had more than the runner hands on.
    earlier = max(turn.turn - 1, len(turn.history))
    return Opening(model, _system(turn), messages, _note(earlier - len(kept), history_chars))


def _note(left_out: int, history_chars: int) -> str:
    if not left_out:
        return ""
    turns = "turn is" if left_out == 1 else f"{left_out} turns are"
    return (
        f"the oldest {turns} left out: the model is told {history_chars} characters of history"
        " (llm.history_chars)"
    )


def _answer(past: PastTurn) -> str:
    """Never empty: some providers refuse that, and two messages of the same side in a row."""
    if past.status == "success":
        return past.output or "(no answer)"
    return f"{past.output}\n(the answer ended here: {past.status})".lstrip()


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
