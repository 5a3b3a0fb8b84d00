"""How many bytes the files of one organization may have together."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

from ..model.errors import PayloadTooLarge

NAME = "organization_files"

#: How often the records are asked while others record.
_TRIES = 10

#: Told which organization met the limit, and how much it allows; never waits and never raises.
Reached = Callable[[str, int], None]


def nobody_is_told(_organization_id: str, _most: int) -> None:
    """For a server without events."""


class Quota:
    """Raises PayloadTooLarge for what would be too much.

    The records are asked once for an organization, and again before it is refused: what they have
    let go since, with sessions, is not told here.
    """

    def __init__(self, most: int, used: Callable[[str], Awaitable[int]], reached: Reached) -> None:
        """`most` 0: any number of bytes. `used`: how many an organization has in the records."""
        self._most = most
        self._used = used
        self._reached = reached
        #: At least as many as there are, those that are being recorded among them.
        self._known: dict[str, int] = {}
        self._recording: Counter[str] = Counter()
        #: How many recordings have ended.
        self._recorded = 0
        #: Held while it is asked, so that two do not find the room of one.
        self._looking = asyncio.Lock()

    async def check(self, organization_id: str, size: int) -> None:
        """Whether so many more find room now."""
        if not self._most:
            return
        known = self._known.get(organization_id)
        if known is None or known + size > self._most:
            known = self._known[organization_id] = await self._count(organization_id)
        if known + size > self._most:
            self._reached(organization_id, self._most)
            raise PayloadTooLarge(
                f"the files of this organization may have {self._most} bytes together; delete some"
                " first",
                details={"limit": NAME, "most": self._most},
            )

    async def _count(self, organization_id: str) -> int:
        """What is recorded, and what is about to be.

        A file whose recording ends while the records are asked would be in neither number: then
        they are asked again.
        """
        for _ in range(_TRIES):
            recorded = self._recorded
            used = await self._used(organization_id)
            if recorded == self._recorded:
                break
        return used + self._recording[organization_id]

    @contextlib.asynccontextmanager
    async def recording(self, organization_id: str, size: int) -> AsyncIterator[None]:
        """A file of this size is recorded within the block, or none if the block fails."""
        async with self._looking:
            await self.check(organization_id, size)
            if self._most:
                self._known[organization_id] += size
                self._recording[organization_id] += size
        try:
            yield
        except BaseException:
            if self._most:
                self._known[organization_id] -= size
            raise
        finally:
            if self._most:
                self._recording[organization_id] -= size
                self._recorded += 1
