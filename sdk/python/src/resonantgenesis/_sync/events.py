"""`client.events`, synchronous."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .._core.calls import Place
from .._core.event_plan import (
    EventPlan,
    Filters,
    OnExpired,
    Patterns,
    ReplayList,
    ReplayPager,
    Wanted,
    event_plan,
    get_event,
    list_events,
    publish_event,
)
from .._core.event_stream import EventMachine
from .._http.reader import EventReader
from ..models import Event, Page
from .stream import SyncReader
from .transport import SyncIO


class SyncEventStream(SyncReader[Event], EventReader):
    """What AsyncEventStream is, as a plain iterator."""

    def __init__(self, io: SyncIO, plan: EventPlan) -> None:
        super().__init__(io)
        self._plan = plan

    def _begin(self) -> EventMachine:
        return self._start(self._io.settings)


class SyncReplay:
    """Past events: iterate over any number, which fetches page by page, or take `all`."""

    def __init__(self, io: SyncIO, wanted: Wanted, since: Place, until: Place) -> None:
        self._io = io
        self._what = (wanted, since, until)
        # Made for its checks: what cannot work is refused by the call, not by the loop.
        ReplayPager(*self._what)

    def all(self) -> list[Event]:
        """A list of at most 100,000; raises InvalidRequest (PAYLOAD_TOO_LARGE) beyond."""
        found, pager = ReplayList(), ReplayPager(*self._what)
        while pager.more:
            found.add(pager.take(self._io.call(pager.call())))
        return found.events

    def __iter__(self) -> Iterator[Event]:
        pager = ReplayPager(*self._what)
        while pager.more:
            yield from pager.take(self._io.call(pager.call()))


class SyncEvents:
    """Platform events: follow, replay, look up, publish; see AsyncEvents."""

    def __init__(self, io: SyncIO) -> None:
        self._io = io

    def subscribe(
        self,
        events: Patterns = None,
        *,
        filters: Filters = None,
        since: Place = None,
        on_expired: OnExpired = "raise",
    ) -> SyncEventStream:
        """Events from now on, or from `since`; see AsyncEvents.subscribe."""
        return SyncEventStream(self._io, event_plan(events, filters, since, on_expired))

    def replay(
        self,
        since: Place,
        *,
        until: Place = None,
        events: Patterns = None,
        filters: Filters = None,
    ) -> SyncReplay:
        """Past events; see AsyncEvents.replay. Iterate over it, or take `all()`."""
        return SyncReplay(self._io, Wanted.of(events, filters), since, until)

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
        wanted = Wanted.of(events, filters)
        return self._io.call(
            list_events(wanted, since=since, until=until, limit=limit, cursor=cursor, wait=wait)
        )

    def get(self, event_id: str) -> Event:
        """One event."""
        return self._io.call(get_event(event_id))

    def publish(
        self,
        type: str,
        data: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> Event:
        """Writes an `app.*` event of your own, once, however often the network repeats it."""
        return self._io.call(publish_event(type, data, idempotency_key))
