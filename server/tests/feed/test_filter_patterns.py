"""Patterns: the cases of the protocol, anything else against a model, and what they may cost."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.feed.filter import BadPattern, Patterns

ROOT = Path(__file__).parents[3]
CASES = yaml.safe_load((ROOT / "protocol" / "patterns.yaml").read_text())["cases"]
SEGMENTS = st.lists(st.sampled_from(["*", "a", "b", "app"]), min_size=1, max_size=5)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_cases_of_the_protocol(case: dict[str, list[str]]) -> None:
    patterns = Patterns([str(case["pattern"])])
    assert all(patterns.match(kind) for kind in case["matches"])
    assert not any(patterns.match(kind) for kind in case["misses"])


def expression(pattern: str) -> str:
    """The rule in one line: a last `*` is one or more segments, an inner one exactly one."""
    *inner, last = pattern.split(".")
    parts = [r"[^.]+" if part == "*" else part for part in inner]
    return r"\.".join([*parts, r"[^.]+(?:\.[^.]+)*" if last == "*" else last])


@given(
    st.lists(SEGMENTS.map(".".join), max_size=4),
    st.lists(st.sampled_from(["a", "b", "app", ""]), max_size=6).map(".".join),
)
def test_any_patterns_match_as_the_rule_says(patterns: list[str], kind: str) -> None:
    expected = any(re.fullmatch(expression(pattern), kind) for pattern in patterns)
    assert Patterns(patterns).match(kind) is expected


@pytest.mark.parametrize(
    "patterns",
    [
        *(["a" * 201], ["a."], [".a"], ["a..b"], ["a*"], ["**"], [""], ["é"]),
        ["*." * 16 + "*"],
        [f"a{n}." + "*." * 14 + "*" for n in range(13)],
    ],
)
def test_what_is_no_pattern_or_too_much(patterns: list[str]) -> None:
    with pytest.raises(BadPattern) as caught:
        Patterns(patterns)
    assert len(str(caught.value)) < 200


def test_the_most_that_one_may_ask_for_costs_little() -> None:
    largest = [f"{'*.' * 14}a{n}.*" for n in range(12)]
    kind = "a." * 99 + "b"
    began = time.thread_time()
    for _ in range(200):
        assert not Patterns(largest).match(kind)
    assert time.thread_time() - began < 1  # each some 0.1 ms; an expression of these took 80
