"""Removing the beginning of a stream without holding up those who write."""

from __future__ import annotations

from ..log.base import EventLog

#: Entries removed per call of the log.
TRIM_STEP = 10_000


async def trim_in_steps(log: EventLog, stream: str, earliest: int, before: int) -> int:
    """Remove the entries from `earliest`, the first there is, up to `before`; how many positions.

    Raises LogUnavailable; what was removed by then stays removed.
    """
    reached = earliest
    while reached < before:
        reached = min(reached + TRIM_STEP, before)
        await log.trim(stream, reached)
    return max(before - earliest, 0)
