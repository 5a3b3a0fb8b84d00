"""A monthly budget of tokens, and what an organization has used of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from . import metrics
from .model.errors import RateLimited


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
    """The tokens of an organization in the current month; `limit` 0: there is no limit."""

    organization_id: str
    month: Month
    used: int
    limit: int


@dataclass(slots=True)
class _Count:
    month: Month
    used: int = 0
    #: Whether the log has the billing.limit.reached, or it is being written.
    written: bool = False


class Budget:
    """Counts the tokens of ended turns, in the month in which their `done` was committed.

    Turns that run when the budget is reached run to their end.
    """

    def __init__(self, monthly_tokens: int, *, clock: Callable[[], float] = time.time) -> None:
        self.monthly_tokens = monthly_tokens
        self._clock = clock
        self._counts: dict[str, _Count] = {}
        #: Organizations whose billing.limit.reached may be due.
        self._due: set[str] = set()
        #: Organizations that somebody has asked about, or whose count lacks events.
        self.asked: set[str] = set()

    @property
    def month(self) -> Month:
        """The current month."""
        return Month.of(self._clock())

    def load(self, organization_id: str, used: int, limit_month: str | None) -> None:
        """Start with the tokens of the current month before this process. `limit_month` is the
        newest month with a billing.limit.reached."""
        month = self.month
        written = limit_month is not None and limit_month >= month.name
        count = self._counts[organization_id] = _Count(month, used, written)
        self._note(organization_id, count)

    def add(self, organization_id: str, ended_at: float, tokens: int) -> bool:
        """Count a turn. Returns whether a billing.limit.reached is due."""
        count = self._counts.get(organization_id)
        if count is None or ended_at >= count.month.ends:
            count = self._counts[organization_id] = _Count(Month.of(ended_at))
        if ended_at >= count.month.begins:
            count.used += tokens
        return self._note(organization_id, count)

    def check(self, organization_id: str) -> None:
        """Raises RateLimited until the month is over, once its budget is used up."""
        if not self.monthly_tokens:
            return
        count = self._counts.get(organization_id)
        left = 0.0
        if count is not None and count.used >= self.monthly_tokens:
            left = count.month.ends - self._clock()
        if count is None or left <= 0:
            self.asked.add(organization_id)
            return
        metrics.limit_hit("monthly_tokens", organization_id)
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

    # -- billing.limit.reached -------------------------------------------------------------

    def due(self) -> list[BudgetState]:
        """The organizations whose billing.limit.reached is to be written."""
        counts = {name: self._counts[name] for name in sorted(self._due)}
        return [
            BudgetState(name, count.month, count.used, self.monthly_tokens)
            for name, count in counts.items()
        ]

    def written(self, organization_id: str, month: str) -> None:
        """Note that the log has the billing.limit.reached of this month."""
        count = self._counts.get(organization_id)
        if count is not None and count.month.name == month:
            count.written = True
            self._due.discard(organization_id)

    def _note(self, organization_id: str, count: _Count) -> bool:
        """Whether the organization's billing.limit.reached is due."""
        is_due = 0 < self.monthly_tokens <= count.used and not count.written
        (self._due.add if is_due else self._due.discard)(organization_id)
        return is_due
