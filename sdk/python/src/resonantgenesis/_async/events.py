"""`client.events`, asynchronous."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Mapping
from typing import Any

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
from .._core.messages import Place
from .._core.retry import OnReconnect
from .._http.reader import EventReader
from ..models import Event, Page
from .stream import AsyncReader
from .transport import AsyncTransport


class AsyncEventStream(AsyncReader[Event], EventReader):
    """Events as they happen, in order, each once, over as many connections as it takes.

    Has no end of its own. Raises StreamError: PositionExpired where what was asked for is no
    longer kept, the server's refusal, or ConnectionLost once the retries are spent; go on with
    `since=stream.cursor` then.
    """

    def __init__(
        self, transport: AsyncTransport, plan: EventPlan, on_reconnect: OnReconnect | None = None
    ) -> None:
        super().__init__(transport, on_reconnect)
        self._plan = plan

    async def _begin(self) -> EventStreamMachine:
        return self._start(self._transport.settings)


class AsyncReplay:
    # async only
    """Past events: `await` it for a list of at most 100,000, or iterate over any number.

    Iterating fetches page by page, and may be repeated from the start. Raises StreamError.
    """

    # sync: """Past events: iterate over any number, or take `all()`, at most 100,000, as a list.
    # sync:
    # sync: Iterating fetches page by page, and may be repeated from the start. Raises StreamError.
    # sync: """

    def __init__(
        self,
        transport: AsyncTransport,
        make_pager: Callable[[], ReplayPager],
        on_reconnect: OnReconnect | None = None,
    ) -> None:
        self._transport = transport
        self._make_pager = make_pager
        self._on_reconnect = on_reconnect
        # Made here for its checks: the call refuses bad arguments, not the loop.
        self._pager = make_pager()

    @property
    def cursor(self) -> str | None:
        """The place behind the last page that was fetched, as `since` of another replay."""
        return self._pager.cursor

    @property
    def has_more(self) -> bool:
        """Whether events follow that `limit` left out, or that were not fetched yet."""
        return self._pager.has_more

    async def all(self) -> list[Event]:
        """The list; raises InvalidRequest (PAYLOAD_TOO_LARGE) where there are more."""
        found, pager = ReplayList(), self._begin()
        while pager.more:
            found.add(await self._page(pager))
        return found.events

    # async only
    def __await__(self) -> Generator[Any, None, list[Event]]:
        return self.all().__await__()

    async def __aiter__(self) -> AsyncIterator[Event]:
        pager = self._begin()
        while pager.more:
            for event in await self._page(pager):
                yield event

    def _begin(self) -> ReplayPager:
        self._pager = self._make_pager()
        return self._pager

    async def _page(self, pager: ReplayPager) -> list[Event]:
        return pager.take(await self._transport.call(pager.call(), self._on_reconnect))


class AsyncEvents:
    """Platform events: follow, replay, look up, publish. All methods raise StreamError.

    `events`: patterns such as `session.*`; `filters`: `{field: value or [values]}` on the data,
    all must hold. A place (`since`, `until`) is a cursor, an RFC 3339 time or a datetime with a
    time zone.
    """

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def subscribe(
        self,
        events: Patterns = None,
        *,
        filters: Filters = None,
        since: Place = None,
        on_expired: OnExpired = "raise",
        on_reconnect: OnReconnect | None = None,
    ) -> AsyncEventStream:
        """Events from now on, or from `since`; nothing to await.

        `on_expired="earliest"`: where `since` is no longer kept, an event of type `gap` comes
        first, then the earliest there is. `on_reconnect` is called with a Reconnection before
        each new attempt after a failure, and once when data comes again.
        """
        plan = event_plan(events, filters, since, on_expired)
        return AsyncEventStream(self._transport, plan, on_reconnect)

    def replay(
        self,
        since: Place,
        *,
        until: Place = None,
        events: Patterns = None,
        filters: Filters = None,
        limit: int | None = None,
        on_reconnect: OnReconnect | None = None,
    ) -> AsyncReplay:
        """Events since a time (inclusive) or a cursor (exclusive), until a time (exclusive), a
        cursor (inclusive) or now; at most `limit`. See AsyncReplay."""
        event_filter = EventFilter.of(events, filters)
        return AsyncReplay(
            self._transport, lambda: ReplayPager(event_filter, since, until, limit), on_reconnect
        )

    async def list(
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
        return await self._transport.call(
            list_events(
                event_filter, since=since, until=until, limit=limit, cursor=cursor, wait=wait
            )
        )

    async def get(self, event_id: str) -> Event:
        """One event."""
        return await self._transport.call(get_event(event_id))

    async def publish(
        self,
        type: str,
        data: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        on_reconnect: OnReconnect | None = None,
    ) -> Event:
        """Write an `app.*` event of your own, once, however often the network repeats it."""
        call = publish_event(type, data, idempotency_key)
        return await self._transport.call(call, on_reconnect)
