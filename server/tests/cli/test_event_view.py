"""One event a line, in its channel's colour, whatever it holds."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.cli.commands.events import EventView
from resonantgenesis_server.model.events import CHANNELS
from rich.console import Console


def event(kind: str, channel: str, created_at: str | None = None, **data: object) -> dict[str, Any]:
    at = created_at or datetime.now(UTC).isoformat()
    return {"id": "evt_1", "type": kind, "channel": channel, "created_at": at, "data": data}


def shown(*events: dict[str, Any], width: int = 200, colour: bool = False) -> str:
    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=colour, color_system="standard" if colour else None
    )
    view = EventView(console, as_json=False)
    for each in events:
        view.show(each)
    return out.getvalue()


def test_what_matters_stands_first_and_what_is_empty_not_at_all() -> None:
    got = shown(
        event(
            "session.failed",
            "sessions",
            agent_id="guide",
            turn=2,
            status="timeout",
            error_code="TIMEOUT",
            error="too slow",
            session_id="sess_1",
            metadata={},
            more=None,
        )
    )
    assert got.split(maxsplit=1)[1] == (
        'session.failed            sess_1  TIMEOUT  "too slow"  timeout  agent=guide  turn=2\n'
    )


@pytest.mark.parametrize("width", [30, 60, 61, 62, 80, 81, 90, 91, 100])
def test_no_id_is_cut(width: int) -> None:
    """One that does not fit is left out, and the line says that it lacks something."""
    session, agent = "sess_" + "s" * 20, "agent_" + "a" * 20
    got = shown(
        event("session.started", "sessions", session_id=session, agent_id=agent, turn=1),
        event("session.started", "sessions", session_id=session, goal="g" * 120, agent_id=agent),
        width=width,
    )
    for line in got.splitlines():
        assert len(line) <= width
        whole = line.replace(session, "").replace(f"agent={agent}", "")
        assert "sess_" not in whole
        assert "agent=" not in whole
        assert agent in line or line.endswith("…")


def test_fields_of_the_users_own_events_have_their_names() -> None:
    got = shown(event("app.order.paid", "app", status="paid", order=7, items=[1, {"a": "ü"}]))
    assert got.split(maxsplit=2)[2] == 'status=paid  order=7  items=[1, {"a": "ü"}]\n'


def test_each_channel_has_a_colour_and_errors_are_red() -> None:
    got = [shown(event("x.y", channel), colour=True) for channel in CHANNELS]
    assert len({line.partition("  x.y")[0].rpartition("\x1b")[2] for line in got}) == len(CHANNELS)
    failed = shown(event("agent.error", "agents", error="bad"), colour=True)
    assert "\x1b[31mbad\x1b[0m" in failed
    assert "\x1b" not in shown(event("agent.error", "agents", error="bad"))


def test_a_line_is_cut_at_the_edge_and_says_so() -> None:
    got = shown(event("app.note", "app", text="wide " * 100), width=80)
    assert got.count("\n") == 1
    assert len(got.rstrip("\n")) == 80
    assert got.endswith("…\n")


def test_the_time_is_the_one_here_and_another_day_is_named() -> None:
    old = "2026-02-21T10:30:05.999999Z"
    here = datetime.fromisoformat(old).astimezone()
    lines = shown(event("app.a", "app", old), event("app.b", "app", old)).splitlines()
    assert lines[0] == f"{here:%A, %d %B %Y}"
    assert lines[1].startswith(f"{here:%H:%M:%S}  app.a")
    assert lines[2].startswith(f"{here:%H:%M:%S}  app.b")
    assert len(shown(event("app.now", "app")).splitlines()) == 1


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(kind=st.text(), data=st.dictionaries(st.text(), values, max_size=4) | values, at=st.text())
def test_nothing_in_an_event_breaks_its_line(kind: str, data: object, at: str) -> None:
    got = shown({"type": kind, "channel": "app", "created_at": at, "data": data}, width=100)
    assert got.endswith("\n")
    line = got[:-1]
    assert not {chr(code) for code in [*range(0x20), *range(0x7F, 0xA0)]} & set(line)


@pytest.mark.parametrize("data", [{"a": "\u2028 ü"}, {}, None])
def test_json_is_the_whole_event(data: object) -> None:
    out = io.StringIO()
    whole = {"type": "app.x", "data": data, "cursor": "c_1"}
    EventView(Console(file=out, width=20), as_json=True).show(whole)
    assert out.getvalue().count("\n") == 1
    assert json.loads(out.getvalue()) == whole
