"""What turns took: the call, and what its answer becomes. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from ..models import Field, Model, Page
from .calls import Call, query
from .event_request import place_of
from .messages import Request

GroupBy = Literal["day", "agent", "key", "subject", "session", "turn"]
#: A day like 2026-02-21 or an RFC 3339 time, as the server takes it, or a datetime with a zone.
Moment = str | datetime | None


class UsageRow(Model):
    """What the turns of one group took. The names that are there follow from `group_by`."""

    turns = Field(0)
    input_tokens = Field(0)
    output_tokens = Field(0)
    total_tokens = Field(0)
    steps = Field(0)
    duration_ms = Field(0)
    day = Field[str | None](None)
    agent_id = Field[str | None](None)
    key_id = Field[str | None](None)
    subject = Field[str | None](None)
    session_id = Field[str | None](None)
    turn = Field[int | None](None)
    status = Field[str | None](None)
    ended_at = Field[str | None](None)


class UsageReport(Page[UsageRow]):
    """One page of groups; `totals` are over all of them. `budget` is the organization's of this
    month (`monthly_tokens`, `used_tokens`, `resets_at`), None without one."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        super().__init__(raw, UsageRow)
        totals, budget = raw.get("totals"), raw.get("budget")
        self.totals = UsageRow(totals if isinstance(totals, dict) else {})
        self.budget: dict[str, Any] | None = budget if isinstance(budget, dict) else None


def usage_report(
    group_by: GroupBy,
    *,
    since: Moment,
    until: Moment,
    agent_id: str | None,
    key_id: str | None,
    subject: str | None,
    session_id: str | None,
    limit: int | None,
    cursor: str | None,
) -> Call[UsageReport]:
    """Raises ValueError for a datetime without a time zone."""
    params = query(
        group_by=group_by,
        to=place_of(until, "until"),
        agent_id=agent_id,
        key_id=key_id,
        subject=subject,
        session_id=session_id,
        limit=limit,
        cursor=cursor,
    )
    begins = place_of(since, "since")
    if begins is not None:
        params["from"] = begins
    return Call(Request("GET", "/v1/usage", params), UsageReport)
