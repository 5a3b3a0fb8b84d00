"""What a turn asks, on a terminal: the question in words, and the answer from a typed line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .render import one_line

Json = Mapping[str, Any]


class NotAnAnswer(ValueError):
    """The line is no answer to this ask. The message says what would be one."""


def question(ask: Json) -> str:
    """The ask in one line."""
    message = str(ask.get("message") or "")
    args = ask.get("args") or {}
    shown = ", ".join(
        f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in args.items()
    )
    call = f"{ask.get('tool')}({shown})" if ask.get("tool") else ""
    match ask.get("kind"):
        case "approval":
            words = f"approve {call}?"
        case "tool":
            words = f"the result of {call}"
        case _:
            words = _choices(ask)
    between = " " if message.endswith(("?", ".", "!", ":")) else ": "
    return one_line(between.join(part for part in (message, words) if part) or "an answer")


def _choices_of(ask: Json) -> list[Any]:
    schema = ask.get("schema")
    values = schema.get("enum") if isinstance(schema, Mapping) else None
    return values if isinstance(values, list) and ask.get("kind") == "input" else []


def _choices(ask: Json) -> str:
    values = [json.dumps(value, ensure_ascii=False) for value in _choices_of(ask)]
    return f"one of {', '.join(values)}" if values else ""


def prompt(ask: Json) -> str:
    """What the person may type."""
    if ask.get("kind") == "approval":
        return "[y]es, or [n]o and why: "
    if ask.get("kind") == "tool":
        return "JSON, or ! and why it failed: "
    return "Answer: " if takes_text(ask) or _choices_of(ask) else "JSON: "


def takes_text(ask: Json) -> bool:
    """Whether the payload is the text as it is typed."""
    schema = ask.get("schema")
    return ask.get("kind") == "input" and (not schema or schema.get("type") == "string")


def answer(ask: Json, line: str) -> dict[str, Any]:
    """The fields of the answer. Raises NotAnAnswer."""
    text = line.strip()
    if ask.get("kind") == "approval":
        word, _, reason = text.partition(" ")
        if word.lower() in {"y", "yes"}:
            return {"approved": True, **_reason(reason)}
        if word.lower() in {"n", "no"}:
            return {"approved": False, **_reason(reason)}
        raise NotAnAnswer("type y or n; Ctrl-C cancels the turn, Ctrl-D leaves it waiting")
    if text.startswith("!") and ask.get("kind") == "tool":
        return {"approved": False, **_reason(text[1:])}
    for choice in _choices_of(ask):
        if text in {choice if isinstance(choice, str) else "", json.dumps(choice)}:
            return {"payload": choice}
    if takes_text(ask):
        return {"payload": text}
    try:
        return {"payload": json.loads(text)}
    except ValueError as error:
        raise NotAnAnswer(f"type {_choices(ask) or f'JSON: {error}'}") from error


def _reason(text: str) -> dict[str, str]:
    return {"reason": text.strip()} if text.strip() else {}
