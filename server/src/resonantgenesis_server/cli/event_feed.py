"""Platform events: which, from where, followed live or replayed page by page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import httpx

from .backoff import Notice
from .errors import NetworkError
from .link import Frame, Link, aside, json_data

EVENTS = "/v1/events"
#: Seconds that a tail, which is left alone for hours, waits for its server to come back.
TAIL_PATIENCE = 300.0
#: A time after all events: the place found there is the end of the log.
END = "9999-12-31T23:59:59Z"
_PAGE = 500

Event = dict[str, Any]
#: Asks for one page of a replay: the body to its answer.
AskPage = Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events: those of any pattern (none: all) whose data has all of the values."""

    patterns: tuple[str, ...] = ()
    filters: Mapping[str, Any] = field(default_factory=dict)

    def query(self) -> dict[str, str]:
        asked = {}
        if self.patterns:
            asked["events"] = ",".join(self.patterns)
        if self.filters:
            asked["filters"] = json.dumps(self.filters)
        return asked

    def body(self) -> dict[str, Any]:
        return {**({"events": self.patterns} if self.patterns else {}), "filters": self.filters}


class EventTail(Link[Event]):
    """Events as they happen, behind `place`: a cursor, or a time while no cursor is known."""

    def __init__(
        self, http: httpx.Client, wanted: Wanted, since: str, *, patience: float, notice: Notice
    ) -> None:
        super().__init__(http, patience=patience, notice=notice)
        self.place = since
        self._wanted = wanted

    def _place(self) -> str:
        return self.place

    def _take(self, frame: Frame) -> Event | None:
        if frame.id is None and frame.data:
            raise aside(frame)
        event = json_data(frame) if frame.data else None
        if event is not None and not isinstance(event.get("type"), str):
            raise NetworkError("the server sent what is no event; check --url")
        # A heartbeat has no data, but says how far there was nothing to tell.
        self.place = frame.id or self.place
        return event

    def _is_complete(self) -> bool:
        return False

    def _request(self) -> AbstractContextManager[httpx.Response]:
        asked = {**self._wanted.query(), "since": self.place}
        headers = {"Accept": "text/event-stream"}
        return self._http.stream(
            "GET", f"{EVENTS}/subscribe", params=asked, headers=headers, timeout=self._timeout()
        )


class Replay:
    """Events of the past, at most `limit`, over as many pages as it takes.

    `place` is how far it has come, `has_more` whether the limit kept something back.
    """

    def __init__(
        self, ask: AskPage, wanted: Wanted, since: str, until: str, limit: int | None
    ) -> None:
        self.place = since
        self.has_more = True
        self._ask = ask
        self._body = {**wanted.body(), "since": since, "until": until}
        self._left = limit

    def __iter__(self) -> Iterator[Event]:
        """Raises CliError."""
        while self.has_more and self._left != 0:
            size = _PAGE if self._left is None else min(self._left, _PAGE)
            answer = self._ask({**self._body, "since": self.place, "limit": size})
            events, place = answer.get("events"), answer.get("next_cursor")
            if not isinstance(events, list) or not isinstance(place, str):
                raise NetworkError("the server sent what is no page of events; check --url")
            yield from events
            self.place, self.has_more = place, bool(answer.get("has_more"))
            if self._left is not None:
                self._left -= len(events)
