"""`client.events`, synchronous."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .._core.calls import Place
from .._core.event_plan import (
    EventFilter,
    EventPlan,
    Filters,
    OnExpired,
    Patterns,
    ReplayList,
    ReplayPager,
    event_plan,
    get_event,
    list_events,
    publish_event,
)
from .._core.event_stream import EventStreamMachine
from .._http.reader import EventReader
from ..models import Event, Page
from .stream import SyncReader
from .transport import SyncTransport


class SyncEventStream(SyncReader[Event], EventReader):
    """What AsyncEventStream is, as a plain iterator."""

    def __init__(self, transport: SyncTransport, plan: EventPlan) -> None:
        super().__init__(transport)
        self._plan = plan

    def _begin(self) -> EventStreamMachine:
        return self._start(self._transport.settings)


class SyncReplay:
    """Past events: iterate over any number, which fetches page by page, or take `all`."""

    def __init__(
        self, transport: SyncTransport, event_filter: EventFilter, since: Place, until: Place
    ) -> None:
        self._transport = transport
        self._what = (event_filter, since, until)
        # Made for its checks: what cannot work is refused by the call, not by the loop.
        ReplayPager(*self._what)

    def all(self) -> list[Event]:
        """A list of at most 100,000; raises InvalidRequest (PAYLOAD_TOO_LARGE) beyond."""
        found, pager = ReplayList(), ReplayPager(*self._what)
        while pager.more:
            found.add(pager.take(self._transport.call(pager.call())))
        return found.events

    def __iter__(self) -> Iterator[Event]:
        pager = ReplayPager(*self._what)
        while pager.more:
            yield from pager.take(self._transport.call(pager.call()))


class SyncEvents:
    """Platform events: follow, replay, look up, publish; see AsyncEvents."""

    def __init__(self, transport: SyncTransport) -> None:
        self._transport = transport

    def subscribe(
        self,
        events: Patterns = None,
        *,
        filters: Filters = None,
        since: Place = None,
        on_expired: OnExpired = "raise",
    ) -> SyncEventStream:
        """Events from now on, or from `since`; see AsyncEvents.subscribe."""
        return SyncEventStream(self._transport, event_plan(events, filters, since, on_expired))

    def replay(
        self,
        since: Place,
        *,
        until: Place = None,
        events: Patterns = None,
        filters: Filters = None,
    ) -> SyncReplay:
        """Past events; see AsyncEvents.replay. Iterate over it, or take `all()`."""
        return SyncReplay(self._transport, EventFilter.of(events, filters), since, until)

    def list(
        self,
        *,
        since: Place = None,
        until: Place = None,
        events: Patterns = None,
        filters: Filters = None,
        limit: int | None = None,
        cursor: str | None = None,
        wait: float | None = None,
    ) -> Page[Event]:
        """One page, from the earliest kept; `wait`: seconds to wait for the first, if none is."""
        event_filter = EventFilter.of(events, filters)
        return self._transport.call(
            list_events(
                event_filter, since=since, until=until, limit=limit, cursor=cursor, wait=wait
            )
        )

    def get(self, event_id: str) -> Event:
        """One event."""
        return self._transport.call(get_event(event_id))

    def publish(
        self,
        type: str,
        data: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> Event:
        """Writes an `app.*` event of your own, once, however often the network repeats it."""
        return self._transport.call(publish_event(type, data, idempotency_key))
