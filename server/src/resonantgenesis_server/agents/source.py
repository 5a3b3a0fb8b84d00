"""Agents by their id: built from their records, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..model.errors import Unavailable
from ..records.base import AgentRecord, StoreError
from ..records.directory import AgentDirectory
from .base import Agent
from .registry import Engines

#: Agents kept built; past it all are built anew when they are next used.
_BUILT = 1_000


@dataclass(frozen=True, slots=True)
class ResolvedAgent:
    """An agent with what its organization set for it."""

    agent: Agent
    instructions: str | None
    model: str | None
    tools: Sequence[str] | None
    defaults: Mapping[str, Any]


class AgentSource(Protocol):
    """Where agents come from."""

    async def resolve(self, organization_id: str, agent_id: str) -> ResolvedAgent:
        """Raises AgentNotFound, and Unavailable while that cannot be told."""
        ...


class Agents:
    """Resolves ids to agents; one is built once and used until its record changes."""

    def __init__(
        self, directory: AgentDirectory, built: Mapping[str, Agent], engines: Engines
    ) -> None:
        self._directory = directory
        self._engines = engines
        self._configured = dict(built)
        self._built: dict[tuple[str, str], tuple[AgentRecord, Agent]] = {}

    async def resolve(self, organization_id: str, agent_id: str) -> ResolvedAgent:
        """Raises AgentNotFound, and Unavailable while the records do not answer."""
        try:
            record = await self._directory.get(organization_id, agent_id)
        except StoreError as error:
            raise Unavailable("the agents cannot be read right now", retry_after=1) from error
        return ResolvedAgent(
            self._agent(record),
            record.instructions,
            record.model,
            record.tools,
            record.defaults,
        )

    def _agent(self, record: AgentRecord) -> Agent:
        if self._directory.is_configured(record.id):
            return self._configured[record.id]
        name = (record.organization_id, record.id)
        known = self._built.get(name)
        if known is None or known[0] != record:
            if len(self._built) > _BUILT:
                self._built.clear()
            settings = {**record.defaults, "model": record.model}
            known = self._built[name] = (record, self._engines.build(record.engine, settings))
        return known[1]
