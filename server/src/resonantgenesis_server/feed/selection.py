"""What a subscription lets through: compiled and matched once for all who asked for the same."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ..log.base import Entry
from .patterns import compile_patterns

_TYPES_REMEMBERED = 1_000
_MISSING = object()

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A subscription in its canonical form; equal ones share a Selection.

    `patterns`: None for every type. `filters`: dotted paths into an event, each with the values
    it may have; all must hold. `within`: patterns of which one must hold as well, for channels.
    """

    patterns: tuple[str, ...] | None = None
    filters: tuple[tuple[str, tuple[Scalar, ...]], ...] = ()
    within: tuple[str, ...] | None = None


class Selection:
    """Picks entries of an event log. Made by `Selections`; raises BadPattern there."""

    __slots__ = ("__weakref__", "_filters", "_patterns", "_types", "wanted")

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self._patterns = [
            compile_patterns(patterns)
            for patterns in (wanted.within, wanted.patterns)
            if patterns is not None
        ]
        self._filters = [
            (path.split("."), frozenset(_tagged(value) for value in values))
            for path, values in wanted.filters
        ]
        self._types: dict[str, bool] = {}

    def pick(self, entries: Sequence[Entry]) -> list[Entry]:
        """Those that match, in order."""
        return [entry for entry in entries if self.matches(entry)]

    def matches(self, entry: Entry) -> bool:
        if not self._type_matches(entry.kind):
            return False
        return not self._filters or self._data_matches(parsed(entry))

    def _type_matches(self, kind: str) -> bool:
        known = self._types.get(kind)
        if known is None:
            if len(self._types) >= _TYPES_REMEMBERED:
                self._types.clear()
            known = all(pattern.fullmatch(kind) is not None for pattern in self._patterns)
            self._types[kind] = known
        return known

    def _data_matches(self, event: Mapping[str, Any]) -> bool:
        for path, allowed in self._filters:
            value: Any = event
            for step in path:
                value = value.get(step, _MISSING) if isinstance(value, dict) else _MISSING
            if not isinstance(value, str | int | float | bool | None):
                return False
            if _tagged(value) not in allowed:
                return False
        return True


class Selections:
    """One Selection for all equal subscriptions, as long as somebody holds it."""

    def __init__(self) -> None:
        self._known: weakref.WeakValueDictionary[Wanted, Selection] = weakref.WeakValueDictionary()

    def get(self, wanted: Wanted) -> Selection:
        """Raises BadPattern."""
        selection = self._known.get(wanted)
        if selection is None:
            selection = Selection(wanted)
            self._known[wanted] = selection
        return selection

    def __len__(self) -> int:
        return len(self._known)


def canonical_filters(
    filters: Mapping[str, Scalar | Sequence[Scalar]],
) -> tuple[tuple[str, tuple[Scalar, ...]], ...]:
    """`{field: value or [values]}` in the form of `Wanted.filters`."""
    pairs: list[tuple[str, tuple[Scalar, ...]]] = []
    for path, value in sorted(filters.items()):
        values: Iterable[Scalar] = value if isinstance(value, list | tuple) else [value]  # type: ignore[list-item]
        pairs.append((path, tuple(sorted(values, key=repr))))
    return tuple(pairs)


def parsed(entry: Entry) -> Mapping[str, Any]:
    """The entry's body as an object; made once, while somebody filters by it."""
    if entry.data is None:
        entry.data = orjson.loads(entry.body)
    return entry.data


def _tagged(value: Scalar) -> tuple[str, Scalar]:
    """JSON tells true from 1 and "1"; Python's equality does not."""
    if isinstance(value, bool):
        return "bool", value
    return ("number", value) if isinstance(value, int | float) else ("other", value)
