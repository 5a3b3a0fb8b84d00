"""Bodies that take long to read: a part of one at a time, whoever else is being served between."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class FairReading:
    """Whoever has more to read than is read in one go waits here. All of them together have half
    of the loop's time at most: a packet may hold 40,000 chunks, and strangers may send it."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._runs = False

    def wait(self, read_on: Callable[[], None]) -> None:
        """Call `read_on` when it is its turn; it may wait again."""
        self._waiting.append(read_on)
        if not self._runs:
            self._runs = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            self._waiting.popleft()()
        finally:
            self._runs = bool(self._waiting)
            if self._runs:
                loop.call_later(loop.time() - began, self._next)
