"""Whether the server can be reached: said as soon as it cannot, once an outage."""

from __future__ import annotations

import logging
import threading

from .._core.settings import Settings

log = logging.getLogger("resonantgenesis")


class Reachability:
    """One client's knowledge of it; threads may share it, processes do not."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._out = False
        self._lock = threading.Lock()

    def lost(self, why: str) -> None:
        """No connection could be made; `why` names the address."""
        if self._turn(True):
            log.warning(why)

    def found(self) -> None:
        """There is a connection."""
        if self._out and self._turn(False):
            log.warning("connected again to %s", self._settings.base_url)

    def _turn(self, out: bool) -> bool:
        """Whether that is news."""
        with self._lock:
            news, self._out = self._out is not out, out
        return news
