"""system.limit.reached: an organization is told when it, or one of its keys, meets a limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from .. import metrics
from ..background import Background
from ..codec.events import events_append
from ..log.base import EventLog, LogError
from ..model.events import NewEvent
from ..model.ids import event_id
from ..model.principal import Principal

log_ = structlog.get_logger("resonantgenesis.limits")

KIND = "system.limit.reached"
#: Seconds between two events of the same key and limit.
INTERVAL = 60.0
#: Events waiting to be written, and keys remembered; beyond, the log of the server tells alone.
_WAITING, _KEYS = 1_000, 10_000

#: What limits begin with that an organization's keys share.
ORGANIZATION = "organization_"

#: Called with who met which limit, and how much it allows; never waits and never raises.
Reached = Callable[[Principal, str, int], None]


def nobody_is_told(_principal: Principal, _limit: str, _most: int) -> None:
    """For a server without events."""


class LimitEvents:
    """Writes at most one event a minute for each limit and key, or organization, whoever asks."""

    def __init__(self, log: EventLog, *, clock: Callable[[], float] = time.time) -> None:
        self._log = log
        self._clock = clock
        self._told: dict[tuple[str, str], float] = {}
        self._waiting: asyncio.Queue[tuple[str, NewEvent]] = asyncio.Queue(_WAITING)
        self._loop = Background("limit events", self._run)

    def reached(self, principal: Principal, limit: str, most: int) -> None:
        """A key, or its organization, has met a limit. Cheap: those who meet limits do so often."""
        self.met(principal.organization_id, principal.key_id, limit, most)

    def met(self, organization_id: str, key_id: str | None, limit: str, most: int) -> None:
        """The same; without a key where it is not known by whose request."""
        metrics.limit_hit(limit)
        whose = key_id if key_id and not limit.startswith(ORGANIZATION) else organization_id
        name, now = (whose, limit), self._clock()
        if now - self._told.get(name, 0.0) < INTERVAL or self._waiting.full():
            return
        if len(self._told) >= _KEYS:
            self._told = {k: at for k, at in self._told.items() if now - at < INTERVAL}
        self._told[name] = now
        log_.warning(
            "limit reached", organization=organization_id, key=key_id, limit=limit, most=most
        )
        event = NewEvent(
            # The minute is in it so that nodes that share a log tell it once.
            event_id(KIND, whose, limit, int(now // INTERVAL)),
            KIND,
            {"limit": limit, "most": most, "key_id": key_id},
            {"organization_id": organization_id, "key_id": key_id, "request_id": None},
        )
        self._waiting.put_nowait((organization_id, event))

    def start(self) -> None:
        self._loop.start()

    async def close(self) -> None:
        await self._loop.close()

    async def _run(self) -> None:
        while True:
            organization_id, event = await self._waiting.get()
            try:
                await self._log.room()
                await self._log.append(*events_append(organization_id, [event]))
            except LogError as error:  # the next minute's event says it again
                log_.warning("limit not told", limit=event.data["limit"], error=str(error))
