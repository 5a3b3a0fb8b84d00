"""From the log into the records: each turn once, whatever fails in between."""

from __future__ import annotations

import asyncio

import pytest
from resonantgenesis_server import usage as usage_module
from resonantgenesis_server.codec.events import events_append
from resonantgenesis_server.events.service import EventService
from resonantgenesis_server.feed.hub import Hub
from resonantgenesis_server.log.base import LogUnavailable, Page
from resonantgenesis_server.maintenance import old_events
from resonantgenesis_server.model.events import NewEvent
from resonantgenesis_server.records.base import StoreUnusable
from resonantgenesis_server.records.usage import UsagePlace
from usage_support import Stores

pytestmark = pytest.mark.anyio


async def test_every_turn_is_a_row(stores: Stores) -> None:
    await stores.turns(5, tokens=7)
    await stores.noise(3)
    await stores.meter.settle()
    sums = await stores.agree()
    assert (sums.turns, sums.total_tokens, sums.steps, sums.duration_ms) == (5, 35, 10, 150)
    assert stores.usage.writes == 1
    assert (await stores.place()).position == len(await stores.entries())


async def test_nothing_to_write_is_not_written(stores: Stores) -> None:
    await stores.turns(1)
    for _ in range(3):
        await stores.meter.settle()
    assert stores.usage.writes == 1


async def test_a_crash_before_the_rows_were_written_loses_nothing(stores: Stores) -> None:
    for expected in (3, 6, 9):
        await stores.turns(3)
        await stores.crash()
        await stores.open()
        assert (await stores.kept()).turns == expected
    await stores.agree()


