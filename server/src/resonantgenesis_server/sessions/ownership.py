"""Which node may write a session, and with which fence."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ..log.base import StaleWriter
from ..log.shared import SharedLog


class Elsewhere(StaleWriter):
    """Another node that lives runs the session's turns; `node` is its number."""

    def __init__(self, node: int) -> None:
        super().__init__(f"node {node} runs the session")
        self.node = node


class Taken(NamedTuple):
    """A session that this process may write with this fence. `is_ours`: whether this process was
    the last to write it."""

    fence: int
    is_ours: bool


class Ownership(Protocol):
    """Decides for the sessions of one process. `fence` is the process's newest."""

    @property
    def fence(self) -> int: ...

    async def take(self, control: str, position: int) -> Taken | None:
        """Take the session of this control stream, which was read up to `position`, as far as the
        log showed after the call began. None: it goes on behind `position`, and has to be read on.
        Raises Elsewhere and LogUnavailable.

        A session that was read before its turn ended, and asked about after that, would look like
        one whose turn has lost its process. The first append decides: it names the same position.
        """
        ...

    @property
    def is_alone(self) -> bool:
        """Whether everything that is written is announced in this process."""
        ...

    @property
    def node(self) -> int:
        """The number of this process among the nodes; 0: it is alone."""
        ...

    @property
    def leads(self) -> bool:
        """Whether this process does the work that one of the nodes does for all, such as
        housekeeping. Two may think so for a moment, so such work can be done twice."""
        ...

    def lives(self, node: int) -> bool:
        """Whether this is the number of another node that lives."""
        ...


class SoleOwner:
    """The ownership of a process that has the log for itself."""

    node = 0
    is_alone = True
    leads = True

    def __init__(self, fence: int) -> None:
        self.fence = fence

    async def take(self, control: str, position: int) -> Taken:
        return Taken(self.fence, is_ours=True)

    def lives(self, node: int) -> bool:
        return False


class NodeOwner:
    """The ownership of one of many nodes.

    A session whose turns another node runs is that node's as long as it lives. Every other session
    is this node's from its first append on: its fence is above all that wrote before, and two nodes
    that try at once name the same position, so that one of them is refused.
    """

    def __init__(self, log: SharedLog, fence: int) -> None:
        self.fence = fence
        self._log = log

    async def take(self, control: str, position: int) -> Taken | None:
        runner = await self._log.runner(control)
        if runner is None:
            return Taken(self.fence, is_ours=True)
        if runner.pending and runner.alive and runner.node not in {None, self._log.node}:
            raise Elsewhere(runner.node or 0)
        if runner.head > position:
            return None
        while runner.fence > self.fence:
            self.fence = await self._log.next_fence()
        return Taken(self.fence, is_ours=runner.node == self._log.node)

    @property
    def is_alone(self) -> bool:
        return self._log.is_alone

    @property
    def leads(self) -> bool:
        return self._log.leads

    @property
    def node(self) -> int:
        return self._log.node

    def lives(self, node: int) -> bool:
        return self._log.lives(node)
