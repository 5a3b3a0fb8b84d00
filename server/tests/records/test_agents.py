"""Agents in the records, and the directory that adds the configured ones."""

from __future__ import annotations

import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from resonantgenesis_server.model.errors import AgentNotFound, Conflict
from resonantgenesis_server.records.agents import AgentDirectory
from resonantgenesis_server.records.base import (
    AgentChanges,
    AgentRecord,
    ListPage,
    Organization,
)
from resonantgenesis_server.records.paging import decode_cursor, encode_cursor
from resonantgenesis_server.records.store import Records

pytestmark = pytest.mark.anyio


def agent(org: Organization, id: str, **fields: object) -> AgentRecord:
    return AgentRecord(id, org.id, id.upper(), "guide", **fields)  # type: ignore[arg-type]


async def test_an_agent_is_kept_as_it_was_given(records: Records, org: Organization) -> None:
    made = await records.agents.create(
        agent(
            org,
            "writer",
            instructions="Write – with “care”.",
            model="m",
            tools=("a", "b"),
            defaults={"max_steps": 3},
        )
    )
    assert made == await records.agents.get(org.id, "writer")
    assert (made.instructions, made.model, made.tools) == ("Write – with “care”.", "m", ("a", "b"))
    assert made.defaults == {"max_steps": 3}
    assert made.created_at == made.updated_at == 1_770_000_000.25


async def test_an_id_is_unique_within_its_organization_only(
    records: Records, org: Organization, other: Organization
) -> None:
    await records.agents.create(agent(org, "same"))
    with pytest.raises(Conflict):
        await records.agents.create(agent(org, "same"))
    await records.agents.create(agent(other, "same"))
    assert await records.agents.delete(other.id, "same")
    assert await records.agents.get(org.id, "same") is not None


async def test_an_update_changes_what_it_names(
    records: Records, org: Organization, other: Organization, clock: object
) -> None:
    made = await records.agents.create(agent(org, "a", tools=("x",), model="m"))
    clock.now += 1  # type: ignore[attr-defined]
    changed = await records.agents.update(org.id, "a", AgentChanges(name="new", tools=None))
    assert changed is not None
    assert (changed.name, changed.tools, changed.model) == ("new", None, "m")
    assert (changed.created_at, changed.updated_at) == (made.created_at, made.updated_at + 1)
    assert await records.agents.update(other.id, "a", AgentChanges(name="theirs")) is None
    assert await records.agents.get(org.id, "a") == changed
    cleared = await records.agents.update(org.id, "a", AgentChanges(model=None))
    assert cleared is not None and cleared.model is None


async def test_a_deleted_agent_is_gone(records: Records, org: Organization) -> None:
    await records.agents.create(agent(org, "a"))
    assert await records.agents.delete(org.id, "a")
    assert not await records.agents.delete(org.id, "a")
    assert await records.agents.get(org.id, "a") is None


async def test_configured_agents_are_read_only(records: Records, org: Organization) -> None:
    directory = AgentDirectory(
        records.agents, {"guide": AgentRecord("guide", "", "Guide", "guide")}
    )
    assert (await directory.get(org.id, "guide")).organization_id == org.id
    for change in (
        directory.create(agent(org, "guide")),
        directory.update(org.id, "guide", AgentChanges(name="mine")),
        directory.delete(org.id, "guide"),
    ):
        with pytest.raises(Conflict):
            await change
    with pytest.raises(AgentNotFound):
        await directory.get(org.id, "none")
    with pytest.raises(AgentNotFound):
        await directory.update(org.id, "none", AgentChanges())
    with pytest.raises(AgentNotFound):
        await directory.delete(org.id, "none")


class Stored:
    """A list of agents in memory, paged as the repository pages."""

    def __init__(self, ids: set[str]) -> None:
        self._ids = sorted(ids)

    async def list(
        self, organization_id: str, *, limit: int = 50, cursor: str | None = None
    ) -> ListPage[AgentRecord]:
        after = decode_cursor(cursor, str)[0] if cursor else ""
        left = [id for id in self._ids if id > after]
        items = [AgentRecord(id, organization_id, "stored", "guide") for id in left[:limit]]
        return ListPage(items, encode_cursor(items[-1].id) if len(left) > limit else None)


IDS = st.sets(st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=2))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stored=IDS, configured=IDS, limit=st.integers(1, 5))
async def test_pages_hold_every_agent_once_in_order(
    stored: set[str], configured: set[str], limit: int
) -> None:
    shared = {id: AgentRecord(id, "", "configured", "guide") for id in configured}
    directory = AgentDirectory(Stored(stored), shared)  # type: ignore[arg-type]
    seen: list[AgentRecord] = []
    cursor = None
    for _ in range(len(stored) + len(configured) + 1):
        page = await directory.list("org", limit=limit, cursor=cursor)
        assert 0 < len(page.items) <= limit or page.next_cursor is None
        seen.extend(page.items)
        cursor = page.next_cursor
        if cursor is None:
            break
    assert [agent.id for agent in seen] == sorted(stored | configured)
    assert {agent.id for agent in seen if agent.name == "configured"} == configured


async def test_the_repository_pages_by_id(
    records: Records, org: Organization, other: Organization
) -> None:
    for id in ("b", "A", "_", "a", "-", "0"):
        await records.agents.create(agent(org, id))
    await records.agents.create(agent(other, "foreign"))
    seen: list[str] = []
    cursor = None
    while True:
        page = await records.agents.list(org.id, limit=4, cursor=cursor)
        seen += [found.id for found in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == sorted(seen) and len(seen) == 6
