"""The monthly budget of tokens: kept in memory, since every execute asks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from .. import observe
from ..model.errors import RateLimited


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month in UTC; `name` is like `2026-02`, times are seconds since 1970."""

    name: str
    begins: float
    ends: float

    @classmethod
    def of(cls, seconds: float) -> Month:
        first = datetime.fromtimestamp(seconds, UTC).replace(
            day=1, hour=0, minute=0, second=0, microsecond=0
        )
        later = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
        return cls(first.strftime("%Y-%m"), first.timestamp(), later.timestamp())


@dataclass(frozen=True, slots=True)
class BudgetState:
    """What an organization has taken in the current month; `limit` 0: there is none."""

    organization_id: str
    month: Month
    used: int
    limit: int


@dataclass(slots=True)
class _Count:
    month: Month
    used: int = 0
    #: Whether the log knows that the limit was reached, or is being told.
    told: bool = False


class Budget:
    """Counts the tokens of turns that have ended. A turn counts in the month in which its `done`
    was committed; what runs when the budget is reached runs to its end."""

    def __init__(self, monthly_tokens: int, *, clock: Callable[[], float] = time.time) -> None:
        self.monthly_tokens = monthly_tokens
        self._clock = clock
        self._counts: dict[str, _Count] = {}

    @property
    def month(self) -> Month:
        """The current one."""
        return Month.of(self._clock())

    def load(self, organization_id: str, used: int, limit_month: str | None) -> None:
        """What was counted of the current month before this process; `limit_month` is the newest
        whose limit was told."""
        month = self.month
        told = limit_month is not None and limit_month >= month.name
        self._counts[organization_id] = _Count(month, used, told)

    def add(self, organization_id: str, ended_at: float, tokens: int) -> bool:
        """Count a turn; whether the limit is reached now and that is not told yet."""
        count = self._counts.get(organization_id)
        if count is None or ended_at >= count.month.ends:
            count = self._counts[organization_id] = _Count(Month.of(ended_at))
        if ended_at >= count.month.begins:
            count.used += tokens
        return self._is_due(count)

    def check(self, organization_id: str) -> None:
        """Raises RateLimited until the month is over, once its budget is used up."""
        count = self._counts.get(organization_id)
        if not self.monthly_tokens or count is None or count.used < self.monthly_tokens:
            return
        left = count.month.ends - self._clock()
        if left > 0:
            observe.limit_hit("monthly_tokens")
            raise RateLimited(
                f"the organization's budget of tokens for {count.month.name} is used up;"
                " it begins anew with the next month (UTC)",
                details={"limit": "monthly_tokens", "month": count.month.name},
                retry_after=math.ceil(left),
            )

    def state(self, organization_id: str) -> BudgetState:
        month = self.month
        count = self._counts.get(organization_id)
        used = count.used if count is not None and count.month == month else 0
        return BudgetState(organization_id, month, used, self.monthly_tokens)

    # -- telling of it ---------------------------------------------------------------------

    def due(self) -> list[BudgetState]:
        """Who has reached the limit without that being told."""
        return [
            BudgetState(name, count.month, count.used, self.monthly_tokens)
            for name, count in self._counts.items()
            if self._is_due(count)
        ]

    def told(self, organization_id: str, month: str) -> None:
        """The log has the billing.limit.reached of this month."""
        count = self._counts.get(organization_id)
        if count is not None and count.month.name == month:
            count.told = True

    def _is_due(self, count: _Count) -> bool:
        return 0 < self.monthly_tokens <= count.used and not count.told
