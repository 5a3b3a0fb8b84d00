"""The way from the outbox to the log: in order, each once, whatever fails on it."""

from __future__ import annotations

import asyncio

import pytest
from outbox_support import FaultyLog, ForgetfulOutbox, Stores
from resonantgenesis_server.events import outbox as outbox_module
from resonantgenesis_server.events.outbox import OutboxRelay
from resonantgenesis_server.log.base import LogUnavailable
from resonantgenesis_server.records.base import AgentChanges, StoreUnusable

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "_FIRST_DELAY", 0.01)
    monkeypatch.setattr(outbox_module, "_MAX_DELAY", 0.05)


async def emptied(stores: Stores) -> None:
    """Wait until nothing waits."""
    async with asyncio.timeout(10):
        while await stores.records.outbox.pending(1):
            await asyncio.sleep(0.005)


async def test_what_is_settled_is_in_the_log(stores: Stores) -> None:
    org = await stores.organization()
    relay = OutboxRelay(stores.records.outbox, stores.log)
    relay.start()
    for number in range(20):
        await stores.make(org, f"a{number}")
        await relay.settle()
        assert await stores.relayed(org) == [f"a{n}" for n in range(number + 1)]
    assert await stores.records.outbox.pending() == []
    await relay.close()


async def test_an_entry_is_the_event_as_it_was_kept(stores: Stores) -> None:
    org = await stores.organization()
    await stores.make(org, "a")
    (row,) = await stores.records.outbox.pending()
    await OutboxRelay(stores.records.outbox, stores.log).relay()
    (event,) = await stores.events(org)
    assert event == {
        "id": row.event.id,
        "type": "agent.created",
        "channel": "agents",
        "data": {"agent_id": "a", "name": "a", "changes": {}},
        "metadata": {"organization_id": org, "key_id": "key_1", "request_id": "req_1"},
    }
    assert await stores.log.locate(f"events:{org}", key=event["id"]) == 1


async def test_many_who_settle_at_once_are_all_served(stores: Stores) -> None:
    org = await stores.organization()
    relay = OutboxRelay(stores.records.outbox, stores.log)
    relay.start()

    async def change(number: int) -> None:
        await stores.make(org, f"a{number}")
        await relay.settle()
        assert f"a{number}" in await stores.relayed(org)

    await asyncio.gather(*(change(number) for number in range(30)))
    assert len(await stores.relayed(org)) == 30
    await relay.close()


async def test_more_than_a_page_keeps_its_order(stores: Stores) -> None:
    one, two = await stores.organization("one"), await stores.organization("two")
    wanted = [f"a{number}" for number in range(40)]
    for id in wanted:
        await stores.make(one, id)
        await stores.make(two, id)
    assert await OutboxRelay(stores.records.outbox, stores.log).relay() == 80
    assert await stores.relayed(one) == await stores.relayed(two) == wanted


async def test_a_crash_before_the_relay_loses_and_doubles_nothing(stores: Stores) -> None:
    org = await stores.organization()
    await stores.make(org, "a", "b")
    await stores.records.agents.update(org, "a", AgentChanges(name="new"), actor=None)
    assert await stores.relayed(org) == []
    for _ in range(2):
        await stores.reopen()
        relay = OutboxRelay(stores.records.outbox, stores.log)
        relay.start()
        await relay.settle()
        assert await stores.relayed(org) == ["a", "b"]
        await relay.close()


async def test_a_crash_behind_the_append_doubles_nothing(stores: Stores) -> None:
    org = await stores.organization()
    made: list[str] = []
    for id in ("a", "b", "c"):
        await stores.make(org, id)
        made.append(id)
        with pytest.raises(StoreUnusable):
            await OutboxRelay(ForgetfulOutbox(stores.records.outbox, 1), stores.log).relay()
        assert await stores.relayed(org) == made
        assert len(await stores.records.outbox.pending()) == len(made)
        await stores.reopen()
    await OutboxRelay(stores.records.outbox, stores.log).relay()
    assert await stores.relayed(org) == made
    assert await stores.records.outbox.pending() == []


async def test_a_lost_answer_doubles_nothing(stores: Stores) -> None:
    org = await stores.organization()
    await stores.make(org, "a", "b")
    log = FaultyLog(stores.log)
    log.answers_lost = 2
    relay = OutboxRelay(stores.records.outbox, log)
    relay.start()
    await emptied(stores)
    assert log.attempts == 3
    assert await stores.relayed(org) == ["a", "b"]
    await relay.close()


async def test_a_log_that_is_down_holds_nobody_up_and_gets_it_later(stores: Stores) -> None:
    org = await stores.organization()
    log = FaultyLog(stores.log)
    log.down = True
    relay = OutboxRelay(stores.records.outbox, log)
    relay.start()
    for id in ("a", "b"):
        await stores.make(org, id)
        await relay.settle()
    assert await stores.relayed(org) == []
    assert len(await stores.records.outbox.pending()) == 2
    with pytest.raises(LogUnavailable):
        await relay.relay()
    log.down = False  # from here on nobody settles: the back-off brings it
    await emptied(stores)
    assert await stores.relayed(org) == ["a", "b"]
    await relay.close()


async def test_a_log_that_hangs_costs_a_bounded_wait(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "_PATIENCE", 0.02)
    monkeypatch.setattr(outbox_module, "_ROUND", 0.05)
    org = await stores.organization()
    log = FaultyLog(stores.log)
    log.hangs = True
    relay = OutboxRelay(stores.records.outbox, log)
    relay.start()
    await stores.make(org, "a")
    async with asyncio.timeout(20):
        await relay.settle()
    log.hangs = False
    await emptied(stores)
    assert await stores.relayed(org) == ["a"]
    await relay.close()


async def test_records_that_are_away_are_asked_again(stores: Stores) -> None:
    org = await stores.organization()
    relay = OutboxRelay(ForgetfulOutbox(stores.records.outbox, 3), stores.log)
    relay.start()
    await stores.make(org, "a")
    await relay.settle()
    await emptied(stores)
    assert await stores.relayed(org) == ["a"]
    await relay.close()


async def test_close_ends_the_task_and_lets_everybody_go(stores: Stores) -> None:
    log = FaultyLog(stores.log)
    log.hangs = True
    await stores.make(await stores.organization(), "a")
    relay = OutboxRelay(stores.records.outbox, log)
    await relay.settle()  # not started: nothing to wait for
    relay.start()
    async with asyncio.timeout(20):
        while not log.attempts:
            await asyncio.sleep(0)
        waiting = asyncio.create_task(relay.settle())
        await asyncio.sleep(0)
        await relay.close()
        await waiting
        await relay.settle()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "outbox"]
