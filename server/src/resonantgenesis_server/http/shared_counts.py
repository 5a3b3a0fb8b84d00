"""What other nodes have counted counts against the limits of a key and of an organization.

Each node tells the others once a second which of its counts are large. So no request asks anybody,
and a limit is off by what comes within a second, and by a sixteenth of the limit at most.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from .. import metrics
from ..background import Background
from ..calls import Calls
from ..log.base import LogError

log_ = structlog.get_logger("resonantgenesis.limits")

#: Seconds between two tellings, and seconds for which a telling counts.
_INTERVAL, _KEPT = 1.0, 5.0
#: All counts that are not told are together at most this part of a limit.
_UNTOLD = 1 / 16
_VERB = "counts"

#: The counts, by the id of a key or an organization, that are over this part of their limits.
Above = Callable[[float], Mapping[str, int]]


class SharedCounts:
    """Tells other nodes the counts of this one and adds up theirs, from `start` to `close`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._counts: dict[str, Above] = {}
        #: By node: the time of its last message, and its counts.
        self._heard: dict[int, tuple[float, Mapping[str, Mapping[str, int]]]] = {}
        self._elsewhere: dict[str, Counter[str]] = {}
        self._has_told = False
        self._is_failing = False
        self._loop = Background("shared counts", self._run)
        calls.handlers[_VERB] = self._hear

    def share(self, name: str, above: Above) -> Callable[[str], int]:
        """Share counts under this name; the same counts of all other nodes, by id."""
        self._counts[name] = above
        elsewhere = self._elsewhere[name] = Counter()
        return elsewhere.__getitem__

    def start(self) -> None:
        self._loop.start()

    async def close(self) -> None:
        await self._loop.close()

    async def tell(self) -> None:
        """Tell the other nodes, unless there is nothing to tell. Raises LogUnavailable."""
        self._add_up()
        others = len(self._calls.others)
        if not others:
            self._has_told = False
            return
        part = _UNTOLD / (others + 1)
        counts = {name: dict(above(part)) for name, above in self._counts.items()}
        is_any = any(counts.values())
        if is_any or self._has_told:
            await self._calls.tell_all(_VERB, {"node": self._calls.node, "counts": counts})
        self._has_told = is_any

    async def _hear(self, args: Mapping[str, Any]) -> None:
        self._heard[args["node"]] = asyncio.get_running_loop().time(), args["counts"]
        self._add_up()

    def _add_up(self) -> None:
        now, living = asyncio.get_running_loop().time(), self._calls.others
        self._heard = {
            node: heard
            for node, heard in self._heard.items()
            if node in living and now - heard[0] < _KEPT
        }
        for name, sums in self._elsewhere.items():
            sums.clear()
            for _, counts in self._heard.values():
                sums.update(counts.get(name, {}))

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL)
            try:
                await self.tell()
                self._is_failing = False
            except LogError as error:
                if not self._is_failing:  # logged once, not each second
                    log_.warning("other nodes do not hear our counts", error=str(error))
                self._is_failing = True
            except Exception as error:
                metrics.defect("other")
                log_.error("counts could not be told", exc_info=error)
