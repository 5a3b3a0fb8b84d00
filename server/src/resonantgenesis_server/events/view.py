"""One reader of an organization's events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from ..feed.filter import Selection
from ..feed.hub import Hub
from ..feed.parking import Parking
from ..feed.subscription import Follower, PlaceExpired, StreamGone
from ..log.base import Entry, EventLog
from ..model.errors import PositionExpired


class Events(Protocol):
    """Where the events are."""

    log: EventLog
    hub: Hub

    def expired(self, earliest: int) -> PositionExpired:
        """What is told of a place that is gone."""
        ...


class EventView(Parking):
    """One reader following a selection from a place; single use."""

    def __init__(self, events: Events, stream: str, selection: Selection, after: int) -> None:
        super().__init__()
        self._events = events
        self._stream = stream
        self._selection = selection
        self._after = after

    @property
    def reached(self) -> int:
        """The position up to which nothing is left to tell."""
        return self._after if self._follower is None else self._follower.reached

    async def batches(self, silence: float) -> AsyncGenerator[list[Entry], None]:
        """Matching events in order, each once; an empty list after every `silence` seconds
        without. Raises PositionExpired when the reader is so slow that its place is trimmed."""
        events = self._events
        follower = self._follower
        if follower is None:
            follower = Follower(
                events.hub, events.log, self._stream, self._after, selection=self._selection
            )
            self._follower = follower.__enter__()
        self.parked = False
        try:
            while not self._stopped:
                if self.park():
                    return
                yield await follower.batch(silence)
        except StreamGone:
            return
        except PlaceExpired as error:
            raise events.expired(error.earliest) from error
        finally:
            if not self.parked:
                self.close()
