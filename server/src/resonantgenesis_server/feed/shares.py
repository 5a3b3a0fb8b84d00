"""The event loop's time, shared among organizations: each has a bound on parsing and searching."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from ..model.errors import RateLimited

#: Part of the loop's time that one organization may take with all its requests and sockets.
_SHARE = 0.2
#: Seconds that an organization may be ahead of its share before it waits.
_AHEAD = 0.25
#: Seconds that a request waits before it is refused.
_PATIENCE = 20.0
#: Seconds that a small message is assumed to take. Its time is not measured.
SMALL = 25e-6
#: Bytes from which a text is large: its time is measured, and it waits its turn.
LARGE = 16_384
_REMEMBERED = 1_000


@dataclass(slots=True)
class _Account:
    """What one organization has taken. `paid`: the loop's time at which its share covers that."""

    paid: float = 0.0
    turns: asyncio.Lock = field(default_factory=asyncio.Lock)
    looks: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def is_waited_for(self) -> bool:
        return self.turns.locked() or self.looks.locked()


class Shares:
    """Makes an organization that has taken more than its share wait, one text after the other.

    So other organizations find the loop free in between, however many connections one opens.
    """

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}

    async def turn(self, organization_id: str) -> None:
        """Wait until a text of the organization may be parsed.

        Returns at once if the organization is within its share. Raises RateLimited.
        """
        account = self._account(organization_id)
        now = asyncio.get_running_loop().time()
        if account.paid - now <= _AHEAD and not account.turns.locked():
            return
        try:
            async with asyncio.timeout(_PATIENCE), account.turns:
                # Released before the text is parsed, so the next in line sees its time.
                await asyncio.sleep(account.paid - asyncio.get_running_loop().time())
        except TimeoutError:
            problem = "large messages and bodies of this organization come too fast"
            raise RateLimited(problem, retry_after=1) from None

    @asynccontextmanager
    async def alone(self, organization_id: str) -> AsyncIterator[None]:
        """Hold the organization's lock for one page of a long search through its events.

        Of all its requests one has its page parsed at a time. Raises RateLimited.
        """
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
        """Charge the organization with `seconds` of the loop's time."""
        account = self._account(organization_id)
        now = asyncio.get_running_loop().time()
        account.paid = max(account.paid, now) + seconds / _SHARE

    @contextmanager
    def measured(self, organization_id: str) -> Iterator[None]:
        """Charge the organization with the time of the block, which must not await."""
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


#: One for the process, which has one loop.
SHARED = Shares()
