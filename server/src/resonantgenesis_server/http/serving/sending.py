"""A client that takes nothing does not keep what it is owed for ever."""

from __future__ import annotations

import asyncio

#: Seconds between two looks, at most.
_LOOK = 5.0


class Sending:
    """Cuts a connection on which bytes have waited for `patience` seconds and none has gone, also
    after it was closed, which waits for them without a bound."""

    __slots__ = ("_loop", "_moved", "_patience", "_timer", "_transport", "_unsent")

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, patience: float
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._patience = patience
        self._timer: asyncio.TimerHandle | None = None
        self._unsent = 0
        self._moved = 0.0

    def watch(self) -> None:
        """Bytes may be waiting: look after them until they have gone."""
        if self._timer is None and (unsent := self._transport.get_write_buffer_size()):
            self._unsent, self._moved = unsent, self._loop.time()
            self._look_later()

    def stop(self) -> None:
        """The connection is lost, or somebody else's."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_later(self) -> None:
        self._timer = self._loop.call_later(min(_LOOK, self._patience / 4), self._look)

    def _look(self) -> None:
        self._timer = None
        unsent = self._transport.get_write_buffer_size()
        if not unsent:
            return
        now = self._loop.time()
        if unsent != self._unsent:
            self._unsent, self._moved = unsent, now
        elif now - self._moved >= self._patience:
            self._transport.abort()
            return
        self._look_later()
