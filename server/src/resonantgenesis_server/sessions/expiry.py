"""Ends the wait of turns that nobody has answered in time, on one node for all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from ..background import Background
from ..log.base import LogError
from ..model.errors import ApiError
from ..records.base import StoreError
from ..records.sessions import SessionRepository

log_ = structlog.get_logger("resonantgenesis.sessions")

#: Seconds between two looks, and the shortest time between them.
_LOOK, _PAUSE = 1.0, 0.05


class Expiry:
    """Looks into the list of sessions for asks that have expired, from `start` to `close`.

    The times are in the list and not in memory: a turn that waits costs nothing, and a restart
    changes nothing. The log decides, so it harms nothing if two nodes look.
    """

    def __init__(
        self,
        sessions: SessionRepository,
        expire: Callable[[str], Awaitable[int]],
        now: Callable[[], float],
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        """`expire` records what has expired in a session; see `SessionService.expire`. `now` is the
        store's time, in seconds since 1970. `leads`: whether it is for this process to look."""
        self._sessions = sessions
        self._expire = expire
        self._now = now
        self._leads = leads
        self._loop = Background("expiry", self._run)
        #: Turns of the whole store that wait for answers; 0 at nodes that do not look.
        self.waiting = 0

    def start(self) -> None:
        self._loop.start()

    async def close(self) -> None:
        await self._loop.close()

    async def look(self) -> float:
        """Record all that has expired now. Returns the seconds until the next look."""
        due, next_at = await self._sessions.expired(self._now())
        for session_id in due:
            try:
                await self._expire(session_id)
            except (ApiError, LogError) as error:
                log_.warning("an ask has not expired yet", session=session_id, error=str(error))
        if next_at is None:
            return _LOOK
        return min(_LOOK, max(next_at - self._now(), _PAUSE))

    async def _run(self) -> None:
        while True:
            wait = _LOOK
            if not self._leads():
                self.waiting = 0
            else:
                try:
                    wait = await self.look()
                    self.waiting = await self._sessions.waiting()
                except StoreError as error:
                    log_.warning("asks that may have expired are not known", error=str(error))
            await self._loop.woken(wait)
