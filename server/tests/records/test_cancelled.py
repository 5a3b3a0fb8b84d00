"""A task that is cancelled in the middle of a transaction leaves no lock behind."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from resonantgenesis_server.records.base import Organization
from resonantgenesis_server.records.store import Records
from resonantgenesis_server.records.usage import UsagePlace, UsageRow
from sqlalchemy import event

pytestmark = pytest.mark.anyio


class Canceller:
    """Cancels the task that comes to this statement (the how many-th, from 1)."""

    def __init__(self, records: Records, statement: int) -> None:
        self._left = statement
        engine = records._database._engine.sync_engine
        event.listen(engine, "before_cursor_execute", self._before)

    def _before(self, *_: Any) -> None:
        self._left -= 1
        if self._left == 0:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()


def usage_of(org: Organization) -> Sequence[UsageRow]:
    return [
        UsageRow(org.id, f"sess_{n}", 1, "agent", "key", None, None, 1, 1, 1, 1, 1.0)
        for n in range(3)
    ]


@pytest.mark.parametrize("statement", [1, 2, 3])
async def test_others_can_write_at_once(
    records: Records, org: Organization, url: str, statement: int
) -> None:
    if statement == 3 and url.startswith("postgresql"):
        pytest.skip("SQLite's BEGIN IMMEDIATE is a statement, PostgreSQL's BEGIN is none")
    rows = usage_of(org)
    Canceller(records, statement)
    writing = asyncio.create_task(records.usage.take_in(org.id, rows, UsagePlace("epoch", 1)))
    await asyncio.wait({writing})
    assert writing.cancelled()
    other = await Records.open(url, busy_timeout=0.2)
    await other.organizations.create("another process")
    await other.close()
    assert await records.usage.place(org.id) is None
    assert (await records.usage.standing(org.id, 0.0))[0] == 0
    await records.usage.take_in(org.id, rows, UsagePlace("epoch", 1))
    assert (await records.usage.standing(org.id, 0.0))[0] == 6


async def test_cancelled_at_the_commit_all_is_kept_or_nothing(
    records: Records, org: Organization, url: str
) -> None:
    """PostgreSQL may have committed already when the task hears of it."""
    engine = records._database._engine.sync_engine
    tasks: list[asyncio.Task[None]] = []
    event.listen(engine, "commit", lambda _connection: [task.cancel() for task in tasks])
    rows = usage_of(org)
    tasks.append(asyncio.create_task(records.usage.take_in(org.id, rows, UsagePlace("epoch", 1))))
    await asyncio.wait(tasks)
    tasks.clear()
    other = await Records.open(url, busy_timeout=0.2)
    await other.organizations.create("another process")
    await other.close()
    place, tokens = (
        await records.usage.place(org.id),
        (await records.usage.standing(org.id, 0.0))[0],
    )
    assert (place, tokens) in [(None, 0), (UsagePlace("epoch", 1), 6)]
    await records.usage.take_in(org.id, rows, UsagePlace("epoch", 1))
    assert (await records.usage.standing(org.id, 0.0))[0] == 6
