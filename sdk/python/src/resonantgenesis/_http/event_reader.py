"""What an asynchronous and a synchronous subscription have in common: everything but I/O."""

from __future__ import annotations

from .._core.event_request import EventPlan
from .._core.event_stream import EventMachine
from .._core.settings import Settings
from ..models import Event
from .reader import Reader


class EventReader(Reader[Event]):
    """The place of a subscription in the organization's log."""

    _machine: EventMachine | None = None
    _plan: EventPlan

    @property
    def cursor(self) -> str | None:
        """Everything up to here has been handed out; before the first event, where it began.

        None until the server has named the place.
        """
        return self._machine.cursor if self._machine else self._plan.since

    def _start(self, settings: Settings) -> EventMachine:
        if self._machine is None:
            self._machine = EventMachine(self._plan, settings)
        return self._machine

    def _where(self) -> str:
        return f"events cursor={self.cursor}"
