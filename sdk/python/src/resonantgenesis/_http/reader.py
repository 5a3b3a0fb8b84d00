"""What everything that is iterated over the network has in common: all but I/O."""

from __future__ import annotations

import logging
from typing import Generic, TypeVar

from .._core.actions import Wait
from .._core.reconnect import LinkMachine

T = TypeVar("T")

log = logging.getLogger("resonantgenesis")


class Reader(Generic[T]):
    """One reader of one machine, from not started to closed."""

    _machine: LinkMachine[T] | None = None

    def __init__(self) -> None:
        self._closed = False
        self._busy = False
        self._looped = self._left = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._machine else "not started"
        return f"<{type(self).__name__} {self._where()} {state}>"

    def _where(self) -> str:
        """The place, for people."""
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

    def _note(self, action: Wait) -> None:
        if action.reason:
            where = self._where()
            log.info("%s: %s; next attempt in %.2f s", where, action.reason, action.seconds)
