"""The synchronous stream of a session's chunks."""

from __future__ import annotations

from .._core.session_stream import StreamMachine
from .._http.stream_base import MakeMachine, StreamBase
from ..models import Chunk
from .reader import SyncReader
from .transport import SyncIO


class SyncStream(SyncReader[Chunk], StreamBase):
    """What AsyncStream is, as a plain iterator; `cancel` may be called from another thread."""

    def __init__(
        self,
        io: SyncIO,
        make_machine: MakeMachine,
        *,
        session_id: str | None = None,
        position: int = 0,
    ) -> None:
        super().__init__(io)
        self._set_out(make_machine, session_id, position)

    def cancel(self) -> None:
        """Cancels the turn; the stream goes on to its `done`. A stream not started just ends."""
        call = self._cancel_call()
        if call is None:
            self.close()
        else:
            self._io.call(call)

    def _begin(self) -> StreamMachine:
        return self._start(self._session_id)
