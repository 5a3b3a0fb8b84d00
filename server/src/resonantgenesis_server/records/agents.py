"""Agents, each within its organization."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, and_, delete, insert, select, update

from ..model.errors import Conflict
from ..model.events import NewEvent
from ..model.ids import new_id
from . import tables
from .base import UNSET, AgentChanges, AgentRecord, Once, Page, Told
from .database import Database, Duplicate
from .idempotency import use_key
from .outbox import keep_event
from .paging import decode_cursor, read_page
from .tables import micros, seconds


class AgentRepository:
    """Each change that is `told` leaves its event (agent.created, agent.updated, agent.deleted) in
    the outbox, in the same transaction."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def create(
        self,
        agent: AgentRecord,
        *,
        told: Told | None = None,
        once: Once[AgentRecord] | None = None,
    ) -> AgentRecord:
        """The times of `agent` are ignored: both are now."""
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
        )
        try:
            async with self._database.write() as connection:
                result = await connection.execute(query.returning(tables.agents))
                made = _agent(result.mappings().one())
                if told is not None:
                    event = agent_event("created", made, told)
                    await keep_event(connection, made.organization_id, event, now)
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
        self, organization_id: str, *, limit: int = 50, cursor: str | None = None
    ) -> Page[AgentRecord]:
        """By id, ascending in ASCII order. The cursor stands after the last id of a page."""
        table = tables.agents
        query = select(table).where(table.c.organization_id == organization_id)
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
        told: Told | None = None,
    ) -> AgentRecord | None:
        """The agent with the changes made; None if there is none. What leaves every field as it
        was is no event."""
        now = micros(self._clock())
        one = _one(organization_id, agent_id)
        values = {**_values(changes), "updated_at": now}
        query = update(tables.agents).where(one).values(values).returning(tables.agents)
        async with self._database.write() as connection:
            # Locked, so that the event tells the difference to what this change replaced.
            known = await connection.execute(select(tables.agents).where(one).with_for_update())
            row = known.mappings().first()
            if row is None:
                return None
            before = _agent(row)
            after = _agent((await connection.execute(query)).mappings().one())
            changed = changed_fields(before, after)
            if told is not None and changed:
                event = agent_event("updated", after, told, changed)
                await keep_event(connection, organization_id, event, now)
        return after

    async def delete(
        self, organization_id: str, agent_id: str, *, told: Told | None = None
    ) -> bool:
        """Whether there was one."""
        query = delete(tables.agents).where(_one(organization_id, agent_id))
        async with self._database.write() as connection:
            result = await connection.execute(query.returning(tables.agents))
            row = result.mappings().first()
            if row is not None and told is not None:
                event = agent_event("deleted", _agent(row), told)
                await keep_event(connection, organization_id, event, micros(self._clock()))
        return row is not None


def _one(organization_id: str, agent_id: str) -> ColumnElement[bool]:
    columns = tables.agents.c
    return and_(columns.organization_id == organization_id, columns.id == agent_id)


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
    return values


def _tools(tools: tuple[str, ...] | None) -> list[str] | None:
    return None if tools is None else list(tools)


def _agent(row: RowMapping) -> AgentRecord:
    tools = row["tools"]
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
    )


#: Characters of the instructions that an event shows; the agent itself has them all.
SHOWN_INSTRUCTIONS = 1_000
_FIELDS = ("name", "engine", "instructions", "model", "tools", "defaults")


def agent_event(
    kind: str, agent: AgentRecord, told: Told, changes: Mapping[str, Any] | None = None
) -> NewEvent:
    """`kind` is created, updated or deleted.

    The id is random: it is made once and kept with the change, so a repeat on the way to the log
    has the same one.
    """
    metadata: dict[str, Any] = {
        "organization_id": agent.organization_id,
        "key_id": told.key_id,
        "request_id": told.request_id,
    }
    if told.subject is not None:
        metadata["subject"] = told.subject
    data = {"agent_id": agent.id, "name": agent.name, "changes": dict(changes or {})}
    return NewEvent(new_id("evt"), f"agent.{kind}", data, metadata)


def changed_fields(before: AgentRecord, after: AgentRecord) -> dict[str, Any]:
    """The new values of the fields that differ."""
    return {
        name: _shown(name, getattr(after, name))
        for name in _FIELDS
        if getattr(before, name) != getattr(after, name)
    }


def _shown(name: str, value: Any) -> Any:
    if name == "instructions" and value is not None:
        return value[:SHOWN_INSTRUCTIONS]
    return value
