"""Fields, times, ids and patterns: from the words of a person to the values of the server."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ..model.events import CHANNELS, channel_of, prefix_of
from .errors import UsageProblem

_AGO = re.compile(r"(\d{1,9})([smhd])")
_UNIT = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def fields(pairs: Sequence[str], option: str) -> dict[str, Any]:
    """Fields from `name=value`. A value is a JSON scalar if it reads as one, else text.

    A name that is given again collects its values. Raises UsageProblem, which names the option.
    """
    collected: dict[str, list[Any]] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip() or not _is_json(pair):
            raise UsageProblem(f"{option} {pair!r} is no field; write it like {option} status=done")
        collected.setdefault(name.strip(), []).append(_scalar(value))
    return {name: each[0] if len(each) == 1 else each for name, each in collected.items()}


def duration(text: str, option: str) -> int:
    """A duration in seconds, from a number of seconds or a word like `12h`. Raises UsageProblem."""
    typed = text.strip()
    if typed.isascii() and typed.isdigit() and len(typed) < 12:
        return int(typed)
    span = _AGO.fullmatch(typed)
    if span is None:
        raise UsageProblem(f"{option} {text!r} is no time; write it like 90d, 12h, 30m or 3600")
    return int(timedelta(**{_UNIT[span[2]]: int(span[1])}).total_seconds())


def identifier(text: str) -> str:
    """An id. Raises UsageProblem for one that cannot stand in a path."""
    if text in {"", ".", ".."}:
        raise UsageProblem(f"{text!r} is not an id")
    return text


def json_object(text: str, what: str) -> dict[str, Any]:
    """A JSON object; `what` names it in the UsageProblem that is raised otherwise."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageProblem(f"{what} is not JSON ({error}); quote it: '{{\"order\": 7}}'") from None
    if not isinstance(value, dict):
        raise UsageProblem(f"{what} is not a JSON object; write it like '{{\"order\": 7}}'")
    if not _is_json(value):
        raise UsageProblem(f"{what} holds a number or a character that is none; leave it out")
    return value


def json_value(text: str) -> Any:
    """A value that is JSON. Raises UsageProblem."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageProblem(f"--payload: {text[:60]!r} is no JSON; --text gives text") from error
    if not _is_json(value):
        raise UsageProblem(f"--payload: {text[:60]!r} is no JSON")
    return value


def place(text: str, option: str) -> str:
    """A place in the log of events: a cursor, an ISO 8601 time, or a duration before now.

    A time without a zone is in this machine's zone. Raises UsageProblem.
    """
    typed = text.strip()
    if typed.startswith("c_"):
        return typed
    try:
        ago = _AGO.fullmatch(typed)
        if ago is not None:
            moment = datetime.now(UTC) - timedelta(**{_UNIT[ago[2]]: int(ago[1])})
        else:
            moment = datetime.fromisoformat(typed).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageProblem(
            f"{option} {text!r} is no place; write 15m, 2h or 3d for how long ago, a time like"
            " 2026-02-21T10:30, or an event's cursor (c_…)"
        ) from None
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def patterns(arguments: Sequence[str]) -> tuple[str, ...]:
    """Patterns, with commas between several in one argument. Raises UsageProblem."""
    types = tuple(part.strip() for argument in arguments for part in argument.split(","))
    if not all(types):
        raise UsageProblem("a PATTERN is empty; write one like 'session.*', or none for all events")
    return types


def doubt(pattern: str) -> str | None:
    """The reason why a pattern hardly matches anything; None if it may."""
    first = pattern.partition(".")[0]
    if first == "*" or channel_of(first) is not None:
        return None
    if first in CHANNELS:
        return f"events of the channel {first} have types like {prefix_of(first)}.*, not {pattern}"
    known = ", ".join(f"{prefix_of(channel)}.*" for channel in CHANNELS)
    return f"no event known here has a type like {pattern}; there are {known}"


def _scalar(text: str) -> Any:
    try:
        value = json.loads(text, parse_constant=str)
    except ValueError:
        return text
    return value if _is_json(value) and not isinstance(value, dict | list) else text


def _is_json(value: Any) -> bool:
    """False for values that JSON in UTF-8 lacks: infinity (1e999), half a surrogate pair."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return False
    return True
