"""The engine for agents that run in workers: processes of their own, connected by a socket."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from ... import metrics
from ...model.chunks import AgentChunk
from ...model.errors import AgentError
from ...tracing import spans
from ..base import Turn
from ..remote import turn_body
from ..workers.assignment import WorkerLost
from ..workers.pool import WorkerPool

#: Workers that may die with a turn before its first chunk.
_MAX_WORKERS = 3


def build(settings: Mapping[str, Any], pool: WorkerPool) -> WorkerAgent:
    return WorkerAgent(pool, str(settings.get("organization_id", "")))


class WorkerAgent:
    """Gives each turn to a worker of the agent.

    A worker that dies before the turn's first chunk has the turn given to another one; after it the
    turn ends with RUNNER_LOST.
    """

    #: A turn without a chunk may be run again by another process.
    can_begin_again = True

    def __init__(self, pool: WorkerPool, organization_id: str) -> None:
        self._pool = pool
        self._organization_id = organization_id
        #: The turns that wait for a worker.
        self._waiting: set[tuple[str, int]] = set()

    def lack_of(self, turn: Turn) -> str:
        """What the turn waits for; empty: it runs."""
        if (turn.session_id, turn.turn) not in self._waiting:
            return ""
        return self._pool.lack_of((self._organization_id, turn.agent_id))

    async def run(self, turn: Turn) -> AsyncGenerator[AgentChunk, None]:
        agent, body = (self._organization_id, turn.agent_id), turn_body(turn)
        if parent := spans.traceparent():
            body["traceparent"] = parent
        for _ in range(_MAX_WORKERS):
            self._waiting.add((turn.session_id, turn.turn))
            try:
                assignment = await self._pool.give(agent, body)
            finally:
                self._waiting.discard((turn.session_id, turn.turn))
            try:
                async with aclosing(assignment.chunks()) as chunks:
                    async for chunk in chunks:
                        yield chunk
                metrics.worker_turn("taken")
                return
            except WorkerLost:
                if assignment.has_begun:
                    metrics.worker_turn("lost")
                    raise _lost() from None
                metrics.worker_turn("given_again")
            finally:
                self._pool.over(assignment)
        raise AgentError(
            f"{_MAX_WORKERS} workers died with this turn before its first chunk", "RUNNER_LOST"
        )


def _lost() -> AgentError:
    return AgentError(
        "the worker that ran this turn is gone; what it had produced is kept", "RUNNER_LOST"
    )
