"""The metrics of all workers of a server, whichever of them is asked.

Each worker writes what it tells into its page of the memory that all share, once a second. So a
scrape waits for nobody: for no worker that hangs, and not for the database.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import orjson
import structlog
from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from .. import metrics
from ..background import Background
from .serving.worker_place import WorkerPlace

log_ = structlog.get_logger("resonantgenesis.metrics")

#: Seconds between two writings.
_INTERVAL = 1.0


class Telling(NamedTuple):
    """What a process tells. `worker`: the value of the label; None: it is the only process."""

    worker: str | None
    pid: int
    families: list[Metric]


class WorkerMetrics:
    """Writes what this worker tells, and reads what the others told, from `start` to `close`."""

    def __init__(self, place: WorkerPlace, families: Callable[[], Iterable[Metric]]) -> None:
        self._place = place
        self._families = families
        self._loop = Background("worker metrics", self._run)

    def start(self) -> None:
        self._loop.start()

    async def close(self) -> None:
        await self._loop.close()
        self._place.pages.clear(self._place.place)

    def tellings(self) -> list[Telling]:
        """What this worker tells now, and what the others told last."""
        others = map(_read, self._place.pages.read(self._place.place))
        return sorted([self._own(), *others], key=lambda telling: telling.worker or "")

    def _own(self) -> Telling:
        return Telling(self._place.name, os.getpid(), list(self._families()))

    async def _run(self) -> None:
        while True:
            try:
                self._place.pages.write(self._place.place, _written(self._own()))
            except Exception as error:
                metrics.defect("other")
                log_.error("the other workers cannot tell our metrics", exc_info=error)
            await asyncio.sleep(_INTERVAL)


def _written(telling: Telling) -> bytes:
    families = [
        [each.name, each.documentation, each.type, [sample[:3] for sample in each.samples]]
        for each in telling.families
    ]
    return orjson.dumps([telling.worker, telling.pid, families])


def _read(page: bytes) -> Telling:
    worker, pid, families = orjson.loads(page)
    return Telling(worker, pid, [_family(*each) for each in families])


def _family(name: str, documentation: str, kind: str, samples: list[Any]) -> Metric:
    family = Metric(name, documentation, kind)
    family.samples = [Sample(*sample) for sample in samples]
    return family
