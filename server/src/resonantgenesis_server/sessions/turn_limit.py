"""How many turns of an API key and of an organization may be open at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..model.errors import RateLimited
from ..model.principal import ORGANIZATION, Principal, Reached, ignore_limit
from .state import SessionState

NAME = "running_turns"
#: `retry_after` in seconds; nobody knows when a turn will end.
_RETRY_AFTER = 1.0


class TurnLimit:
    """Counts open turns from the log's announcements, so turns from before a restart count too."""

    def __init__(
        self, of_key: int, reached: Reached = ignore_limit, *, of_organization: int = 0
    ) -> None:
        """Open turns of an API key and of an organization; 0: any number."""
        self._of_key = of_key
        self._of_organization = of_organization
        self._reached = reached
        #: Open turns at other nodes, by the same ids.
        self.elsewhere: Callable[[str], int] = lambda _whose: 0
        #: By the id of a key or an organization.
        self._turns: Counter[str] = Counter()
        self._ids_of: dict[str, list[str]] = {}

    def count(self, whose: str) -> int:
        """Turns of this API key or organization that run, wait or are just being started."""
        return self._turns[whose]

    def above(self, part: float) -> dict[str, int]:
        """The counts of this process that are over this part of their limits."""
        limits = [limit for limit in (self._of_key, self._of_organization) if limit]
        least = part * min(limits, default=0)
        return {whose: count for whose, count in self._turns.items() if limits and count > least}

    def changed(self, state: SessionState) -> None:
        """Count the open turns of a session whose state has moved on."""
        if state.info is None:
            return
        session_id = state.info.session_id
        # A turn that waits for an answer takes nothing but room on the disk.
        ids = [turn.key_id for turn in state.open_turns if turn.status != "waiting"]
        if self._of_organization:
            ids += [state.info.organization_id] * len(ids)
        before = self._ids_of.get(session_id, [])
        if ids == before:
            return
        if ids:
            self._ids_of[session_id] = ids
        else:
            del self._ids_of[session_id]
        for whose in ids:
            self._turns[whose] += 1
        for whose in before:
            self._uncount(whose)

    @contextmanager
    def starting(self, principal: Principal) -> Iterator[None]:
        """Count the turn that this block starts, until `changed` counts it. Raises RateLimited.

        Without this count, a hundred starts at once would all be below the limit.
        """
        key_id, organization_id = principal.key_id, principal.organization_id
        if not principal.is_bootstrap:
            self._check(principal, key_id, self._of_key, "key", NAME)
            self._check(
                principal,
                organization_id,
                self._of_organization,
                "organization",
                ORGANIZATION + NAME,
            )
        self._turns.update((key_id, organization_id))
        try:
            yield
        finally:
            self._uncount(key_id)
            self._uncount(organization_id)

    def _check(self, principal: Principal, whose: str, limit: int, owner: str, name: str) -> None:
        if not limit or self._turns[whose] + self.elsewhere(whose) < limit:
            return
        self._reached(principal, name, limit)
        raise RateLimited(
            f"this {owner} may have {limit} turns that run or wait at once; start more when some"
            " have ended",
            details={"limit": name, "most": limit},
            retry_after=_RETRY_AFTER,
        )

    def _uncount(self, whose: str) -> None:
        self._turns[whose] -= 1
        if not self._turns[whose]:
            del self._turns[whose]
