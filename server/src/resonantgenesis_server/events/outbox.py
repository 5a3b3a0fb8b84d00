"""Moves events from the outbox of the records to the log: in order, each once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from ..background import Background, Backoff
from ..codec.events import events_append
from ..log.base import Append, EventLog, LogError
from ..model.events import NewEvent
from ..records.base import StoreError
from ..records.outbox import OutboxRepository, OutboxRow

log_ = structlog.get_logger("resonantgenesis.outbox")

#: Rows per append. 32 of the largest rows (an agent with 128 long names of tools) fit into one.
_PAGE = 32
#: Seconds of one round at most, and seconds that an answer waits for it.
_ROUND, _PATIENCE = 30.0, 1.0
#: Seconds between two looks for rows of nodes that died before they relayed them.
_LEFT_BEHIND = 5.0
#: Back-off after a failed round in seconds: the first wait, and the limit.
_FIRST_DELAY, _MAX_DELAY = 0.5, 30.0


class OutboxRelay:
    """Appends the events of the outbox to the log.

    Events wait in the records, so a failed log loses none and blocks no request. After a crash the
    next start relays them. The log drops a repeated event, since the event's id is its entry key.

    So several nodes may relay the same rows. Each relays after its own changes; one of them looks
    for those of dead nodes.
    """

    def __init__(
        self,
        outbox: OutboxRepository,
        log: EventLog,
        leads: Callable[[], bool] | None = None,
    ) -> None:
        """`leads`: whether this node relays the rows of dead ones; None: there are no others."""
        self._outbox = outbox
        self._log = log
        self._leads = leads
        self._next: asyncio.Future[None] | None = None
        self._behind = False
        self._loop = Background("outbox", self._run)

    def start(self) -> None:
        """Relay the rows that exist, then those that `settle` announces."""
        self._loop.start()
        self._loop.wake()

    async def close(self) -> None:
        await self._loop.close()
        self._release()

    async def settle(self) -> None:
        """Wait until the log has the events that the outbox holds now, or a round has failed.

        Waits at most 1 s. Call this after every change that left an event.
        """
        if not self._loop.running:
            return
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        self._loop.wake()
        await asyncio.wait({self._next}, timeout=_PATIENCE)

    async def relay(self) -> int:
        """Append all events that wait. Returns their number. Raises LogError, StoreError."""
        count = 0
        while True:
            rows = await self._outbox.pending(_PAGE)
            if rows:
                await self._log.room()
                await self._log.append(*_appends(rows))
                await self._outbox.done([row.id for row in rows])
            count += len(rows)
            if len(rows) < _PAGE:
                return count

    async def _run(self) -> None:
        backoff = Backoff(_FIRST_DELAY, _MAX_DELAY)
        idle = delay = None if self._leads is None else _LEFT_BEHIND
        while True:
            is_asked = await self._loop.woken(delay)
            if not (is_asked or self._behind or self._leads is None or self._leads()):
                continue
            # A `settle` from here on may follow a change that this round does not see.
            waiting, self._next = self._next, None
            try:
                async with asyncio.timeout(_ROUND):
                    await self.relay()
            except (LogError, StoreError, TimeoutError) as error:
                self._fell_behind(error)
                delay = backoff.failed()
            else:
                self._caught_up()
                backoff.succeeded()
                delay = idle
            finally:
                _resolve(waiting)

    def _fell_behind(self, error: Exception) -> None:
        if not self._behind:  # logged once, not at every attempt
            log_.warning("events wait in the outbox", error=str(error) or "the log does not answer")
        self._behind = True

    def _caught_up(self) -> None:
        if self._behind:
            log_.info("the outbox is empty again")
        self._behind = False

    def _release(self) -> None:
        waiting, self._next = self._next, None
        _resolve(waiting)


def _appends(rows: Sequence[OutboxRow]) -> list[Append]:
    by_organization: dict[str, list[NewEvent]] = {}
    for row in rows:
        by_organization.setdefault(row.organization_id, []).append(row.event)
    return [
        part for name, events in by_organization.items() for part in events_append(name, events)
    ]


def _resolve(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
