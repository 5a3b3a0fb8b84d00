"""The book of deliveries: what was sent, and how far each webhook has got.

Deliveries of a moment share a transaction. A crash loses at most that moment, whose events are then
delivered again under the same ids.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from ..background import Background, Backoff
from ..model.events import NewEvent
from ..records.base import StoreError
from ..records.webhooks import Advance, DeliveryRecord, DeliveryRepository, WebhookRepository

log_ = structlog.get_logger("resonantgenesis.webhooks")

#: Seconds in which deliveries gather, and deliveries that may wait to be written.
_GATHER, _MAX_WAITING = 0.2, 5_000
_FIRST_DELAY, _MAX_DELAY = 0.5, 30.0
#: Deliveries after which the old ones of a webhook are removed, on average.
_TRIM_EVERY = 100


class DeliveryBook:
    def __init__(
        self,
        webhooks: WebhookRepository,
        deliveries: DeliveryRepository,
        settle: Callable[[], Awaitable[None]],
    ) -> None:
        """`settle` is called once there are events in the outbox; see `OutboxRelay`."""
        self._webhooks = webhooks
        self._deliveries = deliveries
        self._settle = settle
        self._advances: dict[str, Advance] = {}
        self._attempts: list[DeliveryRecord] = []
        self._events: list[tuple[str, NewEvent]] = []
        self._flushing = asyncio.Lock()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._loop = Background("webhook deliveries", self._run)

    def start(self) -> None:
        self._loop.start()

    async def close(self) -> None:
        """Write what waits and stop. What cannot be written is delivered again."""
        await self._loop.close()
        try:
            await self.flush()
        except StoreError as error:
            log_.warning("deliveries are not written", error=str(error))

    def moved(self, advance: Advance) -> None:
        """A webhook has got further."""
        self._advances[advance.id] = advance
        self._loop.wake()

    def tried(self, delivery: DeliveryRecord) -> None:
        """There was an attempt."""
        self._attempts.append(delivery)
        if len(self._attempts) >= _MAX_WAITING:
            self._has_room.clear()
        self._loop.wake()

    def tell(self, organization_id: str, event: NewEvent) -> None:
        """Write an event of the channel `webhooks`."""
        self._events.append((organization_id, event))

    async def room(self) -> None:
        """Wait while too much waits to be written."""
        await self._has_room.wait()

    async def flush(self) -> None:
        """Write all that waits. Raises StoreError; it waits on then."""
        async with self._flushing:
            advances, self._advances = self._advances, {}
            attempts, self._attempts = self._attempts, []
            events, self._events = self._events, []
            try:
                await self._webhooks.advance(list(advances.values()), attempts, events)
            except BaseException:
                self._advances = advances | self._advances
                self._attempts = attempts + self._attempts
                self._events = events + self._events
                raise
            self._has_room.set()
            if events:
                await self._settle()
            await self._trim(attempts)

    async def _trim(self, attempts: list[DeliveryRecord]) -> None:
        for attempt in attempts:
            if random.randrange(_TRIM_EVERY) == 0:  # noqa: S311
                await self._deliveries.trim(attempt.webhook_id)

    async def _run(self) -> None:
        backoff = Backoff(_FIRST_DELAY, _MAX_DELAY)
        while True:
            await self._loop.woken()
            await asyncio.sleep(_GATHER)
            try:
                await self.flush()
            except StoreError as error:
                log_.warning("deliveries wait to be written", error=str(error))
                self._loop.wake()
                await asyncio.sleep(backoff.failed())
            else:
                backoff.succeeded()
