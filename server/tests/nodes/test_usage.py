"""Usage and budgets over several nodes: every turn that has ended anywhere counts, once."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

# The tests of usage are no package.
sys.path.insert(0, str(Path(__file__).parent.parent / "usage"))

from resonantgenesis_server.budget import Budget
from resonantgenesis_server.codec.events import events_append
from resonantgenesis_server.log.base import Entry
from resonantgenesis_server.log.postgres.log import PostgresLog
from resonantgenesis_server.model.errors import RateLimited
from resonantgenesis_server.model.events import NewEvent
from resonantgenesis_server.records.files import Owner
from resonantgenesis_server.records.store import Records
from resonantgenesis_server.usage import UsageMeter
from support.postgres import PostgresServer
from usage_support import ALL, ending

pytestmark = pytest.mark.anyio
_NUMBERS = itertools.count(1)


class Node:
    """The log, the records and the meter of one node."""

    def __init__(self, url: str, organization: str, monthly_tokens: int) -> None:
        self.url = url
        self.organization = organization
        self.monthly_tokens = monthly_tokens
        self.meter: UsageMeter | None = None

    async def open(self) -> Node:
        self.records = await Records.open(self.url)
        self.log = await PostgresLog.open(
            self.url, on_commit=self._committed, beat_seconds=0.05, ttl=0.5
        )
        self.meter = await UsageMeter.open(
            self.log,
            self.records.usage,
            self.records.organizations,
            self.monthly_tokens,
            shared=self.log,
        )
        self.meter.start()
        return self

    def _committed(self, stream: str, entries: Sequence[Entry]) -> None:
        if self.meter is not None:
            self.meter.committed(stream, entries)

    async def close(self) -> None:
        assert self.meter is not None
        await self.meter.close()
        await self.log.close()
        await self.records.close()

    async def turn(self, tokens: int = 10, organization: str | None = None) -> None:
        name = f"sess_{next(_NUMBERS)}"
        await self.log.append(*ending(organization or self.organization, name, 1, tokens))

    async def used(self, organization: str | None = None) -> tuple[int, int]:
        """What GET /v1/usage says: turns, tokens."""
        assert self.meter is not None
        name = organization or self.organization
        await self.meter.settle(name)
        sums = (await self.records.usage.report(Owner(name), ALL, "day")).totals
        return sums.turns, sums.total_tokens

    async def round(self) -> None:
        """Return once the meter has written what was due."""
        assert self.meter is not None
        write, over = self.meter._write_limits, asyncio.Event()

        async def write_once() -> None:
            await write()
            over.set()

        self.meter._write_limits = write_once  # type: ignore[method-assign]
        self.meter._urgent.set()
        self.meter._loop.wake()
        async with asyncio.timeout(20):
            await over.wait()

    @property
    def budget(self) -> Budget:
        assert self.meter is not None
        return self.meter.budget

    def admits(self, organization: str | None = None) -> bool:
        try:
            self.budget.check(organization or self.organization)
        except RateLimited:
            return False
        return True

    async def limit_events(self) -> int:
        page = await self.log.read(f"events:{self.organization}", 0, limit=10_000)
        return [entry.kind for entry in page.entries].count("billing.limit.reached")


Open = Callable[[int], Awaitable[Node]]


@pytest.fixture
async def node(postgres_server: PostgresServer) -> AsyncIterator[Open]:
    url = postgres_server.database()
    records = await Records.open(url)
    organization = (await records.organizations.create("first")).id
    await records.close()
    opened: list[Node] = []

    async def open_one(monthly_tokens: int = 0) -> Node:
        opened.append(await Node(url, organization, monthly_tokens).open())
        return opened[-1]

    yield open_one
    for each in opened:
        await each.close()
    postgres_server.recycle(url)


async def until(true: Callable[[], object], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.02)


async def test_every_node_shows_each_turn_that_has_ended_anywhere(node: Open) -> None:
    nodes = [await node(0), await node(0), await node(0)]
    turns = 0
    for round_ in range(12):
        for number in range(1 + round_ % 3):
            await nodes[(round_ + number) % 3].turn()
            turns += 1
        assert await nodes[round_ % 3].used() == (turns, 10 * turns)
    found = await asyncio.gather(*(each.used() for each in nodes))
    assert found == [(turns, 10 * turns)] * 3


async def test_what_many_nodes_write_at_once_is_counted_once(node: Open) -> None:
    nodes = [await node(1), await node(1)]
    await asyncio.gather(*(each.turn() for each in nodes for _ in range(50)))
    assert await nodes[0].used() == await nodes[1].used() == (100, 1000)
    assert [each.budget.state(each.organization).used for each in nodes] == [1000, 1000]


async def test_a_budget_that_others_have_used_up_holds_within_a_second_or_so(node: Open) -> None:
    one, other = await node(100), await node(100)
    assert one.admits() and other.admits()
    for each in (one, other) * 3:
        await each.turn(20)
    await until(lambda: not one.admits() and not other.admits(), seconds=3)
    assert one.budget.state(one.organization).used == 120
    assert other.budget.state(one.organization).used == 120
    async with asyncio.timeout(20):
        while not await one.limit_events():
            await asyncio.sleep(0.02)
    late = await node(100)
    assert not late.admits()
    for each in (one, other, late):
        await each.turn(20)
        await each.used()
    for each in (one, other, late):
        await each.round()
    assert await late.limit_events() == 1


async def test_a_budget_knows_organizations_that_were_made_at_another_node(node: Open) -> None:
    one, other = await node(100), await node(100)
    made = (await one.records.organizations.create("second")).id
    assert other.admits(made)
    for _ in range(11):
        await one.turn(10, made)
    await until(lambda: not other.admits(made), seconds=3)
    assert await other.used(made) == (11, 110)


async def test_a_budget_whose_events_were_trimmed_is_read_from_the_records(node: Open) -> None:
    one, other = await node(1_000), await node(1_000)
    for _ in range(10):
        await one.turn(10)
    await one.used()
    noise = [NewEvent("evt_1", "app.noise", {})]
    await one.log.append(*events_append(one.organization, noise))
    await one.log.trim(f"events:{one.organization}", 11)
    await one.turn(5)
    assert await other.used() == (11, 105)
    assert other.budget.state(one.organization).used == 105


async def test_the_usage_that_a_dead_node_had_not_written_is_there(node: Open) -> None:
    one, other = await node(0), await node(0)
    assert one.meter is not None
    await one.meter._loop.close()
    for _ in range(3):
        await one.turn()
    await one.log.nodes.close()
    await other.turn()
    assert await other.used() == (4, 40)
