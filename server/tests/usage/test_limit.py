"""billing.limit.reached: once a month, whatever restarts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from resonantgenesis_server import usage as usage_module
from resonantgenesis_server.budget import BudgetState, Month
from resonantgenesis_server.codec.events import events_append
from resonantgenesis_server.model.errors import RateLimited
from resonantgenesis_server.model.events import event_stream
from usage_support import Stores

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_module, "_GATHER", 0.001)


@pytest.fixture
def stores(stores: Stores) -> Stores:
    stores.monthly_tokens = 100
    stores.meter.budget.monthly_tokens = 100
    return stores


async def until_reported(stores: Stores, times: int = 1) -> None:
    async with asyncio.timeout(10):
        while len(await stores.limit_events()) < times:
            await asyncio.sleep(0.001)


async def restart(stores: Stores, monthly_tokens: int = 100) -> None:
    stores.monthly_tokens = monthly_tokens
    await stores.crash()
    await stores.open()
    stores.meter.start()


async def test_a_reached_limit_is_reported_once(stores: Stores) -> None:
    stores.meter.start()
    await stores.turns(9, tokens=10)
    stores.meter.budget.check(stores.organization)
    assert await stores.limit_events() == []
    await asyncio.gather(*(stores.turns(1, tokens=10) for _ in range(8)))
    # Before anything is told: the turn's end itself has been counted.
    with pytest.raises(RateLimited):
        stores.meter.budget.check(stores.organization)
    await until_reported(stores)
    await stores.turns(5)
    await stores.meter.settle()
    (told,) = await stores.limit_events()
    month = stores.meter.budget.month
    assert (told["month"], told["monthly_tokens"]) == (month.name, 100)
    assert told["used_tokens"] >= 100
    assert told["resets_at"].endswith("-01T00:00:00.000000Z")


async def test_a_restart_goes_on_counting_and_does_not_tell_again(stores: Stores) -> None:
    await stores.turns(5, tokens=10)
    await restart(stores)
    stores.meter.budget.check(stores.organization)
    await stores.turns(5, tokens=10)
    await until_reported(stores)
    for _ in range(3):
        await restart(stores)
        with pytest.raises(RateLimited):
            stores.meter.budget.check(stores.organization)
        assert not stores.meter.budget.due()
        await stores.turns(1)
    await stores.meter.settle()
    assert len(await stores.limit_events()) == 1
    assert (await stores.place()).limit_month == stores.meter.budget.month.name


async def test_a_process_that_died_before_it_reported_does_so_at_the_next_start(
    stores: Stores,
) -> None:
    await stores.turns(10, tokens=10)  # its meter was never started
    await restart(stores)
    await until_reported(stores)
    await stores.meter.settle()
    assert len(await stores.limit_events()) == 1


async def test_a_lowered_budget_is_reported_and_a_raised_one_lets_turns_start(
    stores: Stores,
) -> None:
    await stores.turns(5, tokens=10)
    await restart(stores, 50)
    await until_reported(stores)
    await restart(stores, 200)
    stores.meter.budget.check(stores.organization)
    await stores.turns(20, tokens=10)
    await restart(stores, 200)
    with pytest.raises(RateLimited):
        stores.meter.budget.check(stores.organization)
    await stores.meter.settle()
    assert len(await stores.limit_events()) == 1  # once a month
    await restart(stores, 0)
    stores.meter.budget.check(stores.organization)


async def test_also_when_the_event_was_trimmed(stores: Stores) -> None:
    """The log forgets an event's id with the event."""
    stores.meter.start()
    await stores.turns(10, tokens=10)
    await until_reported(stores)
    await stores.turns(1)
    await stores.meter.settle()
    last = (await stores.entries())[-1].position
    await stores.log.trim(event_stream(stores.organization), last)
    for _ in range(2):
        await restart(stores)
        await stores.turns(1)
        await stores.meter.settle()
    assert await stores.limit_events() == []


async def test_one_of_an_earlier_month_is_not_this_months(stores: Stores) -> None:
    now = stores.meter.budget.month
    before = Month.of(now.begins - 1)
    state = BudgetState(stores.organization, before, 100, 100)
    await stores.log.append(*events_append(stores.organization, [usage_module._reached(state)]))
    await stores.meter.settle()
    await restart(stores)
    await stores.turns(10, tokens=10)
    await until_reported(stores, 2)
    assert [told["month"] for told in await stores.limit_events()] == [before.name, now.name]


async def test_each_organization_has_its_own(stores: Stores, tmp_path: Path) -> None:
    other = (await stores.records.organizations.create("second")).id
    stores.meter.start()
    await stores.turns(10, tokens=10)
    await until_reported(stores)
    stores.meter.budget.check(other)
    assert await stores.limit_events(other) == []
