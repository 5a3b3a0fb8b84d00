"""The Protocols of a log that several nodes write, and of those nodes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from .base import Page


@dataclass(frozen=True, slots=True)
class Runner:
    """The node that took a stream up last, by the stream's fence.

    `node`: its number; None: unknown. `alive`: it may still append. `pending`: the stream has
    unfinished work. `head`: the position of the last entry at the moment that all this was true.
    """

    fence: int
    node: int | None
    alive: bool
    pending: bool
    head: int


class SharedLog(Protocol):
    """A log that several nodes write, as one of them sees it."""

    @property
    def node(self) -> int:
        """The number of this node."""
        ...

    @property
    def is_alone(self) -> bool:
        """Whether no other node lives."""
        ...

    @property
    def leads(self) -> bool:
        """Whether this node does the work that one node does for all, such as housekeeping."""
        ...

    def lives(self, node: int) -> bool:
        """Whether this is the number of another node that lives."""
        ...

    def place_of(self, stream: str) -> int:
        """In which of its databases a stream lies: while one is away the others answer."""
        ...

    async def next_fence(self) -> int:
        """See `Fences.next_fence`."""
        ...

    async def runner(self, stream: str) -> Runner | None:
        """The stream's runner; None if there is no such stream. Raises LogUnavailable."""
        ...

    async def read_many(
        self, after: Mapping[str, int], *, limit: int, max_bytes: int
    ) -> Mapping[str, Page]:
        """See `EventLog.read_many`."""
        ...

    async def read_placed(
        self, after: Mapping[str, int], *, limit: int, max_bytes: int
    ) -> Mapping[str, Page]:
        """Like `read_many`, and waits for no other node. Of a stream that many nodes append to it
        may not show yet what `read` would; a notice tells of that. Raises LogUnavailable."""
        ...


class FollowedLog(Protocol):
    """The part of a shared log that lies in one database, as its followers use it.

    `on_lost` is called with streams that others may append to from now on, `on_notice` with the
    marks of streams that another node has committed to (None: any may be among them).
    """

    on_lost: Callable[[list[str]], None]
    on_notice: Callable[[Sequence[int] | None], None]

    @property
    def gets_notices(self) -> bool:
        """Whether notices of other nodes arrive."""
        ...

    def owned_from(self, stream: str) -> int | None:
        """The position after which this node alone has appended to the stream and goes on to, so
        that it announces everything there; None: another node may append now."""
        ...

    async def read_placed(
        self, after: Mapping[str, int], *, limit: int, max_bytes: int
    ) -> Mapping[str, Page]:
        """See `SharedLog.read_placed`."""
        ...


class Membership(Protocol):
    """The nodes of a shared log. `on_gone` is called when a node lives no more."""

    on_gone: Callable[[], None]

    @property
    def id(self) -> int:
        """The number of this node."""
        ...

    @property
    def others(self) -> Collection[int]:
        """The numbers of the other nodes that live."""
        ...

    async def orphans(self, limit: int) -> list[str]:
        """Pending streams whose node is dead. Raises LogUnavailable."""
        ...
