"""Fields, times and patterns as they are typed."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.cli.errors import UsageProblem
from resonantgenesis_server.cli.values import doubt, fields, json_object, patterns, place


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("success", "success"),
        ("12", 12),
        ("-1.5e3", -1500.0),
        ("true", True),
        ("null", None),
        ('"12"', "12"),
        ("", ""),
        ("a=b", "a=b"),
        ("agent 7", "agent 7"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("1e999", "1e999"),
        ('"\\ud800"', '"\\ud800"'),
        ("[1, 2]", "[1, 2]"),
        ('{"a": 1}', '{"a": 1}'),
    ],
)
def test_a_value_is_a_json_scalar_if_it_is_one_else_text(typed: str, value: object) -> None:
    got = fields([f"field={typed}"], "--filter")
    assert got == {"field": value}
    assert type(got["field"]) is type(value)


def test_a_field_given_again_collects_its_values() -> None:
    pairs = ["status=failed", "turn=1", "status=timeout", "user.plan=pro"]
    expected = {"status": ["failed", "timeout"], "turn": 1, "user.plan": "pro"}
    assert fields(pairs, "--filter") == expected


@pytest.mark.parametrize("pair", ["status", "=x", " =x", "", "a=\udcff"])
def test_what_is_no_field(pair: str) -> None:
    with pytest.raises(UsageProblem, match="write it like --filter status=done"):
        fields([pair], "--filter")


@given(
    st.dictionaries(
        st.text(min_size=1).filter(lambda name: "=" not in name and name.strip() == name),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        min_size=1,
    )
)
def test_every_scalar_can_be_written(values: dict[str, object]) -> None:
    pairs = [f"{name}={json.dumps(value)}" for name, value in values.items()]
    got = fields(pairs, "--field")
    assert json.dumps(got) == json.dumps(values)


def test_data_is_an_object() -> None:
    assert json_object('{"a": {"b": [1]}}', "DATA") == {"a": {"b": [1]}}
    for wrong in ("{a: 1}", "", "[1]", "7"):
        with pytest.raises(UsageProblem, match=r"^DATA is not .*\{\"order\": 7\}"):
            json_object(wrong, "DATA")
    for wrong in ('{"a": 1e999}', '{"a": [NaN]}', '{"a": "\\ud800"}'):
        with pytest.raises(UsageProblem, match=r"^DATA holds a number or a character that is none"):
            json_object(wrong, "DATA")


def test_places(monkeypatch: pytest.MonkeyPatch) -> None:
    assert place("c_a.1", "--since") == "c_a.1"
    assert place("2026-02-21T10:30:00Z", "--since") == "2026-02-21T10:30:00.000000Z"
    assert place("2026-02-21T10:30:00.25+01:00", "--since") == "2026-02-21T09:30:00.250000Z"
    monkeypatch.setenv("TZ", "Etc/GMT-2")  # two hours east
    time.tzset()
    try:
        assert place("2026-02-21", "--since") == "2026-02-20T22:00:00.000000Z"
        assert place("2026-02-21T10:30", "--since") == "2026-02-21T08:30:00.000000Z"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(("ago", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200)])
def test_how_long_ago(ago: str, seconds: int) -> None:
    before = datetime.now(UTC).timestamp()
    got = datetime.fromisoformat(place(ago, "--since")).timestamp() + seconds
    assert before - 0.001 <= got <= datetime.now(UTC).timestamp() + 0.001


@pytest.mark.parametrize("wrong", ["yesterday", "", "5w", "m", "2026-13-01", "999999999d", "-5m"])
def test_what_is_no_place(wrong: str) -> None:
    with pytest.raises(UsageProblem, match=r"--until .* is no place; write 15m"):
        place(wrong, "--until")


def test_patterns() -> None:
    assert patterns([]) == ()
    assert patterns(["session.*, agent.error", "app.x"]) == ("session.*", "agent.error", "app.x")
    for empty in ("", "a,,b", " "):
        with pytest.raises(UsageProblem, match="a PATTERN is empty"):
            patterns([empty])


def test_a_pattern_that_will_hardly_match_is_doubted() -> None:
    for fine in ("*", "*.failed", "session.*", "app", "team.task.*"):
        assert doubt(fine) is None
    assert doubt("sessions.*") == (
        "events of the channel sessions have types like session.*, not sessions.*"
    )
    assert "session.*, agent.*" in (doubt("sesion.started") or "")