async def test_a_first_start_counts_what_the_log_has(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also over several pages."""
    monkeypatch.setattr(usage_module, "_PAGE", 7)
    await stores.turns(30)
    await stores.crash()
    await stores.open()
    assert (await stores.agree()).turns == 30


@pytest.mark.parametrize("failures", [1, 3])
async def test_a_store_that_fails_or_loses_its_answer(stores: Stores, failures: int) -> None:
    await stores.turns(2)
    stores.usage.answers_lost = failures
    for _ in range(failures):
        with pytest.raises(StoreUnusable):
            await stores.meter.settle()
        await stores.turns(1)
    stores.usage.down = True
    with pytest.raises(StoreUnusable):
        await stores.meter.settle()
    await stores.turns(1)
    stores.usage.down = False
    await stores.meter.settle()
    assert (await stores.agree()).turns == 3 + failures


async def test_the_task_tries_again_by_itself(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_module, "_FIRST_DELAY", 0.001)
    monkeypatch.setattr(usage_module, "_GATHER", 0.001)
    stores.meter.start()
    stores.usage.answers_lost = 2
    await stores.turns(3)
    async with asyncio.timeout(10):
        while (await stores.kept()).turns < 3 or stores.usage.answers_lost:
            await asyncio.sleep(0.001)
    await stores.meter.settle()
    assert (await stores.agree()).turns == 3


async def test_more_than_memory_is_given_is_read_from_the_log(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_module, "_MAX_ROWS", 4)
    await stores.turns(30)
    tail = stores.meter._tail(stores.organization)
    assert len(tail._rows) <= 4
    await stores.meter.settle()
    assert (await stores.agree()).turns == 30
    await stores.turns(2)
    await stores.meter.settle()
    assert (await stores.agree()).turns == 32


async def test_turns_that_end_while_the_log_is_read_are_there(stores: Stores) -> None:
    """What is announced between the read of the last page and its taking in."""
    await stores.turns(2)
    await stores.crash()
    await stores.open(load=False)
    read = stores.log.read
    between = 2

    async def reads(stream: str, after: int, *, limit: int = 1_000, **more: int) -> Page:
        nonlocal between
        page = await read(stream, after, limit=limit, **more)
        if between:
            between -= 1
            await stores.turns(1)
        return page

    stores.log.read = reads  # type: ignore[method-assign]
    await stores.meter.settle(stores.organization)
    assert (await stores.agree()).turns == 4
    await stores.turns(1)
    await stores.meter.settle()
    assert (await stores.agree()).turns == 5


async def test_a_log_that_cannot_be_read_is_logged_and_tried_again(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stores.turns(2)
    await stores.crash()
    await stores.open(load=False)

    async def fails(*_: object, **bounds: int) -> Page:
        raise LogUnavailable("cannot be read")

    with monkeypatch.context() as patch:
        patch.setattr(stores.log, "read", fails)
        patch.setattr(stores.log, "read_many", fails)
        with pytest.raises(LogUnavailable):
            await stores.meter.load()
    await stores.meter.load()
    assert (await stores.agree()).turns == 2


async def test_the_place_moves_on_without_usage(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a start would read whatever an organization published since its last turn."""
    monkeypatch.setattr(usage_module, "_FAR", 20)
    monkeypatch.setattr(usage_module, "_GATHER", 0.001)
    stores.meter.start()
    for _ in range(5):
        await stores.noise(10)
    async with asyncio.timeout(10):
        while (await stores.records.usage.place(stores.organization)) is None:
            await asyncio.sleep(0.001)
    assert (await stores.place()).position >= 20


async def test_a_stop_writes_the_place(stores: Stores) -> None:
    await stores.noise(10)
    await stores.close()
    await stores.open(load=False)
    assert (await stores.place()).position == 10


async def test_a_log_put_back_from_a_copy_is_read_anew(stores: Stores) -> None:
    await stores.turns(5)
    await stores.close()
    for file in stores.folder.glob("log.db*"):
        file.unlink()
    await stores.open(load=False)
    await stores.turns(3, tokens=1)  # sess_6 to sess_8 of another history
    await stores.meter.load()
    assert (await stores.kept()).turns == 8
    assert await stores.place() == await stores.place()
    assert (await stores.place()).epoch == stores.log.epoch


async def test_organizations_stand_apart(stores: Stores) -> None:
    other = (await stores.records.organizations.create("second")).id
    await stores.turns(2)
    await stores.turns(3, org=other)
    await stores.meter.settle(other)
    assert ((await stores.kept()).turns, (await stores.kept(other)).turns) == (0, 3)
    await stores.crash()
    await stores.open()
    assert ((await stores.agree()).turns, (await stores.agree(other)).turns) == (2, 3)


async def test_many_at_once(stores: Stores) -> None:
    stores.meter.start()
    await asyncio.gather(
        *(stores.turns(20) for _ in range(5)),
        *(stores.meter.settle() for _ in range(5)),
    )
    await stores.meter.settle()
    assert (await stores.agree()).turns == 100


async def test_no_event_is_forgotten_before_it_is_counted(stores: Stores) -> None:
    """However short events are kept, and however far behind the records are."""
    events = EventService(stores.log, Hub(), max_data=1_000)
    organizations = stores.records.organizations
    job = old_events(organizations, events, 0.0, settle=stores.meter.settle)
    await stores.turns(5)
    stores.usage.down = True
    with pytest.raises(StoreUnusable):
        await job.run()
    assert len(await stores.entries()) == 10
    stores.usage.down = False

    async def settle(organization_id: str) -> None:
        await stores.meter.settle(organization_id)
        await stores.turns(2)  # they end while the old ones are being trimmed

    assert await old_events(organizations, events, 0.0, settle=settle).run() >= 9
    await stores.crash()
    await stores.open()
    assert (await stores.kept()).turns == 7


async def test_an_event_that_says_nothing_stands_in_nobodys_way(stores: Stores) -> None:
    """None of ours is like that; whatever wrote it, the others count."""
    empty = [NewEvent(f"evt_{kind}", kind, {}) for kind in (usage_module.USAGE, usage_module.LIMIT)]
    await stores.turns(2)
    await stores.log.append(*events_append(stores.organization, empty))
    await stores.turns(2)
    await stores.meter.settle()
    assert (await stores.kept()).turns == 4
    await stores.records.usage.take_in(stores.organization, [], UsagePlace("another", 1))
    await stores.crash()
    await stores.open()  # all is read again
    assert (await stores.kept()).turns == 4
    assert (await stores.place()).limit_month is None
