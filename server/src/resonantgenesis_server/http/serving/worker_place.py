"""What a process is given that is one of the workers of a server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .listener import Listener
from .shared_memory import SharedPages


@dataclass(frozen=True, slots=True)
class WorkerPlace:
    """This process is worker `number` of a server; its parent holds the data directory.

    `place` is that of what it shares with the other workers, such as its page in `pages`. `joined`
    tells the parent the number of this node. Its second argument is called with each node that
    another worker of this server was, and whose process has ended.
    """

    number: int
    place: int
    listener: Listener
    pages: SharedPages
    joined: Callable[[int, Callable[[int], None]], None]

    @property
    def name(self) -> str:
        """One that no other worker of this server has, such as `1`, or `1b` in its second place:
        a worker and its successor have one number."""
        return f"{self.number}" if self.place == self.number - 1 else f"{self.number}b"
