"""Changes of agents leave their events in the outbox, in the same transaction."""

from __future__ import annotations

from typing import Any

import pytest
from resonantgenesis_server.model.errors import Conflict
from resonantgenesis_server.records.agents import AgentDirectory
from resonantgenesis_server.records.base import (
    Actor,
    AgentChanges,
    AgentRecord,
    Organization,
    StoreUnusable,
)
from resonantgenesis_server.records.store import Records

from .records_support import run_sql

pytestmark = pytest.mark.anyio

TOLD = Actor("key_1", "req_1")


def agent(org: Organization, id: str, **fields: Any) -> AgentRecord:
    return AgentRecord(id, org.id, id.upper(), "guide", **fields)


async def kept(records: Records) -> list[tuple[str, dict[str, Any]]]:
    rows = await records.outbox.pending(1_000)
    return [(row.event.type, dict(row.event.data)) for row in rows]


async def test_each_change_is_kept_with_what_it_tells(records: Records, org: Organization) -> None:
    await records.agents.create(agent(org, "a", tools=("x",)), actor=TOLD)
    changes = AgentChanges(name="New", model="m", tools=("x",), defaults={"max_steps": 2})
    await records.agents.update(org.id, "a", changes, actor=TOLD)
    await records.agents.update(org.id, "a", AgentChanges(tools=None), actor=TOLD)
    assert await records.agents.delete(org.id, "a", actor=TOLD)
    changed = {"name": "New", "model": "m", "defaults": {"max_steps": 2}}
    assert await kept(records) == [
        ("agent.created", {"agent_id": "a", "name": "A", "changes": {}}),
        ("agent.updated", {"agent_id": "a", "name": "New", "changes": changed}),
        ("agent.updated", {"agent_id": "a", "name": "New", "changes": {"tools": None}}),
        ("agent.deleted", {"agent_id": "a", "name": "New", "changes": {}}),
    ]
    rows = await records.outbox.pending()
    assert {row.organization_id for row in rows} == {org.id}
    said = {"organization_id": org.id, "key_id": "key_1", "request_id": "req_1"}
    assert [row.event.metadata for row in rows] == [said] * 4
    ids = [row.event.id for row in rows]
    assert len(set(ids)) == 4 and all(id.startswith("evt_") for id in ids)


async def test_a_subject_is_named(records: Records, org: Organization) -> None:
    await records.agents.create(agent(org, "a"), actor=Actor("key_1", "req_1", "ann"))
    (row,) = await records.outbox.pending()
    assert row.event.metadata["subject"] == "ann"


async def test_instructions_are_shown_in_part(records: Records, org: Organization) -> None:
    await records.agents.create(agent(org, "a"), actor=TOLD)
    long = "ä" * 5_000
    changed = await records.agents.update(org.id, "a", AgentChanges(instructions=long), actor=TOLD)
    assert changed is not None and changed.instructions == long
    await records.agents.update(org.id, "a", AgentChanges(instructions=None), actor=TOLD)
    shown = [data["changes"] for kind, data in await kept(records) if kind == "agent.updated"]
    assert shown == [{"instructions": "ä" * 1_000}, {"instructions": None}]


async def test_what_changes_nothing_is_not_told(
    records: Records, org: Organization, other: Organization
) -> None:
    await records.agents.create(agent(org, "a"))
    for changes in (AgentChanges(), AgentChanges(name="A", defaults={})):
        assert await records.agents.update(org.id, "a", changes, actor=TOLD) is not None
    with pytest.raises(Conflict):
        await records.agents.create(agent(org, "a"), actor=TOLD)
    assert await records.agents.update(other.id, "a", AgentChanges(name="x"), actor=TOLD) is None
    assert not await records.agents.delete(org.id, "none", actor=TOLD)
    assert await kept(records) == []


async def test_the_directory_passes_on_who_asked(records: Records, org: Organization) -> None:
    directory = AgentDirectory(records.agents, {})
    await directory.create(agent(org, "a"), actor=TOLD)
    await directory.update(org.id, "a", AgentChanges(name="b"), actor=TOLD)
    await directory.delete(org.id, "a", actor=TOLD)
    kinds = [kind for kind, _ in await kept(records)]
    assert kinds == ["agent.created", "agent.updated", "agent.deleted"]


async def test_a_change_and_its_event_are_one(records: Records, org: Organization) -> None:
    await records.agents.create(agent(org, "a"))
    await run_sql(records._database, "DROP TABLE outbox")
    for change in (
        records.agents.create(agent(org, "b"), actor=TOLD),
        records.agents.update(org.id, "a", AgentChanges(name="new"), actor=TOLD),
        records.agents.delete(org.id, "a", actor=TOLD),
    ):
        with pytest.raises(StoreUnusable):
            await change
    kept_one = await records.agents.get(org.id, "a")
    assert kept_one is not None and kept_one.name == "A"
    assert await records.agents.get(org.id, "b") is None


async def test_rows_wait_in_order_until_they_are_done(
    records: Records, org: Organization, other: Organization, url: str
) -> None:
    for number in range(5):
        await records.agents.create(agent((org, other)[number % 2], f"a{number}"), actor=TOLD)
    first = await records.outbox.pending(2)
    assert [row.event.data["agent_id"] for row in first] == ["a0", "a1"]
    assert await records.outbox.pending(2) == first
    await records.outbox.done([row.id for row in first])
    await records.outbox.done([])

    again = await Records.open(url)
    left = await again.outbox.pending()
    assert [row.event.data["agent_id"] for row in left] == ["a2", "a3", "a4"]
    assert [row.organization_id for row in left] == [org.id, other.id, org.id]
    await again.outbox.done([row.id for row in left])
    assert await again.outbox.pending() == []
    await again.agents.create(agent(org, "later"), actor=TOLD)
    (later,) = await again.outbox.pending()
    assert later.id > left[-1].id, "a number was given out twice"
    await again.close()
