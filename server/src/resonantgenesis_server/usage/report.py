"""What turns took, as callers see it."""

from __future__ import annotations

from ..model.principal import Principal
from ..records.files import Owner
from ..records.usage import GroupBy, Usage, UsageReport, UsageWanted
from .budget import BudgetState
from .meter import UsageMeter


class UsageService:
    """Raises ApiError, LogError and StoreError."""

    def __init__(self, meter: UsageMeter, records: Usage) -> None:
        self._meter = meter
        self._records = records

    async def report(
        self,
        principal: Principal,
        wanted: UsageWanted,
        group_by: GroupBy,
        *,
        limit: int,
        cursor: str | None,
    ) -> UsageReport:
        """Sums over the turns that the caller may see and that had ended when this was called."""
        await self._meter.settle(principal.organization_id)
        return await self._records.report(
            Owner.of(principal), wanted, group_by, limit=limit, cursor=cursor
        )

    def budget(self, principal: Principal) -> BudgetState | None:
        """The organization's; None if it has none, or the caller sees only a part of it."""
        owner = Owner.of(principal)
        if owner != Owner(owner.organization_id) or not self._meter.budget.monthly_tokens:
            return None
        return self._meter.budget.state(owner.organization_id)
