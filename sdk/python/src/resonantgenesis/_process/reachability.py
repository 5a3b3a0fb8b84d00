"""Logs that the server cannot be reached, once per outage."""

from __future__ import annotations

import logging
import threading

from .._core.settings import Settings

log = logging.getLogger("resonantgenesis")


class Reachability:
    """Whether one client reaches its server; threads may share it, processes do not."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._out = False
        self._lock = threading.Lock()

    def lost(self, why: str) -> None:
        """Note that no connection could be made; `why` names the address."""
        if self._turn(True):
            log.warning(why)

    def found(self) -> None:
        """Note that there is a connection."""
        if self._out and self._turn(False):
            log.warning("connected again to %s", self._settings.base_url)

    def _turn(self, out: bool) -> bool:
        """Set the state; True if it has changed."""
        with self._lock:
            news, self._out = self._out is not out, out
        return news
