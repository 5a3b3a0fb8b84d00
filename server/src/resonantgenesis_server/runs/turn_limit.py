"""How many turns of one key run or wait at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ..model.errors import RateLimited
from ..model.principal import Principal
from .limit_events import Reached, nobody_is_told
from .state import SessionState

NAME = "running_turns"
#: Seconds that a client is told to wait: when a turn will end, nobody knows.
_RETRY_AFTER = 1.0


class TurnLimit:
    """Counts from what the log announces, so turns that a restart found count as well."""

    def __init__(self, most: int, reached: Reached = nobody_is_told) -> None:
        """`most` 0: any number."""
        self._most = most
        self._reached = reached
        self._turns: Counter[str] = Counter()
        self._keys_of: dict[str, list[str]] = {}

    def count(self, key_id: str) -> int:
        """Turns of this key that run, wait or are just being started."""
        return self._turns[key_id]

    def changed(self, state: SessionState) -> None:
        """A session's state has moved on."""
        if state.info is None:
            return
        session_id = state.info.session_id
        keys = [turn.key_id for turn in state.unended]
        before = self._keys_of.get(session_id, [])
        if keys == before:
            return
        if keys:
            self._keys_of[session_id] = keys
        else:
            del self._keys_of[session_id]
        for key_id in keys:
            self._turns[key_id] += 1
        for key_id in before:
            self._less(key_id)

    @contextmanager
    def starting(self, principal: Principal) -> Iterator[None]:
        """A turn is started within this block, and counted by `changed` before it ends. Raises
        RateLimited; what is being started counts, or a hundred at once would all find room."""
        key_id = principal.key_id
        if self._most and not principal.is_bootstrap and self._turns[key_id] >= self._most:
            self._reached(principal, NAME, self._most)
            raise RateLimited(
                f"this key may have {self._most} turns that run or wait at once; start more when"
                " some have ended",
                details={"limit": NAME, "most": self._most},
                retry_after=_RETRY_AFTER,
            )
        self._turns[key_id] += 1
        try:
            yield
        finally:
            self._less(key_id)

    def _less(self, key_id: str) -> None:
        self._turns[key_id] -= 1
        if not self._turns[key_id]:
            del self._turns[key_id]
