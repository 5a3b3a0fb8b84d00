"""The synchronous stream of a session's chunks."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import Self, TypeVar

from .._core.actions import Emit, Fetch, Finish, Lost, Open, Outcome, Read, Wait, Waited
from .._core.reconnect import Reconnector
from .._core.session_stream import SessionStreamMachine
from .._http.reader import MakeMachine, Reader, StreamBase
from ..models import Chunk
from .transport import SyncConnection, SyncTransport

T = TypeVar("T")


class SyncReader(Reader[T], ABC):
    """What AsyncReader is, as a plain iterator."""

    def __init__(self, transport: SyncTransport) -> None:
        super().__init__()
        self._transport = transport
        self._connection: SyncConnection | None = None

    def __iter__(self) -> Iterator[T]:
        """For one loop, which closes the stream however it ends; see AsyncReader."""
        self._enter_loop()
        return self._items()

    def _items(self) -> Iterator[T]:
        try:
            while (emitted := self._run()) is not None:
                yield emitted.item
        except GeneratorExit:
            self._left = True
            raise
        finally:
            self.close()

    def __next__(self) -> T:
        emitted = self._run()
        if emitted is None:
            raise StopIteration
        return emitted.item

    def __enter__(self) -> Self:
        """Connects, so that the place is known."""
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
        """Closes the connection, and nothing else. Harmless if repeated."""
        self._abandon()
        self._disconnect()

    @abstractmethod
    def _begin(self) -> Reconnector[T]:
        """The machine, made at the first call."""

    def _run(self, *, only_open: bool = False) -> Emit[T] | None:
        """The next item; None at the end, or, with `only_open`, once the stream is there."""
        self._enter_read()
        try:
            machine = self._begin()
            while not (self._closed or (only_open and machine.opened)):
                action = machine.next()
                if isinstance(action, Emit):
                    return action
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
            outcome, self._connection = self._transport.open(action.request)
            return outcome
        if isinstance(action, Fetch):
            return self._transport.fetch(action.request)
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
        # Left in mid-stream without a loop.
        self._abandon()
        self._disconnect()


class SyncStream(SyncReader[Chunk], StreamBase):
    """What AsyncStream is, as a plain iterator; `cancel` may be called from another thread."""

    def __init__(
        self,
        transport: SyncTransport,
        make_machine: MakeMachine,
        *,
        session_id: str | None = None,
        position: int = 0,
    ) -> None:
        super().__init__(transport)
        self._set_out(make_machine, session_id, position)

    def cancel(self) -> None:
        """Cancels the turn; the stream goes on to its `done`. A stream not started just ends."""
        call = self._cancel_call()
        if call is None:
            self.close()
        else:
            self._transport.call(call)

    def _begin(self) -> SessionStreamMachine:
        return self._start(self._session_id)
