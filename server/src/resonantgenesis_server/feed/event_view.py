"""One reader of an organization's events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from ..log.base import Entry, EventLog
from ..model.errors import PositionExpired
from .follow import Follower, PlaceExpired, StreamGone
from .hub import Hub
from .selection import Selection
from .topic import Group, Outlet


class Events(Protocol):
    """Where the events are."""

    log: EventLog
    hub: Hub

    def expired(self, earliest: int) -> PositionExpired:
        """What is told of a place that is gone."""
        ...


class EventView:
    """One reader following a selection from a place; single use."""

    def __init__(self, events: Events, stream: str, selection: Selection, after: int) -> None:
        self._events = events
        self._stream = stream
        self._selection = selection
        self._after = after
        self._follower: Follower | None = None
        self._outlet: Outlet | None = None
        self._stopped = False
        #: `batches` has ended without the view being over: it goes on when the outlet is woken.
        self.parked = False
        #: With whom it is written to while it is parked.
        self.group: Group | None = None

    @property
    def reached(self) -> int:
        """The position up to which nothing is left to tell."""
        return self._after if self._follower is None else self._follower.reached

    def pour_into(self, outlet: Outlet) -> None:
        """Write live events to the outlet; once it has nothing else to tell, `batches` ends,
        `parked`, and is to be called again when the outlet is woken."""
        self._outlet = outlet

    def park(self) -> bool:
        """Write live events to the outlet from here on. False: `batches` has something to do."""
        if self._outlet is not None and self._follower is not None:
            self.group = self._follower.park(self._outlet)
            self.parked = self.group is not None
        return self.parked

    def unpark(self) -> None:
        """The outlet is full."""
        if self._follower is not None:
            self._follower.unpark()

    def close(self) -> None:
        """The reader has left a view that is parked."""
        self._stopped = True
        if self._follower is not None:
            self._follower.__exit__()
            self._follower = None

    def stop(self) -> None:
        """End `batches` now; the reader has left or must."""
        self._stopped = True
        if self._follower is not None:
            self._follower.gone()

    async def batches(self, silence: float) -> AsyncIterator[list[Entry]]:
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
