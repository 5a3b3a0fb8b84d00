"""One organization's texts take a share of the loop, whatever it sends on however many ways."""

from __future__ import annotations

import asyncio
import time

import pytest
from resonantgenesis_server.feed import shares
from resonantgenesis_server.feed.shares import SMALL, Shares
from resonantgenesis_server.model.errors import RateLimited

pytestmark = pytest.mark.anyio


async def parse(found: Shares, organization: str, seconds: float) -> None:
    await found.turn(organization)
    with found.measured(organization):
        time.sleep(seconds)


async def test_within_its_share_nobody_waits() -> None:
    found, loop = Shares(), asyncio.get_running_loop()
    found.took("one", 0.04)
    began = loop.time()
    for _ in range(100):
        await found.turn("one")
        found.took("one", SMALL)
    assert loop.time() - began < 1


async def test_who_takes_more_waits_and_others_do_not() -> None:
    found, loop = Shares(), asyncio.get_running_loop()
    busy = [asyncio.create_task(parse(found, "one", 0.02)) for _ in range(15)]
    began = loop.time()
    await asyncio.sleep(0)
    await parse(found, "one", 0.0)  # behind all of them: 0.3 s of work at a fifth of the time
    assert loop.time() - began > 1.0
    await asyncio.gather(*busy)
    for _ in range(10):
        await found.turn("other")


async def test_one_after_the_other_with_the_loop_free_in_between() -> None:
    found = Shares()
    found.took("one", 0.06)
    ticks, at = 0, []

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    async def work() -> None:
        await parse(found, "one", 0.005)
        at.append(ticks)

    ticking = asyncio.create_task(tick())
    await asyncio.gather(*[work() for _ in range(10)])
    ticking.cancel()
    assert len(set(at)) == 10


async def test_a_turn_that_does_not_come_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "_PATIENCE", 0.1)
    found = Shares()
    found.took("one", 60)
    with pytest.raises(RateLimited) as caught:
        await found.turn("one")
    assert caught.value.retry_after == 1
    await found.turn("other")


async def test_organizations_that_wait_for_nothing_are_forgotten() -> None:
    found = Shares()
    found.took("busy", 60)
    for n in range(3_000):
        found.took(f"o{n}", 0.0)
    assert len(found._accounts) <= 1_001
    assert "busy" in found._accounts


async def test_one_look_of_an_organization_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Shares()
    under_way = most = 0

    async def look() -> None:
        nonlocal under_way, most
        async with found.alone("one"):
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.001)
            under_way -= 1

    await asyncio.gather(*[look() for _ in range(20)])
    assert most == 1
    monkeypatch.setattr(shares, "_PATIENCE", 0.1)
    async with found.alone("one"), found.alone("other"):
        with pytest.raises(RateLimited):
            async with found.alone("one"):
                pass
    async with found.alone("one"):
        pass
