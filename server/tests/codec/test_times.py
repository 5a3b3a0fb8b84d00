"""Times as the API shows them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.codec.times import parse_time, rfc3339
from resonantgenesis_server.records.tables import micros, seconds


@given(st.floats(min_value=0, max_value=4e9))
def test_a_time_is_shown_alike_before_and_after_it_was_kept(time: float) -> None:
    """Rounded in two ways, one in some times differed by a microsecond."""
    kept = micros(time)
    assert rfc3339(time) == rfc3339(seconds(kept))
    assert parse_time(rfc3339(time)) == kept
