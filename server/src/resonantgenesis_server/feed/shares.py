"""The event loop's time, shared among organizations: what parsing and looking for them may take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from ..model.errors import RateLimited

#: Of the loop's time for one organization, all its requests and sockets together.
_SHARE = 0.2
#: Seconds that an organization may be ahead of its share before it waits.
_AHEAD = 0.25
#: Seconds after which who waits for a turn is refused.
_PATIENCE = 20.0
#: Seconds that a small message takes, which is not measured.
SMALL = 25e-6
#: Bytes from which a text is large: its time is measured, and others come first.
LARGE = 16_384
_REMEMBERED = 1_000


@dataclass(slots=True)
class _Account:
    """Of one organization. `paid`: when what it has taken is made up for, by the loop's clock."""

    paid: float = 0.0
    turns: asyncio.Lock = field(default_factory=asyncio.Lock)
    looks: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def is_waited_for(self) -> bool:
        return self.turns.locked() or self.looks.locked()


class Shares:
    """Who has taken more than a share waits, one text after the other, so that whatever one
    organization sends on however many connections, others find the loop free in between."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}

    async def turn(self, organization_id: str) -> None:
        """Return when a text of the organization may be parsed, at once if it has not taken more
        than its share. Raises RateLimited."""
        account = self._account(organization_id)
        now = asyncio.get_running_loop().time()
        if account.paid - now <= _AHEAD and not account.turns.locked():
            return
        try:
            async with asyncio.timeout(_PATIENCE), account.turns:
                # Released before the text is parsed: the next in line sees what that took.
                await asyncio.sleep(account.paid - asyncio.get_running_loop().time())
        except TimeoutError:
            problem = "large messages and bodies of this organization come too fast"
            raise RateLimited(problem, retry_after=1) from None

    @asynccontextmanager
    async def alone(self, organization_id: str) -> AsyncIterator[None]:
        """For a page of a long look through an organization's log, and no longer: of all its
        requests one has its page parsed at a time. Raises RateLimited."""
        looks = self._account(organization_id).looks
        try:
            async with asyncio.timeout(_PATIENCE):
                await looks.acquire()
        except TimeoutError:
            problem = "too many requests of this organization look through its events"
            raise RateLimited(problem, retry_after=1) from None
        try:
            yield
        finally:
            looks.release()

    def took(self, organization_id: str, seconds: float) -> None:
        """So much of the loop's time went to a text."""
        account = self._account(organization_id)
        now = asyncio.get_running_loop().time()
        account.paid = max(account.paid, now) + seconds / _SHARE

    @contextmanager
    def measured(self, organization_id: str) -> Iterator[None]:
        """Nothing is awaited within: what it takes is the organization's."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            yield
        finally:
            self.took(organization_id, loop.time() - began)

    def _account(self, organization_id: str) -> _Account:
        account = self._accounts.get(organization_id)
        if account is None:
            if len(self._accounts) >= _REMEMBERED:
                self._forget()
            account = self._accounts[organization_id] = _Account()
        return account

    def _forget(self) -> None:
        now = asyncio.get_running_loop().time()
        kept = {k: a for k, a in self._accounts.items() if a.paid > now or a.is_waited_for}
        self._accounts = kept


#: Of this process, which has one loop.
SHARED = Shares()
