"""What only the synchronous client does; the same names as in `async_io`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import httpx

from .._core.actions import Outcome
from .._core.settings import Settings
from .._files.local import SyncSource
from .._process.reachability import Reachability
from .adapter import client_options

P = ParamSpec("P")
T = TypeVar("T")

Lock = threading.Lock
sleep = time.sleep
#: What `files.upload` takes.
Source = SyncSource


class SyncConnections:
    """One process's connections, in one pool for all its threads."""

    def __init__(self, settings: Settings) -> None:
        self.reach = Reachability(settings)
        self._client = httpx.Client(**client_options(settings))

    def client(self) -> httpx.Client:
        """The pool."""
        return self._client

    def close(self) -> None:
        """Close all connections of this process."""
        self._client.close()


def to_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `function` here: a plain call may block."""
    return function(*args, **kwargs)


def read_rest(read: Callable[[float], Outcome]) -> None:
    """Leave the rest unread: a blocking read cannot be given up in time."""
