"""The synchronous stream: an iterator of chunks that outlives its connections."""

from __future__ import annotations

import time
from types import TracebackType

from ._actions import Emit, Fetch, Finish, Lost, Open, Outcome, Read, Wait, Waited
from ._stream_base import MakeMachine, StreamBase
from ._sync_io import SyncConnection, SyncIO
from .models import Chunk


class SyncStream(StreamBase):
    """What AsyncStream is, as a plain iterator; `cancel` may be called from another thread."""

    def __init__(
        self,
        io: SyncIO,
        make_machine: MakeMachine,
        *,
        session_id: str | None = None,
        position: int = 0,
    ) -> None:
        super().__init__(make_machine, session_id, position)
        self._io = io
        self._connection: SyncConnection | None = None

    def __iter__(self) -> SyncStream:
        return self

    def __next__(self) -> Chunk:
        chunk = self._run()
        if chunk is None:
            raise StopIteration
        return chunk

    def __enter__(self) -> SyncStream:
        """Connects, so that `session_id` and `turn` are known."""
        self._run(only_open=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; the turn goes on. Harmless if repeated."""
        self._abandon()
        self._disconnect()

    def cancel(self) -> None:
        """Cancels the turn; the stream goes on to its `done`. A stream not started just ends."""
        call = self._cancel_call()
        if call is None:
            self.close()
        else:
            self._io.call(call)

    def _run(self, *, only_open: bool = False) -> Chunk | None:
        """The next chunk; None at the end, or, with `only_open`, once the stream is there."""
        self._enter_read()
        try:
            machine = self._start(self._session_id)
            while not (self._closed or (only_open and machine.opened)):
                action = machine.next()
                if isinstance(action, Emit):
                    return action.chunk
                if isinstance(action, Finish):
                    self._end(action)
                    return None
                machine.give(self._perform(action))
            if self._closed:
                self._disconnect()
            return None
        except BaseException:
            # Interrupted, or failed: either way nobody reads on.
            self.close()
            raise
        finally:
            self._busy = False

    def _end(self, action: Finish) -> None:
        self._disconnect()
        self._closed = True
        if action.error is not None:
            raise action.error

    def _perform(self, action: Open | Read | Fetch | Wait) -> Outcome:
        if isinstance(action, Read) and self._connection is not None:
            return self._connection.read(action.timeout)
        self._disconnect()
        if isinstance(action, Open):
            outcome, self._connection = self._io.open(action.request)
            return outcome
        if isinstance(action, Fetch):
            return self._io.fetch(action.request)
        if isinstance(action, Wait):
            self._note(action)
            time.sleep(action.seconds)
            return Waited()
        return Lost("closed")

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __del__(self) -> None:
        # Left in mid-stream by `break` or an exception in the loop.
        self._abandon()
        self._disconnect()
