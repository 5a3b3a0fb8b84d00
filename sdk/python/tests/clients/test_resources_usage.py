"""`client.usage`: what it asks for, and what it makes of the answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from resonantgenesis import ResonantGenesis, SyncResonantGenesis, UsageReport

from ..conftest import ServerThread
from ..support.fake_server import FakeServer

pytestmark = pytest.mark.anyio

SUMS = {"turns": 2, "input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
ANSWER = {
    "data": [{**SUMS, "agent_id": "guide"}],
    "next_cursor": "c_2",
    "has_more": True,
    "totals": SUMS,
    "budget": {"monthly_tokens": 10, "used_tokens": 7},
}


def check(report: UsageReport) -> None:
    assert (len(report), report.next_cursor, report.has_more) == (1, "c_2", True)
    (row,) = report
    assert (row.agent_id, row.turns, row.total_tokens, row.day) == ("guide", 2, 7, None)
    assert (report.totals.input_tokens, report.totals.duration_ms) == (3, 0)
    assert report.budget == {"monthly_tokens": 10, "used_tokens": 7}


async def test_a_report(server: FakeServer, client: ResonantGenesis) -> None:
    for _ in range(2):
        server.fail_next("/v1/usage", 200, ANSWER)
    check(await client.usage.report())
    assert server.requests[-1].query == {"group_by": "day"}
    await client.usage.report(
        "agent",
        since=datetime(2026, 2, 1, tzinfo=timezone(timedelta(hours=1))),
        until="2026-02-21",
        agent_id="a",
        key_id="k",
        subject="ann",
        session_id="sess_1",
        limit=5,
        cursor="c_1",
    )
    assert server.requests[-1].query == {
        "group_by": "agent",
        "from": "2026-01-31T23:00:00.000000Z",
        "to": "2026-02-21",
        "agent_id": "a",
        "key_id": "k",
        "subject": "ann",
        "session_id": "sess_1",
        "limit": "5",
        "cursor": "c_1",
    }


def test_synchronously(served: ServerThread, sync_client: SyncResonantGenesis) -> None:
    served.server.fail_next("/v1/usage", 200, ANSWER)
    check(sync_client.usage.report("agent", since=datetime(2026, 2, 1, tzinfo=UTC)))
    assert served.server.requests[-1].query["from"] == "2026-02-01T00:00:00.000000Z"


async def test_a_time_without_a_zone_could_mean_any(client: ResonantGenesis) -> None:
    with pytest.raises(ValueError, match="since"):
        await client.usage.report(since=datetime(2026, 2, 1))


def test_an_answer_that_lacks_things_reads_as_nothing() -> None:
    report = UsageReport({"data": None, "totals": [], "budget": 3})
    assert (list(report), report.totals.turns, report.budget) == ([], 0, None)
