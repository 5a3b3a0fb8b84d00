"""How many turns of one key, and of one organization, run or wait at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ..events.limit_events import ORGANIZATION, Reached, nobody_is_told
from ..model.errors import RateLimited
from ..model.principal import Principal
from .state import SessionState

NAME = "running_turns"
#: Seconds that a client is told to wait: when a turn will end, nobody knows.
_RETRY_AFTER = 1.0


class TurnLimit:
    """Counts from what the log announces, so turns that a restart found count as well."""

    def __init__(
        self, most: int, reached: Reached = nobody_is_told, *, of_organization: int = 0
    ) -> None:
        """`most` of a key and `of_organization`; 0: any number."""
        self._most = most
        self._of_organization = of_organization
        self._reached = reached
        #: By the id of a key or an organization.
        self._turns: Counter[str] = Counter()
        self._ids_of: dict[str, list[str]] = {}

    def count(self, whose: str) -> int:
        """Turns of this key or organization that run, wait or are just being started."""
        return self._turns[whose]

    def changed(self, state: SessionState) -> None:
        """A session's state has moved on."""
        if state.info is None:
            return
        session_id = state.info.session_id
        ids = [turn.key_id for turn in state.unended]
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
            self._less(whose)

    @contextmanager
    def starting(self, principal: Principal) -> Iterator[None]:
        """A turn is started within this block, and counted by `changed` before it ends. Raises
        RateLimited; what is being started counts, or a hundred at once would all find room."""
        key_id, organization_id = principal.key_id, principal.organization_id
        if not principal.is_bootstrap:
            self._check(principal, key_id, self._most, "key", NAME)
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
            self._less(key_id)
            self._less(organization_id)

    def _check(self, principal: Principal, whose: str, most: int, who: str, name: str) -> None:
        if not most or self._turns[whose] < most:
            return
        self._reached(principal, name, most)
        raise RateLimited(
            f"this {who} may have {most} turns that run or wait at once; start more when some"
            " have ended",
            details={"limit": name, "most": most},
            retry_after=_RETRY_AFTER,
        )

    def _less(self, whose: str) -> None:
        self._turns[whose] -= 1
        if not self._turns[whose]:
            del self._turns[whose]
