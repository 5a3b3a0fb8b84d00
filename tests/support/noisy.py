"""An agent that speaks to everything but its client, and fails."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import AsyncIterator
from typing import Any


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")

    __repr__ = __str__


class Dying:
    def __del__(self) -> None:
        raise ValueError("a destructor")


def _fail() -> None:
    raise Unspeakable


async def noisy(turn: Any) -> AsyncIterator[str]:
    """As many kilobytes as the goal says, on each way out; then an exception without words."""
    yield "begun"
    for _ in range(int(turn.goal)):
        print("p" * 1023)
        print("e" * 1023, file=sys.stderr)
        logging.getLogger("noisy").error("l" * 1023)
    warnings.warn("a warning", stacklevel=1)
    Dying()
    thread = threading.Thread(target=_fail)
    thread.start()
    thread.join()
    sys.stdout.flush()
    raise Unspeakable
