"""Filters: what they let through, what one may ask for, and that a long path costs nothing."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.feed.filter import (
    BadFilter,
    CompiledFilters,
    EventFilter,
    event_filters,
)
from resonantgenesis_server.log.base import Entry

SELECTIONS = CompiledFilters()


def entry(data: dict[str, Any], position: int = 1) -> Entry:
    return Entry(position, "app.x", orjson.dumps({"data": data}), 0)


def matches(data: dict[str, Any], filters: dict[str, Any]) -> bool:
    wanted = EventFilter(filters=tuple(event_filters(filters, beside=0)))
    return SELECTIONS.get(wanted).matches(entry(data))


@pytest.mark.parametrize(
    ("data", "filters", "expected"),
    [
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1}, {"a": [2, 1]}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": None}, {"a": None}, True),
        ({}, {"a": None}, False),
        ({"a": {"b": {"c": "x"}}}, {"a.b.c": "x"}, True),
        ({"a": {"b": {"c": "x"}}}, {"a.b": "x"}, False),
        ({"a": "x"}, {"a.b.c": "x"}, False),
        ({"a": ["x"]}, {"a": "x"}, False),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, False),
    ],
)
def test_what_a_filter_lets_through(
    data: dict[str, Any], filters: dict[str, Any], expected: bool
) -> None:
    assert matches(data, filters) is expected


@pytest.mark.parametrize(
    "filters",
    [
        {"a" * 200: 1},
        {".".join("abcdefghijklmnop"): 1},
        {f"f{n}": n for n in range(20)},
        {f"{'a.' * 15}f{n}": n for n in range(4)},
        {f"a.b.f{n}": n for n in range(20)},
        {"a": list(range(100))},
        {"a": "x" * 1_000},
        {"a": [f"{n:0999}" for n in range(16)]},
    ],
)
def test_as_much_may_be_asked_for(filters: dict[str, Any]) -> None:
    assert len(event_filters(filters, beside=100)) == len(filters)


@pytest.mark.parametrize(
    ("filters", "field"),
    [
        ({"": 1}, "filters"),
        ({"a" * 201: 1}, "filters"),
        ({"." * 16: 1}, "filters"),
        ({".".join("abcdefghijklmnopq"): 1}, "filters"),
        ({f"f{n}": n for n in range(21)}, "filters"),
        ({f"{'a.' * 15}f{n}": n for n in range(5)}, "filters"),
        ({f"a.b.c.f{n}": n for n in range(17)}, "filters"),
        ({"a": []}, "filters.a"),
        ({"a": list(range(101))}, "filters.a"),
        ({"a": "x" * 1_001}, "filters.a"),
        ({"a": {"b": 1}}, "filters.a"),
        ({"a": [[1]]}, "filters.a"),
        ({"a": [f"{n:0999}" for n in range(17)]}, "filters"),
    ],
)
def test_and_not_more(filters: dict[str, Any], field: str) -> None:
    with pytest.raises(BadFilter) as caught:
        event_filters(filters, beside=0)
    assert caught.value.field == field
    assert len(str(caught.value)) < 200


def test_patterns_count_with_the_filters() -> None:
    event_filters({"a": "x" * 1_000}, beside=15_000)
    with pytest.raises(BadFilter):
        event_filters({"a": "x" * 1_000}, beside=16_000)


def test_the_worst_subscription_costs_less_than_what_it_is_matched_against() -> None:
    """Four paths of sixteen steps, all of them there."""
    inner: dict[str, Any] = {f"v{n}": n for n in range(20)}
    path = ""
    for n in range(15):
        inner, path = {f"s{n}": inner}, f"s{n}.{path}"
    body = orjson.dumps({"data": inner})
    filters = {f"{path}v{n}": [n, *range(100, 199)] for n in range(4)}
    selection = SELECTIONS.get(EventFilter(filters=tuple(event_filters(filters, beside=0))))
    one = Entry(1, "app.x", body, 0)
    assert selection.matches(one)
    began = time.thread_time()
    for _ in range(1_000):
        assert selection.matches(one)
    assert time.thread_time() - began < 1  # some 10 µs each; without a bound there is none here


@given(
    st.dictionaries(st.text(max_size=250), st.none() | st.integers() | st.lists(st.text())),
    st.integers(0, 10_000),
)
def test_any_filters_are_taken_or_refused(filters: dict[str, Any], beside: int) -> None:
    try:
        found = event_filters(filters, beside=beside)
    except BadFilter:
        return
    assert all(path.count(".") <= 16 for path, _ in found)
    assert beside + sum(len(path) for path in filters) <= 16_384
