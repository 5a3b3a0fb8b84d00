from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.agents.base import PastTurn
from resonantgenesis_server.agents.engines.guide import (
    Demo,
    continued,
    find_expressions,
    last_result,
    understand,
)


@pytest.mark.parametrize(
    ("goal", "expressions"),
    [
        ("17 * 23", ["17 * 23"]),
        ("what's 17*23?", ["17*23"]),
        ("What is 12% of 250?", ["12 * 250 / 100"]),
        ("12.5 percent of 80", ["12.5 * 80 / 100"]),
        ("2 to the power of 10", ["2 ** 10"]),
        ("3 raised to the power 4", ["3 ** 4"]),
        ("five times six", ["5 * 6"]),
        ("100 divided by 8 minus 2", ["100 / 8 - 2"]),
        ("17 modulo 5", ["17 % 5"]),
        ("12 squared plus 5 cubed", ["12 ** 2 + 5 ** 3"]),
        ("the square root of 16", ["16 ** 0.5"]),
        ("1,234,567 + 1", ["1234567 + 1"]),
        ("6 × 7 − 2", ["6 * 7 - 2"]),
        ("2^8", ["2**8"]),
        ("(2 + 3) * (4 - 1)", ["(2 + 3) * (4 - 1)"]),
        ("-3 + 5", ["-3 + 5"]),
        ("tell me (see 3 + 4)", ["3 + 4"]),
        ("It is 3 + 4.", ["3 + 4"]),
        ("3 + 4 = ?", ["3 + 4"]),
        ("2+2 and 3*3", ["2+2", "3*3"]),
        ("1+1 or 2+2 or 3+3 or 4+4", ["1+1", "2+2", "3+3"]),
        ("what is 10/4", ["10/4"]),
        ("24/7", ["24/7"]),
        ("compute 1/0", ["1/0"]),
        ("calculate sqrt(2) * 3", ["sqrt(2) * 3"]),
        ("evaluate __import__('os')", ["__import__('os')"]),
        # and what is no sum
        ("is it up 24/7?", []),
        ("chunks 100-200 of my session", []),
        ("what happened on 2026-12-21?", []),
        ("version 3.11.7", []),
        ("HTTP/1.1 or HTTP/2", []),
        ("GET /v1/sessions/sess_1", []),
        ("how many times 3 retries", []),
        ("100% sure", []),
        ("twenty-one plus 2", []),
        ("calculate the cost", []),
        ("resume_from=42", []),
        ("", []),
    ],
)
def test_sums_are_found(goal: str, expressions: list[str]) -> None:
    assert find_expressions(goal)[0] == expressions


@pytest.mark.parametrize(
    ("follow_up", "before", "expression"),
    [
        ("and times 3?", "391", "391 * 3"),
        ("then divided by 2", "391", "391 / 2"),
        ("plus five", "-4", "(-4) + 5"),
        ("* 2 + 1", "7", "7 * 2 + 1"),
        ("squared", "-3", "(-3) ** 2"),
        ("to the power of 2", "5", "5 ** 2"),
        ("and mod 4", "7", "7 % 4"),
        ("12% of that", "90", "12 * 90 / 100"),
        ("the result minus 1", "90", "90 - 1"),
        ("+ 5", "7", "7 + 5"),
        ("-3 + 5", "7", None),
        ("- resume tokens", "7", None),
        ("times have changed", "7", None),
        ("and the limits?", "7", None),
        ("squared circles", "7", None),
        ("what is 2 + 2 of that", "7", None),
    ],
)
def test_follow_ups(follow_up: str, before: str, expression: str | None) -> None:
    assert continued(follow_up, before) == expression


def past(goal: str, output: str = "x") -> PastTurn:
    return PastTurn(goal, output, "success")


def test_the_last_result_is_the_newest_line_that_shows_one() -> None:
    assert last_result([]) is None
    assert last_result([past("a", "1 + 1 = 2\n"), past("b", "no sum")]) == "2"
    assert last_result([past("a", "I have:\n\n1 + 1 = 2\n3 - 9 = -6")]) == "-6"
    assert last_result([past("a", "10 ** 30 / 1.0 = 1e+30\n")]) == "1e+30"
    assert last_result([past("a", "> a = 5\nx = 5.")]) is None


def test_rules() -> None:
    assert understand("count to 7", []).demo == Demo("count", 7)
    assert understand("lorem 7", []).demo == Demo("lorem", 7)
    assert understand("how do I count to 7 chunks", []).demo is None
    assert understand("please cancel my turn", []).query == "cancel turn"
    assert understand("thanks!", []).query is None
    more = understand("more", [past("cancel a turn"), past("more")])
    assert (more.query, list(more.before)) == ("cancel turn", ["x", "x"])
    assert understand("and polling?", [past("resume"), past("lorem 5")]).query == "polling resume"
    assert understand("2 + 2 and polling", [past("resume")]).query == "polling"


@given(st.text(alphabet="0123456789.,()+-*/% =xaof\n", max_size=4_000))
def test_any_goal_is_understood(goal: str) -> None:
    understand(goal, [past("a", "1 + 1 = 2"), past(goal, goal)])


@pytest.mark.parametrize("unit", ["1", "(", ")", "1+", "1 ", "- ", "= 1", "1,111", "one ", "and "])
def test_no_goal_makes_the_rules_try_for_ever(unit: str) -> None:
    """A rule that looked back over a long goal again and again would not end here."""
    goal = (unit * 70_000)[:65_536]
    understand(goal, [past("a", "1 + 1 = 2"), past(goal, goal)])
