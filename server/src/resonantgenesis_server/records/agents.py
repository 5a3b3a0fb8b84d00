"""Agents: those that an organization stores, and those that the configuration gives to all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, and_, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..model.errors import AgentNotFound, Conflict, NotFound
from ..model.events import NewEvent
from ..model.ids import new_id
from . import tables
from .audit import keep_audit
from .base import UNSET, Actor, AgentChanges, AgentRecord, ListPage, Once
from .database import Duplicate, RecordsDatabase
from .idempotency import use_key
from .outbox import keep_event
from .paging import decode_cursor, encode_cursor, read_page
from .tables import micros, seconds


class AgentRepository:
    """A change by an `actor` puts its event (agent.created, agent.updated, agent.deleted, or those
    of a team) into the outbox, in the same transaction. `is_team`: the change is for a team, or for
    an agent that is none."""

    def __init__(self, database: RecordsDatabase, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def create(
        self,
        agent: AgentRecord,
        *,
        actor: Actor | None = None,
        once: Once[AgentRecord] | None = None,
    ) -> AgentRecord:
        """Keep a new agent; its times are now, whatever `agent` says. Raises `Conflict` when the id
        is taken in the organization."""
        now = micros(self._clock())
        query = insert(tables.agents).values(
            id=agent.id,
            organization_id=agent.organization_id,
            name=agent.name,
            engine=agent.engine,
            instructions=agent.instructions,
            model=agent.model,
            tools=_tools(agent.tools),
            defaults=dict(agent.defaults),
            created_at=now,
            updated_at=now,
            endpoint=None if agent.endpoint is None else dict(agent.endpoint),
            team=None if agent.team is None else dict(agent.team),
        )
        try:
            async with self._database.write() as connection:
                result = await connection.execute(query.returning(tables.agents))
                made = _agent(result.mappings().one())
                if actor is not None:
                    event = agent_event("created", made, actor)
                    await keep_event(connection, made.organization_id, event, now)
                    await _audit(connection, "created", made, actor, now)
                await use_key(connection, once, made, self._database.passed())
        except Duplicate:
            raise Conflict("there is an agent with this id already") from None
        return made

    async def get(self, organization_id: str, agent_id: str) -> AgentRecord | None:
        query = select(tables.agents).where(_one(organization_id, agent_id))
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return None if row is None else _agent(row)

    async def list(
        self,
        organization_id: str,
        *,
        limit: int = 50,
        cursor: str | None = None,
        only_teams: bool = False,
    ) -> ListPage[AgentRecord]:
        """By id, ascending in ASCII order. The cursor stands after the last id of a page."""
        table = tables.agents
        query = select(table).where(table.c.organization_id == organization_id)
        if only_teams:
            query = query.where(table.c.team.is_not(None))
        if cursor is not None:
            (last,) = decode_cursor(cursor, str)
            query = query.where(table.c.id > last)
        query = query.order_by(table.c.id)
        async with self._database.read() as connection:
            return await read_page(connection, query, limit, _agent, lambda agent: (agent.id,))

    async def update(
        self,
        organization_id: str,
        agent_id: str,
        changes: AgentChanges,
        *,
        actor: Actor | None = None,
        is_team: bool = False,
    ) -> AgentRecord | None:
        """The changed agent; None if there is none. There is no event when no field changes."""
        now = micros(self._clock())
        one = and_(_one(organization_id, agent_id), _is_team(is_team))
        values = {**_values(changes), "updated_at": now}
        async with self._database.write() as connection:
            # Locked, so that the event shows the difference to the row that this change replaces.
            existing = await connection.execute(select(tables.agents).where(one).with_for_update())
            row = existing.mappings().first()
            if row is None:
                return None
            before = _agent(row)
            if "team" in values:
                values["team"] = {**(before.team or {}), **values["team"]}
            query = update(tables.agents).where(one).values(values).returning(tables.agents)
            after = _agent((await connection.execute(query)).mappings().one())
            changed = changed_fields(before, after)
            if actor is not None and changed:
                event = agent_event("updated", after, actor, changed)
                await keep_event(connection, organization_id, event, now)
                await _audit(connection, "updated", after, actor, now, changes=sorted(changed))
        return after

    async def delete(
        self,
        organization_id: str,
        agent_id: str,
        *,
        actor: Actor | None = None,
        is_team: bool = False,
    ) -> bool:
        """Whether there was such an agent."""
        one = and_(_one(organization_id, agent_id), _is_team(is_team))
        query = delete(tables.agents).where(one)
        async with self._database.write() as connection:
            result = await connection.execute(query.returning(tables.agents))
            row = result.mappings().first()
            if row is not None and actor is not None:
                gone, now = _agent(row), micros(self._clock())
                event = agent_event("deleted", gone, actor)
                await keep_event(connection, organization_id, event, now)
                await _audit(connection, "deleted", gone, actor, now)
        return row is not None


def _one(organization_id: str, agent_id: str) -> ColumnElement[bool]:
    columns = tables.agents.c
    return and_(columns.organization_id == organization_id, columns.id == agent_id)


def _is_team(is_team: bool) -> ColumnElement[bool]:
    team = tables.agents.c.team
    return team.is_not(None) if is_team else team.is_(None)


def _values(changes: AgentChanges) -> dict[str, Any]:
    """The columns that change."""
    values: dict[str, Any] = {}
    for field in fields(changes):
        value = getattr(changes, field.name)
        if value is not UNSET:
            values[field.name] = value
    if "tools" in values:
        values["tools"] = _tools(values["tools"])
    if "defaults" in values:
        values["defaults"] = dict(values["defaults"])
    if values.get("endpoint") is not None:
        values["endpoint"] = dict(values["endpoint"])
    return values


def _tools(tools: tuple[str, ...] | None) -> list[str] | None:
    return None if tools is None else list(tools)


def _agent(row: RowMapping) -> AgentRecord:
    tools, team = row["tools"], row["team"]
    return AgentRecord(
        id=row["id"],
        organization_id=row["organization_id"],
        name=row["name"],
        engine=row["engine"],
        instructions=row["instructions"],
        model=row["model"],
        tools=None if tools is None else tuple(tools),
        defaults=row["defaults"],
        created_at=seconds(row["created_at"]),
        updated_at=seconds(row["updated_at"]),
        description=None if team is None else team["description"],
        endpoint=row["endpoint"],
        team=team,
    )


#: Characters of the instructions that an event shows.
SHOWN_INSTRUCTIONS = 1_000
_FIELDS = ("name", "engine", "instructions", "model", "tools", "defaults", "url")
#: Fields of a team that its event shows when they change.
_TEAM_FIELDS = ("description", "strategy", "members", "lead", "on_failure")


def agent_event(
    kind: str, agent: AgentRecord, actor: Actor, changes: Mapping[str, Any] | None = None
) -> NewEvent:
    """`kind` is created, updated or deleted.

    The id is random. It is kept with the change, so a repeat on the way to the log has the same id.
    """
    metadata: dict[str, Any] = {
        "organization_id": agent.organization_id,
        "key_id": actor.key_id,
        "request_id": actor.request_id,
    }
    if actor.subject is not None:
        metadata["subject"] = actor.subject
    data = {"agent_id": agent.id, "name": agent.name, "changes": dict(changes or {})}
    if agent.team is None:
        return NewEvent(new_id("evt"), f"agent.{kind}", data, metadata)
    return NewEvent(new_id("evt"), f"team.{kind}", {"team_id": agent.id, **data}, metadata)


async def _audit(
    connection: AsyncConnection,
    act: str,
    agent: AgentRecord,
    actor: Actor,
    now: int,
    **details: Any,
) -> None:
    noun = "agent" if agent.team is None else "team"
    await keep_audit(connection, actor, f"{noun}.{act}", agent.id, now, name=agent.name, **details)


def changed_fields(before: AgentRecord, after: AgentRecord) -> dict[str, Any]:
    """The new values of the fields that differ."""
    changed = {
        name: _shown(name, getattr(after, name))
        for name in _FIELDS
        if getattr(before, name) != getattr(after, name)
    }
    if before.team is None or after.team is None:
        return changed
    return changed | {
        name: _shown(name, after.team[name])
        for name in _TEAM_FIELDS
        if before.team[name] != after.team[name]
    }


def _shown(name: str, value: Any) -> Any:
    if name == "instructions" and value is not None:
        return value[:SHOWN_INSTRUCTIONS]
    if name == "members":
        return [member["agent_id"] for member in value]
    return value


def _no_team() -> NotFound:
    return NotFound("there is no such team")


class AgentDirectory:
    """The agents that an organization can use: its own and the configured ones.

    Configured agents are in every organization's list and cannot be changed through the API. A
    configured agent hides a stored one of the same id.
    """

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
        stored = await self._agents.get(organization_id, agent_id)
        if stored is None:
            raise AgentNotFound("there is no such agent")
        return stored

    async def list(
        self, organization_id: str, *, limit: int = 50, cursor: str | None = None
    ) -> ListPage[AgentRecord]:
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
            # Agents behind the last stored one of this page belong to the next page.
            merged = [agent for agent in merged if agent.id <= stored.items[-1].id]
        page, rest = merged[:limit], merged[limit:]
        if not rest and stored.next_cursor is None:
            return ListPage(page)
        last = page[-1].id if rest or not stored.items else stored.items[-1].id
        return ListPage(page, encode_cursor(last))

    async def create(
        self,
        agent: AgentRecord,
        *,
        actor: Actor | None = None,
        once: Once[AgentRecord] | None = None,
    ) -> AgentRecord:
        """Raises `Conflict` when the id is taken."""
        self._check_free(agent.id)
        return await self._agents.create(agent, actor=actor, once=once)

    async def update(
        self,
        organization_id: str,
        agent_id: str,
        changes: AgentChanges,
        *,
        actor: Actor | None = None,
    ) -> AgentRecord:
        """Raises `AgentNotFound`, and `Conflict` for a configured agent or a team."""
        self._check_free(agent_id)
        changed = await self._agents.update(organization_id, agent_id, changes, actor=actor)
        if changed is None:
            await self._check_no_team(organization_id, agent_id)
            raise AgentNotFound("there is no such agent")
        return changed

    async def delete(
        self, organization_id: str, agent_id: str, *, actor: Actor | None = None
    ) -> None:
        """Raises `AgentNotFound`, and `Conflict` for a configured agent or a team."""
        self._check_free(agent_id)
        if not await self._agents.delete(organization_id, agent_id, actor=actor):
            await self._check_no_team(organization_id, agent_id)
            raise AgentNotFound("there is no such agent")

    async def _check_no_team(self, organization_id: str, agent_id: str) -> None:
        if await self._agents.get(organization_id, agent_id) is not None:
            raise Conflict(f"{agent_id} is a team: /v1/teams changes and deletes it")

    # -- teams -----------------------------------------------------------------------------

    async def team(self, organization_id: str, team_id: str) -> AgentRecord:
        """Raises `NotFound`."""
        stored = await self._agents.get(organization_id, team_id)
        if stored is None or stored.team is None:
            raise _no_team()
        return stored

    async def teams(
        self, organization_id: str, *, limit: int = 50, cursor: str | None = None
    ) -> ListPage[AgentRecord]:
        """By id."""
        return await self._agents.list(organization_id, limit=limit, cursor=cursor, only_teams=True)

    async def update_team(
        self, organization_id: str, team_id: str, changes: AgentChanges, *, actor: Actor
    ) -> AgentRecord:
        """`changes.team` has the fields that change. Raises `NotFound`."""
        changed = await self._agents.update(
            organization_id, team_id, changes, actor=actor, is_team=True
        )
        if changed is None:
            raise _no_team()
        return changed

    async def delete_team(self, organization_id: str, team_id: str, *, actor: Actor) -> None:
        """Raises `NotFound`."""
        if not await self._agents.delete(organization_id, team_id, actor=actor, is_team=True):
            raise _no_team()

    def _check_free(self, agent_id: str) -> None:
        if agent_id in self._configured:
            raise Conflict(
                "this agent comes from the server's configuration and cannot be changed here; its"
                " limits stand in its code, in the decorator `agent`"
            )
