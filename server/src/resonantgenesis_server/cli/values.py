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
        if not equals or not name.strip() or not _is_sayable(pair):
            raise UsageProblem(f"{option} {pair!r} is no field; write it like {option} status=done")
        collected.setdefault(name.strip(), []).append(_scalar(value))
    return {name: got[0] if len(got) == 1 else got for name, got in collected.items()}


def duration(text: str, option: str) -> int:
    """A duration in seconds, from a number of seconds or a word like `12h`. Raises UsageProblem."""
    said = text.strip()
    if said.isascii() and said.isdigit() and len(said) < 12:
        return int(said)
    span = _AGO.fullmatch(said)
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
    if not _is_sayable(value):
        raise UsageProblem(f"{what} holds a number or a character that is none; leave it out")
    return value


def place(text: str, option: str) -> str:
    """A place in the log of events: a cursor, an ISO 8601 time, or a duration before now.

    A time without a zone is in this machine's zone. Raises UsageProblem.
    """
    said = text.strip()
    if said.startswith("c_"):
        return said
    try:
        ago = _AGO.fullmatch(said)
        if ago is not None:
            moment = datetime.now(UTC) - timedelta(**{_UNIT[ago[2]]: int(ago[1])})
        else:
            moment = datetime.fromisoformat(said).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageProblem(
            f"{option} {text!r} is no place; write 15m, 2h or 3d for how long ago, a time like"
            " 2026-02-21T10:30, or an event's cursor (c_…)"
        ) from None
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def patterns(arguments: Sequence[str]) -> tuple[str, ...]:
    """Patterns, with commas between several in one argument. Raises UsageProblem."""
    found = tuple(part.strip() for argument in arguments for part in argument.split(","))
    if not all(found):
        raise UsageProblem("a PATTERN is empty; write one like 'session.*', or none for all events")
    return found


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
    return value if _is_sayable(value) and not isinstance(value, dict | list) else text


def _is_sayable(value: Any) -> bool:
    """False for values that JSON in UTF-8 lacks: infinity (1e999), half a surrogate pair."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return False
    return True
