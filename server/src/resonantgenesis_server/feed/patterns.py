"""Patterns over event types: segments between dots, with `*`.

Compared segment by segment. As one regular expression, the largest set of patterns that a client
may send took 400 ms to compile.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from operator import itemgetter

_PATTERN = re.compile(r"(\*|[A-Za-z0-9_-]+)(\.(\*|[A-Za-z0-9_-]+))*")
#: Characters and segments of one, and segments of all that are compared with each new type.
MAX_PATTERN, MAX_SEGMENTS, _MAX_TOGETHER = 200, 16, 200


class BadPattern(ValueError):
    """Not a pattern, or more than one subscription may have; the message is for clients."""


class Patterns:
    """Several of them: a last `*` is one or more segments, an inner one exactly one.

    Raises BadPattern.
    """

    __slots__ = ("_shapes", "_types")

    def __init__(self, patterns: Iterable[str]) -> None:
        split = [_segments(pattern) for pattern in patterns]
        if sum(map(len, split)) > _MAX_TOGETHER:
            raise BadPattern(f"patterns have at most {_MAX_TOGETHER} segments together")
        self._types = frozenset(".".join(each) for each in split if "*" not in each)
        self._shapes = [_Shape(each) for each in split if "*" in each]

    def match(self, kind: str) -> bool:
        """Whether one of them stands for this type."""
        if kind in self._types:
            return True
        segments = kind.split(".")
        return "" not in segments and any(shape.fits(segments) for shape in self._shapes)


class _Shape:
    """A pattern with stars: how many segments it has, and which stand where."""

    __slots__ = ("_fixed", "_length", "_open", "_pick")

    def __init__(self, segments: Sequence[str]) -> None:
        self._length = len(segments)
        self._open = segments[-1] == "*"
        named = [place for place, segment in enumerate(segments) if segment != "*"]
        # One call compares all: of a single place it gives the segment, else a tuple.
        self._pick = itemgetter(*named) if named else None
        self._fixed = None if self._pick is None else self._pick(segments)

    def fits(self, segments: Sequence[str]) -> bool:
        length = len(segments)
        if length < self._length or (length > self._length and not self._open):
            return False
        return self._pick is None or bool(self._pick(segments) == self._fixed)


def _segments(pattern: str) -> tuple[str, ...]:
    if len(pattern) > MAX_PATTERN or _PATTERN.fullmatch(pattern) is None:
        raise BadPattern(f"{pattern[:80]!r} is not a type or a pattern like session.* or *.failed")
    segments = tuple(pattern.split("."))
    if len(segments) > MAX_SEGMENTS:
        raise BadPattern(f"{pattern[:80]!r} has more than {MAX_SEGMENTS} segments")
    return segments
