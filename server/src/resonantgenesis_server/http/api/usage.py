"""`/v1/usage`: the usage of turns, added up by group."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from ...budget import BudgetState
from ...codec.times import parse_time, rfc3339
from ...model.errors import InvalidRequest
from ...model.principal import Principal
from ...records.usage import GroupBy, UsageFilter, UsageGroup, UsageSums
from ...usage import UsageService
from ..auth.authenticator import scoped
from ..errors import documented_errors
from ..routing import api_router
from ..schemas import NO_NUL, PageBody, PageCursor, PageLimit

PATH = "/v1/usage"
#: Days of a report without `from`, the current one included.
_DAYS = 30
#: In microseconds. Later times could not be formatted.
_YEAR_9000 = round(datetime(9000, 1, 1, tzinfo=UTC).timestamp() * 1e6)

Reader = Annotated[Principal, Depends(scoped("usage:read"))]
Moment = Annotated[str | None, Query(max_length=64, description="RFC 3339 time, or a day (UTC).")]
Named = Annotated[str | None, Query(min_length=1, max_length=200, pattern=NO_NUL)]
From = Annotated[
    str | None,
    Query(
        alias="from",
        max_length=64,
        description="RFC 3339 time, or a day (UTC); inclusive. Else the last 30 days.",
    ),
]


class SumsBody(BaseModel):
    turns: int = Field(description="Turns that ended, in any way.")
    input_tokens: int
    output_tokens: int
    total_tokens: int = Field(description="In and out.")
    steps: int
    duration_ms: int


class UsageBody(SumsBody):
    """The sums of one group. `group_by` decides which names it has."""

    day: str | None = Field(default=None, description="`2026-02-21`, UTC.")
    agent_id: str | None = None
    key_id: str | None = Field(default=None, description="The key that started the turns.")
    subject: str | None = None
    session_id: str | None = None
    turn: int | None = None
    status: str | None = Field(default=None, description="How the turn ended.")
    ended_at: str | None = None


class BudgetBody(BaseModel):
    """The organization's budget of the current month."""

    month: str
    monthly_tokens: int
    used_tokens: int
    resets_at: str


class UsagePageBody(PageBody[UsageBody]):
    totals: SumsBody = Field(description="Over all groups, not only those of this page.")
    since: str = Field(serialization_alias="from")
    to: str
    group_by: GroupBy
    budget: BudgetBody | None = Field(
        description="null: none is set, or the credential sees only a part of the organization."
    )


def usage_router(service: UsageService, now: Callable[[], float] = time.time) -> APIRouter:
    router = api_router(tag="usage")

    @router.get(
        PATH,
        response_model=UsagePageBody,
        response_model_exclude_unset=True,
        responses=documented_errors(),
        operation_id="get_usage",
    )
    async def get_usage(
        principal: Reader,
        since: From = None,
        to: Moment = None,
        group_by: GroupBy = "day",
        agent_id: Named = None,
        key_id: Named = None,
        subject: Named = None,
        session_id: Named = None,
        limit: PageLimit = 50,
        cursor: PageCursor = None,
    ) -> UsagePageBody:
        """Tokens, steps and time of the turns that ended from `from` to before `to`: days and
        turns newest first, other groups by id."""
        fields = {
            "agent_id": agent_id,
            "key_id": key_id,
            "subject": subject,
            "session_id": session_id,
        }
        wanted = _wanted(since, to, fields, now)
        report = await service.report(principal, wanted, group_by, limit=limit, cursor=cursor)
        return UsagePageBody(
            data=[_group(group) for group in report.page.items],
            next_cursor=report.page.next_cursor,
            has_more=report.page.next_cursor is not None,
            totals=SumsBody(**_sums(report.totals)),
            since=rfc3339(wanted.since),
            to=rfc3339(now() if wanted.until is None else wanted.until),
            group_by=group_by,
            budget=_budget(service.budget(principal)),
        )

    return router


def _wanted(
    since: str | None, to: str | None, fields: dict[str, str | None], now: Callable[[], float]
) -> UsageFilter:
    until = None if to is None else _moment("to", to)
    if since is not None:
        begins = _moment("from", since)
    else:
        last = datetime.fromtimestamp(now() if until is None else until, UTC)
        midnight = last.replace(hour=0, minute=0, second=0, microsecond=0)
        begins = (midnight - timedelta(days=_DAYS - 1)).timestamp()
    if until is not None and until <= begins:
        raise InvalidRequest.field("to", "is not after from")
    return UsageFilter(begins, until, fields)


def _moment(name: str, text: str) -> float:
    at = parse_time(text)
    if at is None or not 0 <= at < _YEAR_9000:
        raise InvalidRequest.field(name, "is neither an RFC 3339 time nor a day like 2026-02-21")
    return at / 1e6


def _group(group: UsageGroup) -> UsageBody:
    names = dict(group.names)
    if "ended_at" in names:
        names["ended_at"] = rfc3339(names["ended_at"])
    return UsageBody(**names, **_sums(group.sums))


def _sums(sums: UsageSums) -> dict[str, Any]:
    return {
        "turns": sums.turns,
        "input_tokens": sums.input_tokens,
        "output_tokens": sums.output_tokens,
        "total_tokens": sums.total_tokens,
        "steps": sums.steps,
        "duration_ms": sums.duration_ms,
    }


def _budget(state: BudgetState | None) -> BudgetBody | None:
    if state is None:
        return None
    return BudgetBody(
        month=state.month.name,
        monthly_tokens=state.limit,
        used_tokens=state.used,
        resets_at=rfc3339(state.month.ends),
    )
