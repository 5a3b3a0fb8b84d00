"""Filters of events: compiled once and matched once for all equal subscriptions."""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from operator import itemgetter
from typing import Any

import orjson

from ..codec.json import SCALARS
from ..log.base import Entry
from ..model.events import AUDIT, PREFIXES, PUBLISHABLE, SERVER_TYPES

# Patterns are compared segment by segment: as one regular expression, the largest set of patterns
# that a client may send took 400 ms to compile.
_PATTERN = re.compile(r"(\*|[A-Za-z0-9_-]+)(\.(\*|[A-Za-z0-9_-]+))*")
#: Characters and segments of one pattern, and segments of all patterns of a subscription.
MAX_PATTERN, MAX_SEGMENTS, _MAX_TOGETHER = 200, 16, 200
#: Patterns of one subscription.
MAX_PATTERNS = 50


class BadPattern(ValueError):
    """Not a pattern, or too many for one subscription. The message is for clients."""


class Patterns:
    """A set of patterns. A last `*` stands for one or more segments, any other `*` for one.

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
        """Whether one of the patterns matches this type."""
        if kind in self._types:
            return True
        segments = kind.split(".")
        return "" not in segments and any(shape.fits(segments) for shape in self._shapes)


class _Shape:
    """A pattern with stars: the number of its segments, and the fixed ones with their places."""

    __slots__ = ("_fixed", "_length", "_open", "_pick")

    def __init__(self, segments: Sequence[str]) -> None:
        self._length = len(segments)
        self._open = segments[-1] == "*"
        named = [place for place, segment in enumerate(segments) if segment != "*"]
        # One call compares all: it gives the segment of a single place, else a tuple.
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


def may_match(pattern: str) -> bool:
    """Whether any event that there can be matches. Raises BadPattern."""
    first = pattern.partition(".")[0]
    matches = Patterns([pattern]).match
    return first in {"*", *PUBLISHABLE} or any(map(matches, SERVER_TYPES))


def unknown_pattern(pattern: str) -> str:
    """The words for a pattern that no event matches, with the type that it is nearest to."""
    near = get_close_matches(pattern, sorted(SERVER_TYPES), n=1)
    return f"no event has the type {pattern[:80]!r}" + (
        f"; did you mean {near[0]}?" if near else f"; types begin with {', '.join(PREFIXES)}"
    )


_TYPES_REMEMBERED = 1_000
_MISSING = object()

Scalar = str | int | float | bool | None
Filters = Mapping[str, Scalar | Sequence[Scalar]]

# Bounds of one subscription's cost for each event, and of its memory: fields, characters and steps
# of a path, steps of all paths (0.15 µs each for each event), values of a field, characters of a
# value, characters of all patterns and filters.
MAX_FILTERS = 20
_MAX_PATH, _MAX_STEPS, _MAX_STEPS_TOGETHER = 200, 16, 64
_MAX_VALUES, _MAX_VALUE = 100, 1_000
_MAX_SIZE = 16_384


class BadFilter(ValueError):
    """Not a filter, or too much for one subscription. `field` names the request's field."""

    def __init__(self, problem: str, field: str = "filters") -> None:
        super().__init__(problem)
        self.field = field


@dataclass(frozen=True, slots=True)
class EventFilter:
    """The filter of a subscription in canonical form. Equal filters share a CompiledFilter.

    `patterns`: types to match; None for every type. `filters`: dotted paths into an event, each
    with its allowed values; all must match. `within`: patterns of the channels, of which one must
    match as well. `bound`: required values of `subject`, `session_id` and `agent_id`.
    """

    patterns: tuple[str, ...] | None = None
    filters: tuple[tuple[str, tuple[Scalar, ...]], ...] = ()
    within: tuple[str, ...] | None = None
    bound: tuple[tuple[str, str], ...] = ()
    #: Whether administrative acts may match.
    audit: bool = False


