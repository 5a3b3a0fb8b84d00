"""Platform events: filters, places, and every call and request about them. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import InvalidRequest
from ..models import Event, Page
from .messages import (
    POLL_LIMIT,
    POLL_WAIT,
    SSE,
    Call,
    Place,
    Request,
    make,
    place_of,
    query,
    segment,
    without_none,
)

Patterns = str | Sequence[str] | None
Filters = Mapping[str, Any] | None
OnExpired = Literal["raise", "earliest"]

PATH = "/v1/events"
#: The most events of one list; an iteration has no such limit.
REPLAY_LIMIT = 100_000
_PAGE = 1_000
#: A time after all events: the place found there is the end of the log.
_AFTER_ALL = "9999-12-31T23:59:59Z"


@dataclass(frozen=True, slots=True)
class EventFilter:
    """The events that match any pattern and all filters; None matches every event."""

    events: tuple[str, ...] | None = None
    filters: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, events: Patterns, filters: Filters) -> EventFilter:
        """Raises ValueError for an empty list of patterns, which would be silence for ever."""
        if events is None:
            return cls(None, dict(filters or {}))
        patterns = (events,) if isinstance(events, str) else tuple(events)
        if not patterns:
            raise ValueError("events: name at least one pattern, or leave it out for all")
        return cls(patterns, dict(filters or {}))

    def params(self) -> dict[str, str]:
        """As a query."""
        params = {} if self.events is None else {"events": ",".join(self.events)}
        if self.filters:
            params["filters"] = json.dumps(self.filters, allow_nan=False, separators=(",", ":"))
        return params

    def fields(self) -> dict[str, Any]:
        """As fields of a JSON object."""
        events = None if self.events is None else list(self.events)
        return without_none(events=events, filters=dict(self.filters) or None)


@dataclass(frozen=True, slots=True)
class EventPlan:
    """A subscription: which events, from where; `since` None: from now."""

    event_filter: EventFilter = EventFilter()
    since: str | None = None
    on_expired: OnExpired = "raise"

    def open(self, cursor: str | None) -> Request:
        """The request that opens or reopens the stream behind `cursor`."""
        params = self.event_filter.params()
        headers = dict(SSE)
        if cursor is not None:
            headers["Last-Event-ID"] = cursor
        elif self.since is not None:
            params["since"] = self.since
        if self.on_expired == "earliest":
            params["on_expired"] = "earliest"
        return Request("GET", f"{PATH}/subscribe", params, headers=headers, stream=True)

    def now(self) -> Request:
        """The request for the end of the log: a first connection that breaks loses nothing."""
        return Request("GET", PATH, {"since": _AFTER_ALL, "limit": "1"})

    def poll(self, cursor: str | None) -> Request:
        """The request for the events behind `cursor`, or for the next one if there is none yet."""
        place = query(cursor=cursor, since=self.since if cursor is None else None)
        page = {"limit": str(POLL_LIMIT), "wait": str(POLL_WAIT)}
        return Request("GET", PATH, self.event_filter.params() | place | page, patience=POLL_WAIT)


def event_plan(
    events: Patterns, filters: Filters, since: Place, on_expired: OnExpired
) -> EventPlan:
    """Check the arguments of a subscription and build its plan. Raises ValueError."""
    if on_expired not in ("raise", "earliest"):
        raise ValueError("on_expired must be 'raise' or 'earliest'")
    return EventPlan(EventFilter.of(events, filters), place_of(since), on_expired)


def event_page(raw: Mapping[str, Any]) -> Page[Event]:
    """A page of events; the wire calls the list `events`."""
    return Page({**raw, "data": raw.get("events")}, Event)


def list_events(
    event_filter: EventFilter,
    *,
    since: Place,
    until: Place,
    limit: int | None,
    cursor: str | None,
    wait: float | None,
) -> Call[Page[Event]]:
    """One page, from the earliest event that is kept unless a place is given."""
    place = query(since=place_of(since), until=place_of(until, "until"), limit=limit, cursor=cursor)
    params = event_filter.params() | place | ({} if wait is None else {"wait": f"{wait:g}"})
    return Call(Request("GET", PATH, params, patience=wait or 0.0), event_page)


def get_event(event_id: str) -> Call[Event]:
    return Call(Request("GET", f"{PATH}/{segment(event_id)}"), Event)


def publish_event(type: str, data: Mapping[str, Any] | None, key: str | None) -> Call[Event]:
    """Repeatable by its key, made up if not given."""
    return Call(make(PATH, {"type": type, "data": dict(data or {})}, key), Event)


class ReplayPager:
    """The pages of a replay, one call after the other, while `more`.

    `cursor`: the end of the pages that were taken. `has_more`: events follow it.
    """

    def __init__(
        self, event_filter: EventFilter, since: Place, until: Place, limit: int | None = None
    ) -> None:
        body = without_none(since=place_of(since), until=place_of(until, "until"))
        if "since" not in body:
            raise ValueError("replay needs since=: a time, a cursor or a datetime")
        if limit is not None and limit < 1:
            raise ValueError("limit must be 1 or more")
        self._body = body | event_filter.fields()
        self._left = limit
        self.cursor: str | None = None
        self.has_more = True

    @property
    def more(self) -> bool:
        """Whether to ask for another page."""
        return self.has_more and self._left != 0

    def call(self) -> Call[Page[Event]]:
        """The next page."""
        size = _PAGE if self._left is None else min(self._left, _PAGE)
        body = self._body | {"limit": size} | without_none(cursor=self.cursor)
        return Call(Request("POST", f"{PATH}/replay", body=body), event_page)

    def take(self, page: Page[Event]) -> list[Event]:
        """The page's events; moves on behind it."""
        self.has_more = page.has_more and page.next_cursor not in (None, self.cursor)
        self.cursor = page.next_cursor or self.cursor
        if self._left is not None:
            self._left = max(0, self._left - len(page))
        return page.data


class ReplayList:
    """The events of a replay as a list, bounded."""

    def __init__(self, limit: int = REPLAY_LIMIT) -> None:
        self._limit = limit
        self.events: list[Event] = []

    def add(self, events: list[Event]) -> None:
        """Raises InvalidRequest when there are more than a list may hold."""
        self.events += events
        if len(self.events) > self._limit:
            raise InvalidRequest(
                f"more than {self._limit} events: iterate over the replay instead of awaiting its "
                "list, or go on from details['cursor']",
                code="PAYLOAD_TOO_LARGE",
                details={"limit": self._limit, "cursor": self.events[self._limit - 1].cursor},
            )
