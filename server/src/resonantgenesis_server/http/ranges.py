"""Which part of a representation a request asks for, and whether it has it already (RFC 9110,
sections 13 and 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..model.errors import RangeNotSatisfiable

_RANGE = re.compile(r"bytes[ \t]*=[ \t,]*([0-9]*)-([0-9]*)[ \t,]*", re.IGNORECASE)
_TAG = re.compile(r'(?:W/)?("[^"]*")')
#: No content is longer; a number with more digits is as good as infinite.
_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes from `start` up to `end`, which is not in it."""

    start: int
    end: int


def part_of(wanted: str | None, if_range: str | None, etag: str, size: int) -> Part | None:
    """The part that a GET with these headers is answered with; None: the whole.

    What is no range of bytes, or names several, is ignored, as is one of content that has changed
    (`if_range`) or is empty. Raises RangeNotSatisfiable for one that begins behind the end.
    """
    if wanted is None or not size or if_range not in {None, etag}:
        return None
    match = _RANGE.fullmatch(wanted.strip())
    if match is None or match[1] == match[2] == "":
        return None
    if not match[1]:
        part = Part(max(0, size - _number(match[2])), size)
    else:
        start = _number(match[1])
        last = _number(match[2]) if match[2] else size - 1
        if match[2] and last < start:
            return None
        part = Part(start, min(last + 1, size))
    if part.start >= part.end:
        raise RangeNotSatisfiable(f"the content has {size} bytes", details={"size": size})
    return part


def has_already(if_none_match: str | None, etag: str) -> bool:
    """Whether the client named this content among what it has."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or etag in _TAG.findall(if_none_match)


def _number(digits: str) -> int:
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= _DIGITS else 10**_DIGITS
