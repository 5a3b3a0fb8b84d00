"""What one node does for all, and another takes over when that one is dead."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from resonantgenesis_server import maintenance
from resonantgenesis_server.events import outbox
from resonantgenesis_server.events.outbox import OutboxRelay
from resonantgenesis_server.log.postgres.log import PostgresLog
from resonantgenesis_server.maintenance import Housekeeper, RetentionJob
from resonantgenesis_server.records.base import Actor, AgentRecord
from resonantgenesis_server.records.store import Records

from .conftest import FeedNode

pytestmark = pytest.mark.anyio
Open = Callable[[], Awaitable[FeedNode]]


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)


async def three(feed_node: Open) -> list[FeedNode]:
    nodes = [await feed_node() for _ in range(3)]
    await until(lambda: all(len(node.log.nodes.others) == 2 for node in nodes))
    return nodes


def leading(nodes: list[FeedNode]) -> list[int]:
    return [number for number, node in enumerate(nodes) if node.log.leads]


async def test_the_oldest_node_leads_and_the_next_takes_over(feed_node: Open) -> None:
    alone = await feed_node()
    assert alone.log.leads
    await alone.close()
    nodes = await three(feed_node)
    assert leading(nodes) == [0]
    await nodes[0].log.nodes.close()  # as if its process stood still
    await until(lambda: leading(nodes[1:]) == [0])
    assert not nodes[2].log.leads


async def test_housekeeping_is_done_by_one_node_and_goes_on_elsewhere(
    feed_node: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_TAKEOVER", 0.02)
    nodes = await three(feed_node)
    ran: list[int] = []

    def keeper_of(number: int, log: PostgresLog) -> Housekeeper:
        async def run() -> int:
            ran.append(number)
            return 0

        return Housekeeper([RetentionJob("job", run)], lambda: log.leads)

    keepers = [keeper_of(number, node.log) for number, node in enumerate(nodes)]
    for keeper in keepers:
        keeper.start()
    await until(lambda: ran)
    assert await keepers[1].sweep() == {}
    await keepers[0].close()
    await nodes[0].close()
    await until(lambda: ran == [0, 1])
    await nodes[1].close()
    await keepers[1].close()
    await until(lambda: ran == [0, 1, 2])
    await keepers[2].close()


async def test_the_events_that_a_dead_node_left_in_the_outbox_are_relayed_once(
    feed_node: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_LEFT_BEHIND", 0.05)
    nodes = await three(feed_node)
    records = await Records.open(nodes[0].url)
    organization = (await records.organizations.create("first")).id

    def relay_of(node: FeedNode) -> OutboxRelay:
        return OutboxRelay(records.outbox, node.log, lambda: node.log.leads)

    relays = [relay_of(node) for node in nodes]
    for relay in relays[1:]:
        relay.start()
        await relay.settle()
    # The first node leads, and dies before it relays what it has changed.
    for number in range(5):
        agent = AgentRecord(f"a{number}", organization, "a", "guide")
        await records.agents.create(agent, actor=Actor("key_1", "req_1"))
    await nodes[0].log.nodes.close()
    async with asyncio.timeout(20):
        while await records.outbox.pending(1):
            await asyncio.sleep(0.02)
    # Rows that two nodes relay at once become one event each.
    for number in range(5, 40):
        agent = AgentRecord(f"a{number}", organization, "a", "guide")
        await records.agents.create(agent, actor=Actor("key_1", "req_1"))
        await asyncio.gather(*(relay.settle() for relay in relays[1:]))
    page = await nodes[2].log.read(f"events:{organization}", 0)
    created = [entry.body.decode() for entry in page.entries]
    assert len(created) == 40
    assert all(f'"a{number}"' in body for number, body in enumerate(created))
    for relay in relays:
        await relay.close()
    await records.close()
