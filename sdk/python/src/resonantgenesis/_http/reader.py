"""The common part of all streams of both clients, without I/O."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from .._core.actions import Wait
from .._core.calls import cancel_session
from .._core.event_plan import EventPlan
from .._core.event_stream import EventStreamMachine
from .._core.messages import Call
from .._core.reconnect import Reconnector
from .._core.retry import OnReconnect, ReconnectNotifier
from .._core.session_stream import SessionStreamMachine
from .._core.settings import Settings
from ..models import Chunk, Event

T = TypeVar("T")

log = logging.getLogger("resonantgenesis")


class Reader(Generic[T]):
    """One reader of one machine, from not started to closed."""

    _machine: Reconnector[T] | None = None

    def __init__(self, on_reconnect: OnReconnect | None = None) -> None:
        self._notifier = ReconnectNotifier(on_reconnect)
        self._closed = False
        self._busy = False
        self._looped = self._left = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._machine else "not started"
        return f"<{type(self).__name__} {self._where()} {state}>"

    def _where(self) -> str:
        """The place, for logs and error messages."""
        return ""

    def _enter_loop(self) -> None:
        # Asyncio runs the end of a loop that was left a moment later: until then it is not closed.
        if self._left or (self._looped and not self._closed):
            raise RuntimeError(
                "a loop over this stream was left, which closes it: go on with another one "
                f"from {self._where()}"
            )
        self._looped = True

    def _enter_read(self) -> None:
        if self._busy:
            raise RuntimeError("the stream is already being read by another task or thread")
        self._busy = True

    def _abandon(self) -> None:
        self._closed = True
        if self._machine is not None:
            self._machine.abandon()

    def _before_wait(self, wait: Wait) -> None:
        if wait.error is not None:
            reason = wait.error.message
            log.info("%s: %s; next attempt in %.2f s", self._where(), reason, wait.seconds)
        self._notifier.waiting(wait, self._place)

    def _after_outcome(self, machine: Reconnector[T]) -> None:
        if machine.carries:
            self._notifier.connected(machine.place)

    def _after_end(self) -> None:
        self._notifier.connected(self._place)

    @property
    def _place(self) -> int | str | None:
        return None if self._machine is None else self._machine.place


MakeMachine = Callable[[str | None], SessionStreamMachine]


class StreamBase(Reader[Chunk]):
    """The place of a stream in its session."""

    _machine: SessionStreamMachine | None = None
    _session_id: str | None = None
    _position: int = 0

    @property
    def session_id(self) -> str | None:
        """The session; None until the server has named it."""
        return (self._machine and self._machine.resume_point.session_id) or self._session_id

    @property
    def turn(self) -> int | None:
        """The turn; None until the server has named it."""
        return self._machine.resume_point.turn if self._machine else None

    @property
    def position(self) -> int:
        """The position of the last chunk handed out; before the first, where the stream began."""
        return self._machine.resume_point.position if self._machine else self._position

    def _set_out(self, make_machine: MakeMachine, session_id: str | None, position: int) -> None:
        self._make_machine = make_machine
        self._session_id = session_id
        self._position = position

    def _start(self, session_id: str | None) -> SessionStreamMachine:
        if self._machine is None:
            self._machine = self._make_machine(session_id)
        return self._machine

    def _cancel_call(self) -> Call[list[int]] | None:
        """The call that cancels the turn; None if the turn was never requested."""
        if self._machine is None or not self._machine.started:
            return None
        resume_point = self._machine.resume_point
        return cancel_session(
            resume_point.session_id, resume_point.turn, resume_point.idempotency_key
        )

    def _where(self) -> str:
        return f"session={self.session_id} turn={self.turn} position={self.position}"


class EventReader(Reader[Event]):
    """The place of a subscription in the organization's log."""

    _machine: EventStreamMachine | None = None
    _plan: EventPlan

    @property
    def cursor(self) -> str | None:
        """The cursor up to which all events are handed out; before the first, where it began.

        None until the server has named the place.
        """
        return self._machine.cursor if self._machine else self._plan.since

    def _start(self, settings: Settings) -> EventStreamMachine:
        if self._machine is None:
            self._machine = EventStreamMachine(self._plan, settings)
        return self._machine

    def _where(self) -> str:
        return f"events cursor={self.cursor}"
