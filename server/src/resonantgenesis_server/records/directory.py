"""The agents an organization can use: its own, and those the configuration gives to everyone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..model.errors import AgentNotFound, Conflict
from .agents import AgentRepository
from .base import AgentChanges, AgentRecord, Once, Page, Told
from .paging import decode_cursor, encode_cursor


class AgentDirectory:
    """Configured agents are in every organization's list, cannot be changed through the API, and
    win over a stored one of the same id."""

    def __init__(self, agents: AgentRepository, configured: Mapping[str, AgentRecord]) -> None:
        self._agents = agents
        self._configured = dict(configured)

    def is_configured(self, agent_id: str) -> bool:
        return agent_id in self._configured

    async def get(self, organization_id: str, agent_id: str) -> AgentRecord:
        """Raises `AgentNotFound`."""
        shared = self._configured.get(agent_id)
        if shared is not None:
            return replace(shared, organization_id=organization_id)
        found = await self._agents.get(organization_id, agent_id)
        if found is None:
            raise AgentNotFound("there is no such agent")
        return found

    async def list(
        self, organization_id: str, *, limit: int = 50, cursor: str | None = None
    ) -> Page[AgentRecord]:
        """By id; the same cursors as the stored agents' list."""
        after = decode_cursor(cursor, str)[0] if cursor else ""
        stored = await self._agents.list(organization_id, limit=limit, cursor=cursor)
        shared = [
            replace(agent, organization_id=organization_id)
            for agent_id, agent in self._configured.items()
            if agent_id > after
        ]
        own = [agent for agent in stored.items if agent.id not in self._configured]
        merged = sorted([*own, *shared], key=lambda agent: agent.id)
        if stored.next_cursor is not None:
            # What lies behind the last stored one of this page comes with the next page.
            merged = [agent for agent in merged if agent.id <= stored.items[-1].id]
        page, rest = merged[:limit], merged[limit:]
        if not rest and stored.next_cursor is None:
            return Page(page)
        last = page[-1].id if rest or not stored.items else stored.items[-1].id
        return Page(page, encode_cursor(last))

    async def create(
        self,
        agent: AgentRecord,
        *,
        told: Told | None = None,
        once: Once[AgentRecord] | None = None,
    ) -> AgentRecord:
        """Raises `Conflict` when the id is taken."""
        self._check_free(agent.id)
        return await self._agents.create(agent, told=told, once=once)

    async def update(
        self,
        organization_id: str,
        agent_id: str,
        changes: AgentChanges,
        *,
        told: Told | None = None,
    ) -> AgentRecord:
        """Raises `AgentNotFound`, and `Conflict` for a configured agent."""
        self._check_free(agent_id)
        changed = await self._agents.update(organization_id, agent_id, changes, told=told)
        if changed is None:
            raise AgentNotFound("there is no such agent")
        return changed

    async def delete(
        self, organization_id: str, agent_id: str, *, told: Told | None = None
    ) -> None:
        """Raises `AgentNotFound`, and `Conflict` for a configured agent."""
        self._check_free(agent_id)
        if not await self._agents.delete(organization_id, agent_id, told=told):
            raise AgentNotFound("there is no such agent")

    def _check_free(self, agent_id: str) -> None:
        if agent_id in self._configured:
            raise Conflict("this agent comes from the server's configuration")
