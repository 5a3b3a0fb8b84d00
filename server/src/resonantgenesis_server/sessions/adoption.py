"""Takes up the sessions of dead nodes: running turns end, waiting turns run here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from zlib import crc32

import structlog

from .. import metrics
from ..background import Background
from ..log.base import LogError
from ..log.shared import Membership

log_ = structlog.get_logger("resonantgenesis.nodes")

#: Seconds between two looks for sessions of dead nodes, besides those when a node is found gone.
_SECONDS = 5.0
#: Sessions that are looked for at once.
_SESSIONS = 500


class Adoption:
    """Shares the sessions of dead nodes among those that live, from `start` to `close`.

    Each node takes up those for which it comes first by a hash. Nodes that see each other
    differently for a moment may try the same session; the log lets one of them.
    """

    def __init__(
        self,
        nodes: Membership,
        sweep: Callable[[Sequence[str]], Awaitable[tuple[int, int]]],
        gone: Callable[[], None] = lambda: None,
    ) -> None:
        """`sweep` ends the lost turns of pending streams and runs those that wait; see
        `Supervisor.sweep`. `gone` is called when a node lives no more."""
        self._nodes = nodes
        self._sweep = sweep
        self._gone = gone
        self._loop = Background("adoption", self._run)
        nodes.on_gone = self._node_gone

    def _node_gone(self) -> None:
        self._gone()
        self._loop.wake()

    def start(self) -> None:
        self._loop.start()

    async def close(self) -> None:
        await self._loop.close()

    async def adopt(self) -> tuple[int, int]:
        """How many turns were lost, and how many go on. Raises LogUnavailable."""
        lost = resumed = 0
        while True:
            orphans = await self._nodes.orphans(_SESSIONS)
            mine = [name for name in orphans if self._is_mine(name)]
            if mine:
                counts = await self._sweep(mine)
                metrics.turns_adopted(*counts)
                lost, resumed = lost + counts[0], resumed + counts[1]
            if len(orphans) < _SESSIONS or not mine:
                return lost, resumed

    def _is_mine(self, name: str) -> bool:
        return first_of([self._nodes.id, *self._nodes.others], name) == self._nodes.id

    async def _run(self) -> None:
        while True:
            try:
                lost, resumed = await self.adopt()
                if lost or resumed:
                    log_.warning("turns of dead nodes", lost=lost, resumed=resumed)
            except LogError as error:
                log_.warning("sessions of dead nodes are not taken up yet", error=str(error))
            except Exception as error:
                metrics.defect("other")
                log_.error("sessions of dead nodes could not be taken up", exc_info=error)
                await asyncio.sleep(_SECONDS)
            await self._loop.woken(_SECONDS)


def first_of(nodes: Iterable[int], name: str) -> int:
    """The node that a name belongs to: the same for all who know the same nodes, and another only
    if that one goes (rendezvous hashing)."""
    return max(nodes, key=lambda node: (crc32(f"{node} {name}".encode()), node))
