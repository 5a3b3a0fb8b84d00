"""When a socket is pinged and called dead, and how fast it is written to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis._realtime.keepalive import Keepalive, TokenBucket


@given(st.lists(st.floats(0, 0.5), max_size=60), st.floats(1, 1000), st.integers(1, 20))
def test_the_pace_holds_in_every_stretch_of_time(
    pauses: list[float], rate: float, burst: int
) -> None:
    pace, now, used = TokenBucket(rate, burst), 100.0, []
    for pause in pauses:
        now += pause
        now += pace.wait(now)
        used.append(now)
    for first, begin in enumerate(used):
        for last in range(first, len(used)):
            assert last - first + 1 <= burst + rate * (used[last] - begin) + 1e-6


def test_a_link_is_dead_when_nothing_follows_a_ping() -> None:
    watch = Keepalive(0.0, interval=30, patience=10)
    assert watch.due(29.9) is None and watch.next_at == 30
    assert watch.due(30) == "ping" and watch.next_at == 40
    watch.heard()
    assert watch.due(45) is None and watch.next_at == 60
    assert not watch.outlived(29) and watch.outlived(30)
    assert watch.due(61) == "ping" and watch.due(70.9) is None and watch.due(71) == "dead"
