"""Patterns over event types: segments between dots, with `*`."""

from __future__ import annotations

import re
from collections.abc import Iterable

_PATTERN = re.compile(r"(\*|[A-Za-z0-9_-]+)(\.(\*|[A-Za-z0-9_-]+))*")
MAX_PATTERN = 200


class BadPattern(ValueError):
    """Not a pattern; the message says what one looks like."""


def compile_patterns(patterns: Iterable[str]) -> re.Pattern[str]:
    """One expression for all: a last `*` is one or more segments, an inner one exactly one.

    Raises BadPattern.
    """
    return re.compile("|".join(_expression(pattern) for pattern in patterns))


def _expression(pattern: str) -> str:
    if len(pattern) > MAX_PATTERN or _PATTERN.fullmatch(pattern) is None:
        raise BadPattern(f"{pattern[:80]!r} is not a type or a pattern like session.* or *.failed")
    *inner, last = pattern.split(".")
    parts = [r"[^.]+" if part == "*" else re.escape(part) for part in inner]
    parts.append(r"[^.]+(?:\.[^.]+)*" if last == "*" else re.escape(last))
    return r"\.".join(parts)
