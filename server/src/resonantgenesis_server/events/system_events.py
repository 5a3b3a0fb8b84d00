"""The events of type `system.*`: a limit was met, a node has started, a node is draining."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection

import structlog

from .. import metrics
from ..background import Background
from ..codec.events import events_append
from ..log.base import EventLog, LogError
from ..model.events import AUDIT, NewEvent
from ..model.ids import event_id, new_id
from ..model.principal import ORGANIZATION, Principal
from ..records.access import OrganizationRepository, each_organization
from ..records.base import StoreError

log_ = structlog.get_logger("resonantgenesis.system_events")

LIMIT_REACHED = "system.limit.reached"
#: Seconds between two events of one limit and one key (or organization).
INTERVAL = 60.0
#: Events that may wait to be written. An event beyond is only in the server's own log.
_MAX_WAITING = 1_000
#: Limits and keys whose last event is remembered.
_MAX_REMEMBERED = 10_000


class LimitEvents:
    """Writes `system.limit.reached`, at most once a minute for each limit and key.

    An event of a limit that keys share is written at most once a minute for the organization.
    """

    def __init__(self, log: EventLog, *, clock: Callable[[], float] = time.time) -> None:
        self._log = log
        self._clock = clock
        #: The time of the last event, by key (or organization) and limit.
        self._last: dict[tuple[str, str], float] = {}
        self._waiting: asyncio.Queue[tuple[str, NewEvent]] = asyncio.Queue(_MAX_WAITING)
        self._loop = Background("limit events", self._run)

    def reached(self, principal: Principal, name: str, limit: int) -> None:
        """A key or its organization has met a limit. Cheap, since limits are met often."""
        self.met(principal.organization_id, principal.key_id, name, limit)

    def met(self, organization_id: str, key_id: str | None, name: str, limit: int) -> None:
        """Like `reached`; `key_id` is None where the request's key is not known."""
        metrics.limit_hit(name, organization_id)
        owner = key_id if key_id and not name.startswith(ORGANIZATION) else organization_id
        now = self._clock()
        if now - self._last.get((owner, name), 0.0) < INTERVAL or self._waiting.full():
            return
        if len(self._last) >= _MAX_REMEMBERED:
            self._last = {of: at for of, at in self._last.items() if now - at < INTERVAL}
        self._last[owner, name] = now
        log_.warning(
            "limit reached", organization=organization_id, key=key_id, limit=name, most=limit
        )
        event = NewEvent(
            # The id holds the minute, so nodes that share a log write the event once.
            event_id(LIMIT_REACHED, owner, name, int(now // INTERVAL)),
            LIMIT_REACHED,
            {"limit": name, "most": limit, "key_id": key_id},
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
            except LogError as error:  # an event of the next minute replaces this one
                log_.warning("limit event not written", limit=event.data["limit"], error=str(error))


#: Seconds that a start and a stop wait for their events.
_START_PATIENCE, _STOP_PATIENCE = 5.0, 1.0
#: Organizations of one append.
_TOGETHER = 50


class NodeEvents:
    """Writes `system.node.started` and `system.node.draining` for the organizations concerned.

    `node_id` names this run of the node, as nothing else in the life of the store.

    Where no other node lives, that is every organization. Among others it is those whose turns and
    streams the node has: of those that it has none of, nobody need do anything. So a roll-out of
    many nodes does not write events to everybody.
    """

    def __init__(
        self,
        log: EventLog,
        organizations: OrganizationRepository,
        *,
        node_id: str,
        version: str,
        served: Callable[[], Collection[str] | None] = lambda: None,
    ) -> None:
        """`served`: the organizations that this node has turns or streams of; None: it is for all
        to know."""
        self._log = log
        self._organizations = organizations
        self._served = served
        self._data = {"node_id": node_id, "version": version}
        #: One for each event.
        self._publishing: list[Background] = []

    async def close(self) -> None:
        """Give up what is still to be written."""
        for publishing in self._publishing:
            await publishing.close()

    async def started(self) -> bool:
        """Return whether all concerned have the event by now: where they are many the rest get it
        behind this call's back. A failure is logged, never raised."""
        return await self._publish("system.node.started", _START_PATIENCE)

    async def draining(self) -> bool:
        """Like `started`, but waits one second at most. Call this when the drain begins."""
        return await self._publish("system.node.draining", _STOP_PATIENCE)

    async def certificate_read(self, chain: str, *, is_usable: bool) -> None:
        """Have the audit log of the server's own organization tell that the operator has had this
        node read its certificate again. A failure is logged, never raised."""
        nobody = {"key_id": None, "subject": None, "address": None}
        data = {"target": chain, **nobody, "usable": is_usable, "node_id": self._data["node_id"]}
        try:
            async with asyncio.timeout(_START_PATIENCE):
                first = await self._organizations.first()
                if first is None:
                    return
                metadata = {"organization_id": first.id, "key_id": None, "request_id": None}
                event = NewEvent(new_id("evt"), AUDIT + "certificate.read", data, metadata)
                await self._log.room()
                await self._log.append(*events_append(first.id, [event]))
        except (LogError, StoreError, TimeoutError) as error:
            log_.warning("an act is not in the audit log", target=chain, error=str(error))

    async def _publish(self, kind: str, seconds: float) -> bool:
        written: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        async def publish() -> None:
            written.set_result(await self._write_everywhere(kind))

        publishing = Background(kind, publish)
        self._publishing.append(publishing)
        publishing.start()
        await asyncio.wait({written}, timeout=seconds)
        if not written.done():
            log_.warning("node event not written everywhere yet", event_type=kind, after=seconds)
            return False
        return written.result()

    async def _write_everywhere(self, kind: str) -> bool:
        try:
            async for organization_ids in self._concerned():
                await self._write(kind, organization_ids)
        except (LogError, StoreError) as error:
            log_.warning("node event not written everywhere", event_type=kind, error=str(error))
            return False
        return True

    async def _concerned(self) -> AsyncIterator[list[str]]:
        served = self._served()
        if served is None:
            async for page in each_organization(self._organizations):
                yield [organization.id for organization in page]
            return
        chosen = sorted(served)
        for start in range(0, len(chosen), _TOGETHER):
            yield chosen[start : start + _TOGETHER]

    async def _write(self, kind: str, organization_ids: list[str]) -> None:
        parts = [
            part
            for organization_id in organization_ids
            for part in events_append(organization_id, [self._event(kind, organization_id)])
        ]
        if parts:
            await self._log.room()
            await self._log.append(*parts)

    def _event(self, kind: str, organization_id: str) -> NewEvent:
        return NewEvent(
            event_id("node", self._data["node_id"], kind, organization_id),
            kind,
            self._data,
            # No request caused the event, so there is no key either.
            {"organization_id": organization_id, "key_id": None, "request_id": None},
        )
