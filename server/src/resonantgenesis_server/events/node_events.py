"""Tells every organization that this node has started and that it is about to stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import structlog

from ..codec.events import events_append
from ..log.base import EventLog, LogError
from ..model.events import NewEvent
from ..model.ids import event_id
from ..records.access import OrganizationRepository
from ..records.base import Organization, StoreError

log_ = structlog.get_logger("resonantgenesis.announce")

#: Seconds. A stop is held up by no more than the second.
_START_PATIENCE, _STOP_PATIENCE = 5.0, 1.0


async def each_organization(
    organizations: OrganizationRepository,
) -> AsyncIterator[list[Organization]]:
    """All organizations, page by page. Raises StoreError."""
    cursor: str | None = None
    while True:
        page = await organizations.all(cursor=cursor)
        yield list(page.items)
        cursor = page.next_cursor
        if cursor is None:
            return


class NodeEvents:
    """system.node.started and system.node.draining.

    A fence is given out once in the life of the store, so it names this run of the node.
    """

    def __init__(
        self, log: EventLog, organizations: OrganizationRepository, *, fence: int, version: str
    ) -> None:
        self._log = log
        self._organizations = organizations
        self._fence = fence
        self._data = {"node_id": f"node_{fence}", "version": version}

    async def started(self) -> bool:
        """Whether all could be told; if not, the log says why and the start goes on."""
        return await self._tell("system.node.started", _START_PATIENCE)

    async def draining(self) -> bool:
        """To be called before the drain begins; takes a second at most."""
        return await self._tell("system.node.draining", _STOP_PATIENCE)

    async def _tell(self, kind: str, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                async for page in each_organization(self._organizations):
                    await self._write(kind, [organization.id for organization in page])
        except (LogError, StoreError, TimeoutError) as error:
            log_.warning("not told everyone", event_type=kind, error=str(error) or "it took long")
            return False
        return True

    async def _write(self, kind: str, organization_ids: list[str]) -> None:
        parts = [
            part
            for name in organization_ids
            for part in events_append(name, [self._of(kind, name)])
        ]
        if parts:
            await self._log.room()
            await self._log.append(*parts)

    def _of(self, kind: str, organization_id: str) -> NewEvent:
        return NewEvent(
            event_id("node", self._fence, kind, organization_id),
            kind,
            self._data,
            # Nobody asked for it: there is no key and no request.
            {"organization_id": organization_id, "key_id": None, "request_id": None},
        )