class CompiledFilter:
    """Picks entries of an event log. `CompiledFilters` makes it, and raises BadPattern."""

    __slots__ = ("__weakref__", "_filters", "_patterns", "_types", "wanted")

    def __init__(self, wanted: EventFilter) -> None:
        self.wanted = wanted
        self._patterns = [
            Patterns(patterns)
            for patterns in (wanted.within, wanted.patterns)
            if patterns is not None
        ]
        self._filters = [
            (path.split("."), frozenset(_tagged(value) for value in values))
            for path, values in wanted.filters
        ]
        self._types: dict[str, bool] = {}

    def pick(self, entries: Sequence[Entry]) -> list[Entry]:
        """The entries that match, in order."""
        return [entry for entry in entries if self.matches(entry)]

    def matches(self, entry: Entry) -> bool:
        if not self._type_matches(entry.kind):
            return False
        if not self._filters and not self.wanted.bound:
            return True
        event = parsed(entry)
        return self._is_theirs(event) and self._data_matches(event)

    def _is_theirs(self, event: Mapping[str, Any]) -> bool:
        """Whether the event has the bound values where the server wrote them.

        These are in `metadata`, and in the `data` of the server's own types. The `data` of a
        published event never decides who sees it.
        """
        if not self.wanted.bound:
            return True
        metadata = event["metadata"]
        trusted = {**event["data"], **metadata} if event["type"] in SERVER_TYPES else metadata
        return all(trusted.get(name) == value for name, value in self.wanted.bound)

    def _type_matches(self, kind: str) -> bool:
        known = self._types.get(kind)
        if known is None:
            if len(self._types) >= _TYPES_REMEMBERED:
                self._types.clear()
            is_hidden = kind.startswith(AUDIT) and not self.wanted.audit
            known = not is_hidden and all(patterns.match(kind) for patterns in self._patterns)
            self._types[kind] = known
        return known

    def _data_matches(self, event: Mapping[str, Any]) -> bool:
        for path, allowed in self._filters:
            value: Any = event
            for step in path:
                value = value.get(step, _MISSING) if isinstance(value, dict) else _MISSING
                if value is _MISSING:
                    return False
            if value.__class__ not in SCALARS or _tagged(value) not in allowed:
                return False
        return True


class CompiledFilters:
    """Keeps one CompiledFilter for all equal subscriptions, as long as one of them holds it."""

    def __init__(self) -> None:
        self._known: weakref.WeakValueDictionary[EventFilter, CompiledFilter] = (
            weakref.WeakValueDictionary()
        )

    def get(self, wanted: EventFilter) -> CompiledFilter:
        """Raises BadPattern."""
        selection = self._known.get(wanted)
        if selection is None:
            selection = CompiledFilter(wanted)
            self._known[wanted] = selection
        return selection

    def __len__(self) -> int:
        return len(self._known)


def event_filters(filters: Filters, *, beside: int) -> list[tuple[str, tuple[Scalar, ...]]]:
    """Turn `{field: value or [values]}` on `data` into `EventFilter.filters`.

    `beside`: number of characters of the subscription's patterns. Raises BadFilter.
    """
    if len(filters) > MAX_FILTERS:
        raise BadFilter(f"at most {MAX_FILTERS} fields")
    found: list[tuple[str, tuple[Scalar, ...]]] = []
    steps = sum(path.count(".") + 1 for path in filters)
    if steps > _MAX_STEPS_TOGETHER:
        raise BadFilter(
            f"the paths of all fields have at most {_MAX_STEPS_TOGETHER} steps together"
        )
    size = beside
    for path, value in sorted(filters.items()):
        _check_path(path)
        values = _checked_values(path, value)
        size += len(path) + sum(len(item) if isinstance(item, str) else 8 for item in values)
        if size > _MAX_SIZE:
            raise BadFilter(f"patterns and filters together are over {_MAX_SIZE} characters")
        found.append((f"data.{path}", tuple(sorted(values, key=repr))))
    return found


def _check_path(path: str) -> None:
    if not 0 < len(path) <= _MAX_PATH or path.count(".") >= _MAX_STEPS:
        problem = f"a field's path has 1 to {_MAX_PATH} characters and at most {_MAX_STEPS} steps"
        raise BadFilter(problem)


def _checked_values(path: str, value: Scalar | Sequence[Scalar]) -> Sequence[Scalar]:
    values: Sequence[Scalar] = value if isinstance(value, list | tuple) else [value]  # type: ignore[list-item]
    if not 0 < len(values) <= _MAX_VALUES:
        raise BadFilter(f"1 to {_MAX_VALUES} values for each field", f"filters.{path}")
    for item in values:
        if not isinstance(item, str | int | float | bool | None):
            raise BadFilter("takes a scalar or a list of scalars", f"filters.{path}")
        if isinstance(item, str) and len(item) > _MAX_VALUE:
            raise BadFilter(f"a value has at most {_MAX_VALUE} characters", f"filters.{path}")
    return values


def parsed(entry: Entry) -> Mapping[str, Any]:
    """The entry's body as an object, parsed once for all filters."""
    if entry.data is None:
        entry.data = orjson.loads(entry.body)
    return entry.data


def _tagged(value: Scalar) -> tuple[str, Scalar]:
    """A key under which true, 1 and "1" differ, as in JSON. For Python true equals 1."""
    if isinstance(value, bool):
        return "bool", value
    return ("number", value) if isinstance(value, int | float) else ("other", value)
