"""Months, and what is counted in them."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.budget import Budget, Month
from resonantgenesis_server.model.errors import RateLimited

FEBRUARY = datetime(2028, 2, 1, tzinfo=UTC).timestamp()
MARCH = datetime(2028, 3, 1, tzinfo=UTC).timestamp()
DAY = 86_400.0


class Clock:
    def __init__(self, now: float = FEBRUARY + 10 * DAY) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@given(st.floats(0, 200_000 * DAY))
def test_every_moment_is_in_one_month(seconds: float) -> None:
    month = Month.of(seconds)
    assert month.begins <= seconds < month.ends
    assert Month.of(month.begins) == month
    assert Month.of(month.ends).begins == month.ends
    begins = datetime.fromtimestamp(month.begins, UTC)
    assert (begins.day, begins.strftime("%H%M%S.%f"), begins.strftime("%Y-%m")) == (
        1, "000000.000000", month.name,
    )  # fmt: skip
    assert 28 <= (month.ends - month.begins) / DAY <= 31


def test_a_leap_year_and_a_december() -> None:
    assert (Month.of(FEBRUARY).name, Month.of(FEBRUARY).ends) == ("2028-02", MARCH)
    december = Month.of(datetime(2028, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())
    assert december.ends == datetime(2029, 1, 1, tzinfo=UTC).timestamp()


def test_at_the_limit_nothing_starts_until_the_month_is_over(clock: Clock) -> None:
    budget = Budget(100, clock=clock)
    budget.check("org")
    assert not budget.add("org", clock.now, 99)
    budget.check("org")
    assert budget.add("org", clock.now, 1)
    with pytest.raises(RateLimited) as refused:
        budget.check("org")
    assert refused.value.retry_after == math.ceil(MARCH - clock.now)
    budget.check("other")
    clock.now = MARCH - 0.25
    with pytest.raises(RateLimited) as refused:
        budget.check("org")
    assert refused.value.retry_after == 1
    clock.now = MARCH
    budget.check("org")
    assert (budget.state("org").used, budget.state("org").month.name) == (0, "2028-03")
    assert not budget.add("org", clock.now, 99)
    budget.check("org")


def test_a_reached_budget_is_due_until_it_is_reported(clock: Clock) -> None:
    budget = Budget(100, clock=clock)
    budget.add("org", clock.now, 100)
    budget.add("other", clock.now, 99)
    assert [(due.organization_id, due.used) for due in budget.due()] == [("org", 100)]
    budget.written("org", "2028-01")
    budget.written("nobody", "2028-02")
    assert budget.due()
    budget.written("org", "2028-02")
    assert not budget.due()
    assert not budget.add("org", clock.now, 5)
    clock.now = MARCH + 1
    assert budget.add("org", clock.now, 100)


@pytest.mark.parametrize(("told", "due"), [(None, 1), ("2028-01", 1), ("2028-02", 0)])
def test_what_was_counted_before_this_process(clock: Clock, told: str | None, due: int) -> None:
    budget = Budget(100, clock=clock)
    budget.load("org", 250, told)
    assert len(budget.due()) == due
    with pytest.raises(RateLimited):
        budget.check("org")


def test_a_turn_of_an_earlier_month_does_not_count(clock: Clock) -> None:
    """Its `done` was committed before the month began, and is only announced now."""
    budget = Budget(100, clock=clock)
    budget.load("org", 0, None)
    budget.add("org", FEBRUARY - 1, 100)
    budget.check("org")


def test_without_a_budget_nothing_is_refused_or_reported(clock: Clock) -> None:
    budget = Budget(0, clock=clock)
    assert not budget.add("org", clock.now, 10**12)
    budget.check("org")
    assert not budget.due()
    assert budget.state("org").used == 10**12
