"""What turns took: the values, and what the repository promises.

The truth is the log; these rows follow from its `billing.usage.recorded` events. The guarantees
are those of `base`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from .base import Page
from .files import Owner

GroupBy = Literal["day", "agent", "key", "subject", "session", "turn"]


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What one turn took. `key_id` is the key that started it, `status` how it ended (None: not
    known); `ended_at` is the time of the commit of its `done`."""

    organization_id: str
    session_id: str
    turn: int
    agent_id: str
    key_id: str
    subject: str | None
    status: str | None
    input_tokens: int
    output_tokens: int
    steps: int
    duration_ms: int
    ended_at: float


@dataclass(frozen=True, slots=True)
class UsagePlace:
    """How far an organization's events have been taken in: up to `position` of the log's `epoch`.

    `limit_month` is the newest month (`2026-02`) whose billing.limit.reached was among them.
    """

    epoch: str
    position: int
    limit_month: str | None = None


@dataclass(frozen=True, slots=True)
class UsageSums:
    """Over how many turns, and what they took together; times in milliseconds."""

    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    steps: int = 0
    duration_ms: int = 0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class UsageGroup:
    """The sums of what has the same `names`, e.g. `{"agent_id": "guide"}`."""

    names: Mapping[str, Any]
    sums: UsageSums


@dataclass(frozen=True, slots=True)
class UsageReport:
    """One page of groups, and the sums over all of them, from one view of the rows."""

    page: Page[UsageGroup]
    totals: UsageSums


@dataclass(frozen=True, slots=True)
class UsageWanted:
    """Which turns: those that ended from `since` (inclusive) to `until` (exclusive), seconds since
    1970, and have these fields; None lets everything through."""

    since: float
    until: float | None = None
    fields: Mapping[str, str | None] = field(default_factory=dict)


#: What `UsageWanted.fields` may name.
FIELDS = ("agent_id", "key_id", "subject", "session_id")


class Usage(Protocol):
    async def place(self, organization_id: str) -> UsagePlace | None:
        """How far this organization's events have been taken in; None: not begun."""

    async def take_in(
        self, organization_id: str, rows: Sequence[UsageRow], place: UsagePlace
    ) -> None:
        """Keep the rows and the place that was reached with them, in one transaction. A row of a
        turn that is there already takes its place, so that reading events again doubles nothing."""

    async def report(
        self,
        seen_by: Owner,
        wanted: UsageWanted,
        group_by: GroupBy,
        *,
        limit: int = 50,
        cursor: str | None = None,
    ) -> UsageReport:
        """Grouped sums of what the caller sees. Days and turns newest first, the others by id."""

    async def tokens(self, organization_id: str, since: float) -> int:
        """Of the turns that ended since then, in and out."""

    async def purge(self, before: float, limit: int = 1_000) -> int:
        """Delete up to `limit` rows of turns that ended before; how many there were."""
