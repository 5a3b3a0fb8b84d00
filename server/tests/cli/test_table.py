"""Tables on terminals of every width: ids and times whole, numbers to the right."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.cli.render import show_table
from rich.cells import cell_len
from rich.console import Console

SESSIONS = ("session_id", "agent_id", "status", "turns", "updated_at")
ROW = {
    "session_id": "sess_0123456789abcdefghij",
    "agent_id": "guide",
    "status": "completed",
    "turns": 7,
    "updated_at": "2026-11-30T01:02:03.123456Z",
}


def table(width: int, columns: tuple[str, ...], *rows: dict[str, object]) -> str:
    out = io.StringIO()
    show_table(
        Console(file=out, width=width, force_terminal=True, color_system=None), rows, columns
    )
    return out.getvalue()


def test_eighty_columns_hold_ids_and_times() -> None:
    shown = table(80, SESSIONS, ROW, {**ROW, "turns": 1234})
    assert (ROW["session_id"] in shown and ROW["updated_at"] in shown) or "left out" in shown
    assert "…" not in shown


@given(st.integers(30, 200), st.integers(1, 64))
def test_what_is_shown_of_ids_and_times_is_whole(width: int, agent: int) -> None:
    row = {**ROW, "agent_id": "a" * agent}
    shown = table(width, SESSIONS, row)
    for name in ("session_id", "agent_id", "updated_at"):
        assert str(row[name]) in shown
    for name in ("status", "turns"):
        assert name in shown  # as a column, or among those that are left out
    if shown.count("\n") <= 4 and "session_id  sess_" not in shown:
        assert all(cell_len(line) <= width for line in shown.splitlines()[:2])


def test_where_ids_and_times_alone_do_not_fit_a_row_is_a_block() -> None:
    row = {"id": "key_1", "name": "app", "created_at": "t" * 27, "expires_at": "u" * 27}
    shown = table(40, tuple(row), row, row)
    block = "\n".join(f"{name:<10}  {value}" for name, value in row.items())
    assert shown == f"{block}\n\n{block}\n"


def test_text_is_folded_before_a_column_goes() -> None:
    row = {"id": "key_0123456789abcdefghij", "name": "n" * 60, "created_at": ROW["updated_at"]}
    shown = table(80, ("id", "name", "created_at"), row)
    assert shown.count("n") > 60  # with the heading's
    assert "left out" not in shown


def test_numbers_stand_to_the_right_and_lists_are_words() -> None:
    shown = table(
        80,
        ("day", "turns", "scopes"),
        {"day": "a", "turns": 5, "scopes": ["x", "y"]},
        {"day": "b", "turns": 12345, "scopes": []},
    )
    lines = shown.splitlines()
    assert lines[1].index("5") == lines[2].index("5", lines[2].index("12345") + 1)
    assert "x, y" in lines[1] and "-" in lines[2]


@pytest.mark.parametrize("width", [1, 5, 20])
def test_a_tiny_terminal_loses_nothing_of_the_first_column(width: int) -> None:
    shown = table(width, ("id",), {"id": "key_0123456789abcdefghij"})
    assert "key_0123456789abcdefghij" in "".join(shown.split())


def test_columns_without_a_value_go_first() -> None:
    names = ("id", "name", "scopes", "created_at", "expires_at", "revoked_at")
    row = {
        "id": "key_0123456789abcdefghij",
        "name": "app",
        "scopes": ["sessions:read", "events:read"],
    }
    row["created_at"] = ROW["updated_at"]
    shown = table(80, names, row)
    assert "app" in shown and "sessions:read" in shown
    assert "left out: expires_at, revoked_at;" in shown
