"""What an asynchronous and a synchronous stream have in common: everything but I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._core.calls import Call, cancel_session
from .._core.session_stream import StreamMachine
from ..models import Chunk
from .reader import Reader

MakeMachine = Callable[[str | None], StreamMachine]


class StreamBase(Reader[Chunk]):
    """The place of a stream in its session."""

    _machine: StreamMachine | None = None
    _session_id: str | None = None
    _position: int = 0

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

    def _set_out(self, make_machine: MakeMachine, session_id: str | None, position: int) -> None:
        self._make_machine = make_machine
        self._session_id = session_id
        self._position = position

    def _start(self, session_id: str | None) -> StreamMachine:
        if self._machine is None:
            self._machine = self._make_machine(session_id)
        return self._machine

    def _cancel_call(self) -> Call[dict[str, Any]] | None:
        """What cancels the turn; None if it was never asked for."""
        if self._machine is None or not self._machine.started:
            return None
        mark = self._machine.mark
        return cancel_session(mark.session_id, mark.turn, mark.idempotency_key)

    def _where(self) -> str:
        return f"session={self.session_id} turn={self.turn} position={self.position}"
