"""Which webhooks this node serves: each is served by one of the nodes that live."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from ..background import Background
from ..records.base import StoreError
from ..records.webhooks import WebhookRecord, WebhookRepository
from ..sessions.adoption import first_of
from .sender import DeliveryParts, Sender

log_ = structlog.get_logger("resonantgenesis.webhooks")

#: Seconds between two looks at what callers have changed at other nodes, and at which nodes live.
_LOOK = 1.0
#: The numbers of this node and of the others that live; None: there are no nodes.
Members = Callable[[], tuple[int, frozenset[int]] | None]


class WebhookDispatcher:
    """Runs a sender for each active webhook of this node, from `start` to `close`.

    A webhook belongs to the node that comes first by a hash. So the webhooks of a node that dies
    are shared by the others, and only those move. Nodes may disagree for a moment: then an event
    is sent twice, under one id.
    """

    def __init__(self, webhooks: WebhookRepository, parts: DeliveryParts, members: Members) -> None:
        self._webhooks = webhooks
        self._parts = parts
        self._members = members
        self._senders: dict[str, Sender] = {}
        self._seen: object = None
        self._loop = Background("webhooks", self._run)

    @property
    def counts(self) -> dict[str, float]:
        """The webhooks of this node, by the state of their receivers."""
        failing = sum(sender.is_failing for sender in self._senders.values())
        return {"delivering": len(self._senders) - failing, "failing": failing}

    def start(self) -> None:
        self._parts.book.start()
        self._loop.start()

    async def close(self) -> None:
        await self._loop.close()
        await asyncio.gather(*(sender.close() for sender in self._senders.values()))
        await self._parts.book.close()

    def changed(self) -> None:
        """A caller has changed a webhook."""
        self._loop.wake()

    async def look(self) -> None:
        """Serve the webhooks as they are now. Raises StoreError."""
        members = self._members()
        seen = (await self._webhooks.mark(), members)
        if seen == self._seen:
            return
        active = await self._webhooks.revisions()
        mine = {name: of for name, of in active.items() if _is_mine(name, members)}
        gone = [self._senders.pop(name) for name in self._senders.keys() - mine.keys()]
        await asyncio.gather(*(sender.close() for sender in gone))
        changed = [name for name, of in mine.items() if self._revision(name) != of]
        for webhook in await self._webhooks.load(changed):
            self._serve(webhook)
        self._seen = seen

    def _revision(self, name: str) -> int | None:
        sender = self._senders.get(name)
        return None if sender is None else sender.revision

    def _serve(self, webhook: WebhookRecord) -> None:
        sender = self._senders.get(webhook.id)
        if sender is not None:
            sender.change(webhook)
        elif webhook.enabled:
            sender = self._senders[webhook.id] = Sender(webhook, self._parts)
            sender.start()

    async def _run(self) -> None:
        is_behind = False
        while True:
            try:
                await self.look()
                is_behind = False
            except StoreError as error:
                if not is_behind:  # logged once, not at every look
                    log_.warning("webhooks are not known", error=str(error))
                is_behind = True
            await self._loop.woken(_LOOK)


def _is_mine(name: str, members: tuple[int, frozenset[int]] | None) -> bool:
    return members is None or first_of([members[0], *members[1]], name) == members[0]
