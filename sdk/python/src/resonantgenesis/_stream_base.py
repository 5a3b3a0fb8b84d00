"""What an asynchronous and a synchronous stream have in common: everything but I/O."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ._actions import Wait
from ._calls import Call, cancel_session
from ._machine import StreamMachine

MakeMachine = Callable[[str | None], StreamMachine]

log = logging.getLogger("resonantgenesis")


class StreamBase:
    """The place of a stream, and its state from not started to closed."""

    def __init__(self, make_machine: MakeMachine, session_id: str | None, position: int) -> None:
        self._make_machine = make_machine
        self._machine: StreamMachine | None = None
        self._session_id = session_id
        self._position = position
        self._closed = False
        self._busy = False

    @property
    def session_id(self) -> str | None:
        """The session; None until the server has named it."""
        return (self._machine and self._machine.mark.session_id) or self._session_id

    @property
    def turn(self) -> int | None:
        """The turn; None until the server has named it."""
        return self._machine.mark.turn if self._machine else None

    @property
    def position(self) -> int:
        """The position of the last chunk handed out; before the first, where the stream began."""
        return self._machine.mark.position if self._machine else self._position

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._machine else "not started"
        place = f"session={self.session_id} turn={self.turn} position={self.position}"
        return f"<{type(self).__name__} {place} {state}>"

    def _start(self, session_id: str | None) -> StreamMachine:
        if self._machine is None:
            self._machine = self._make_machine(session_id)
        return self._machine

    def _enter_read(self) -> None:
        if self._busy:
            raise RuntimeError("the stream is already being read by another task or thread")
        self._busy = True

    def _abandon(self) -> None:
        self._closed = True
        if self._machine is not None:
            self._machine.abandon()

    def _cancel_call(self) -> Call[dict[str, Any]] | None:
        """What cancels the turn; None if it was never asked for."""
        if self._machine is None or not self._machine.started:
            return None
        mark = self._machine.mark
        return cancel_session(mark.session_id, mark.turn, mark.idempotency_key)

    def _note(self, action: Wait) -> None:
        if action.reason:
            place = f"session {self.session_id}, position {self.position}"
            log.info("%s: %s; next attempt in %.2f s", place, action.reason, action.seconds)
