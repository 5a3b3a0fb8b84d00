"""`client.usage`, asynchronous."""

from __future__ import annotations

from .._core.usage_calls import GroupBy, Moment, UsageReport, usage_report
from .transport import AsyncIO


class AsyncUsage:
    """What turns took. Needs the scope `usage:read`."""

    def __init__(self, io: AsyncIO) -> None:
        self._io = io

    async def report(
        self,
        group_by: GroupBy = "day",
        *,
        since: Moment = None,
        until: Moment = None,
        agent_id: str | None = None,
        key_id: str | None = None,
        subject: str | None = None,
        session_id: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> UsageReport:
        """Tokens, steps and time of the turns that ended from `since` (the last 30 days) to before
        `until` (now), one page of groups. Raises StreamError."""
        return await self._io.call(
            usage_report(
                group_by,
                since=since,
                until=until,
                agent_id=agent_id,
                key_id=key_id,
                subject=subject,
                session_id=session_id,
                limit=limit,
                cursor=cursor,
            )
        )
