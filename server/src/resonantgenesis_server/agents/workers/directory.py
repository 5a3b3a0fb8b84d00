"""The workers of an organization, as its operator sees them: of this node, and of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ...calls import Calls
from .pool import WorkerPool

_VERB = "worker_list"


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker that is connected. `connected_at` in seconds since 1970."""

    id: str
    agent_id: str
    name: str
    node: str
    capacity: int
    running: int
    draining: bool
    connected_at: float


class WorkerDirectory:
    """`node`: the id of this node on the wire. `calls` is None for a process that is alone."""

    def __init__(self, pool: WorkerPool, node: str, calls: Calls | None) -> None:
        self._pool = pool
        self._node = node
        self._calls = calls
        if calls is not None:
            calls.handlers[_VERB] = self._answer

    async def all_of(self, organization_id: str) -> list[WorkerStatus]:
        """By agent and name. Waits for other nodes for half a second at most."""
        found = self._here(organization_id)
        if self._calls is not None:
            for said in await self._calls.ask_all(_VERB, {"organization_id": organization_id}):
                found += [WorkerStatus(**worker) for worker in said]
        return sorted(found, key=lambda worker: (worker.agent_id, worker.name, worker.id))

    def _here(self, organization_id: str) -> list[WorkerStatus]:
        return [
            WorkerStatus(
                worker.id,
                worker.agent[1],
                worker.name,
                self._node,
                worker.capacity,
                len(worker.assignments),
                worker.is_draining,
                worker.connected_at,
            )
            for worker in self._pool.of_organization(organization_id)
        ]

    async def _answer(self, args: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [asdict(worker) for worker in self._here(args["organization_id"])]
