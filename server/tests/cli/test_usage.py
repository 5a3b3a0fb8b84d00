"""`resonantgenesis usage`: what it asks, what it writes."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
from cli_fake import FakeServer, Reply, as_json, failure
from cli_process import Cli, Process, RealServer

SUMS = {
    "turns": 2,
    "input_tokens": 10,
    "output_tokens": 20,
    "total_tokens": 30,
    "steps": 2,
    "duration_ms": 1500,
}
BUDGET = {
    "month": "2026-02",
    "monthly_tokens": 100,
    "used_tokens": 30,
    "resets_at": "2026-03-01T00:00:00.000000Z",
}


def answer(*rows: dict[str, Any], cursor: str | None = None, budget: Any = None) -> Reply:
    return as_json(
        {
            "data": [{**SUMS, **row} for row in rows],
            "next_cursor": cursor,
            "has_more": cursor is not None,
            "totals": {**SUMS, "turns": 700},
            "budget": budget,
        }
    )


def test_days_are_lines_with_tabs(fake: FakeServer, cli: Cli) -> None:
    fake.script = [answer({"day": "2026-02-21"}, {"day": "2026-02-20"})]
    got = cli("usage")
    assert (got.code, got.err) == (0, "")
    assert got.out == "2026-02-21\t2\t10\t20\t2\t1500\n2026-02-20\t2\t10\t20\t2\t1500\n"
    assert fake.seen[0].path == "/v1/usage"
    assert fake.seen[0].query == {"group_by": "day", "limit": "50"}


@pytest.mark.parametrize(
    ("by", "row", "begins"),
    [
        ("agent", {"agent_id": "guide"}, "guide\t2\t10"),
        ("key", {"key_id": "key_1"}, "key_1\t2\t10"),
        ("subject", {"subject": None}, "-\t2\t10"),
        ("session", {"session_id": "sess_1", "agent_id": "guide"}, "sess_1\tguide\t2\t10"),
        (
            "turn",
            {"session_id": "sess_1", "turn": 3, "agent_id": "guide", "status": "failed"},
            "sess_1\t3\tguide\tfailed\t10\t20\t2\t1500\t-",
        ),
    ],
)
def test_by_what_else(
    fake: FakeServer, cli: Cli, by: str, row: dict[str, Any], begins: str
) -> None:
    fake.script = [answer(row)]
    assert cli("usage", "--by", by).out.startswith(begins)
    assert fake.seen[0].query["group_by"] == by


def test_filters_times_and_pages(fake: FakeServer, cli: Cli) -> None:
    fake.script = [answer(*[{"day": "d"}] * 200, cursor="c"), answer(*[{"day": "d"}] * 50)]
    got = cli(
        *("usage", "--since", "2026-02-01T00:00Z", "--until", "2026-02-08T00:00:00+01:00"),
        *("--agent", "guide", "--key", "key_1", "--subject", "ann", "--session", "sess_1"),
        *("--limit", "250"),
    )
    assert len(got.out.splitlines()) == 250
    asked = {
        "group_by": "day",
        "from": "2026-02-01T00:00:00.000000Z",
        "to": "2026-02-07T23:00:00.000000Z",
        "agent_id": "guide",
        "key_id": "key_1",
        "subject": "ann",
        "session_id": "sess_1",
    }
    assert fake.seen[0].query == {**asked, "limit": "200"}
    assert fake.seen[1].query == {**asked, "limit": "50", "cursor": "c"}


def test_as_json_is_the_rows_as_they_are(fake: FakeServer, cli: Cli) -> None:
    fake.script = [answer({"day": "2026-02-21"}, budget=BUDGET)]
    got = cli("usage", "--json")
    assert json.loads(got.out) == {**SUMS, "day": "2026-02-21"}
    assert got.err == ""


def test_a_budget_is_told_beside_the_rows(fake: FakeServer, cli: Cli) -> None:
    fake.script = [answer({"day": "2026-02-21"}, budget=BUDGET)]
    got = cli("usage")
    assert "30 of 100 tokens of 2026-02 are used" in got.err
    assert "2026-03-01" in got.err and "2026-03-01" not in got.out


def test_what_goes_wrong(fake: FakeServer, cli: Cli) -> None:
    assert cli("usage", "--by", "colour").code == 2
    assert cli("usage", "--since", "long ago").code == 2
    assert fake.seen == []
    fake.script = [failure(403, "FORBIDDEN", "this needs the scope usage:read")]
    got = cli("usage")
    assert (got.code, "use a key that has the scope" in got.err) == (3, True)


def test_a_terminal_shows_a_table_with_the_sum_of_all(fake: FakeServer) -> None:
    fake.script = [answer({"day": "2026-02-21"}, cursor="c")]
    variables = {
        "RESONANTGENESIS_BASE_URL": fake.url,
        "RESONANTGENESIS_API_KEY": "k" * 20,
        "COLUMNS": "100",
    }
    with Process("usage", "--limit", "1", terminal=True, **variables) as shown:
        assert shown.wait() == 0
    lines = [line.split() for line in re.sub(r"\x1b\[[0-9;]*m", "", shown.out).splitlines()]
    heading, day, total = (line for line in lines if line)
    assert (heading[0], day[:2], total[:2]) == ("day", ["2026-02-21", "2"], ["total", "700"])


def test_of_a_real_server(real: RealServer, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in real.environment.items():
        monkeypatch.setenv(name, value)
    httpx.post(
        f"{real.url}/v1/sessions/execute",
        json={"agent_id": "guide", "goal": "count to 3"},
        headers={"Authorization": f"Bearer {real.key}"},
        timeout=20,
    ).raise_for_status()
    for by in ("day", "agent", "key", "subject", "session", "turn"):
        got = cli("usage", "--by", by, "--since", "1h")
        assert (got.code, len(got.out.splitlines())) == (0, 1)
    rows = cli("usage", "--by", "agent", "--json").out
    assert json.loads(rows)["agent_id"] == "guide"
