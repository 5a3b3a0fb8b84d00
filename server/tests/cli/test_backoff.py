"""When a connection is tried again, and when it is given up."""

from __future__ import annotations

import pytest
from resonantgenesis_server.cli import backoff
from resonantgenesis_server.cli.backoff import BackOff
from resonantgenesis_server.cli.errors import NetworkError

PROBLEM = NetworkError("gone")


class Clock:
    """Time that passes when it is waited for."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(backoff, "time", made)
    monkeypatch.setattr(backoff, "_FIRST_DELAY", 0.2)
    # The longest of full jitter, so that the bound is what is seen.
    monkeypatch.setattr(backoff.random, "uniform", lambda low, high: high)
    return made


def test_delays_double_to_a_bound_until_the_patience_is_spent(clock: Clock) -> None:
    told: list[str] = []
    back_off = BackOff(30.0, told.append)
    with pytest.raises(NetworkError, match="gone"):
        for _ in range(1000):
            back_off.wait(PROBLEM, "trying again")
    assert clock.slept[:6] == [0.2, 0.4, 0.8, 1.6, 3.0, 3.0]
    assert 27.0 <= sum(clock.slept) <= 30.0
    assert told == ["trying again"]


def test_a_stream_that_was_quiet_for_long_is_not_given_up_at_its_first_cut(clock: Clock) -> None:
    told: list[str] = []
    back_off = BackOff(30.0, told.append)
    back_off.wait(PROBLEM, "trying again")
    back_off.worked()
    clock.now += 3600
    back_off.wait(PROBLEM, "trying again")
    assert told == []
    back_off.wait(PROBLEM, "trying again")
    back_off.worked()
    back_off.worked()
    assert told == ["trying again", "connected again"]
    assert clock.slept == [0.2, 0.2, 0.4]


def test_the_server_says_how_long_at_least(clock: Clock) -> None:
    back_off = BackOff(30.0, lambda text: None)
    back_off.wait(NetworkError("draining", retry_after=7.0), "")
    assert clock.slept == [7.0]
    with pytest.raises(NetworkError):
        back_off.wait(NetworkError("draining", retry_after=24.0), "")
