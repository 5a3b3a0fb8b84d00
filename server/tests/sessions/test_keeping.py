"""What is no longer kept: trimmed turns, deleted sessions, sessions long unused."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from resonantgenesis_server.log import base
from resonantgenesis_server.maintenance import Retention
from resonantgenesis_server.model.clock import Clock
from resonantgenesis_server.model.errors import (
    NotFound,
    PositionExpired,
    SessionBusy,
    SessionNotFound,
)
from resonantgenesis_server.sessions.range import ReadFrom

from .agents import Gate
from .rig import ME, Rig, assert_sound, kinds

pytestmark = pytest.mark.anyio


# -- long sessions --------------------------------------------------------------------------


@pytest.mark.parametrize("step", [7, 10_000])
async def test_the_oldest_ended_turns_are_trimmed_whole(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(base, "TRIM_STEP", step)
    rig.supervisor.limits = replace(rig.limits, chunks_per_session=100)
    session = await rig.create()
    goal = " ".join(["w"] * 17)  # 20 chunks a turn
    for _ in range(12):
        await rig.run(goal, session=session)
    async with asyncio.timeout(20):
        while rig.supervisor._active:  # trimming comes after the end
            await asyncio.sleep(0.001)
    page = await rig.log.read(session, 0)
    assert page.info is not None
    assert page.info.head == 240
    assert page.info.earliest == 141  # seven turns of twenty
    assert_sound(await rig.chunks(session), first=141)
    # Positions go on; what is gone is told.
    for place in (
        ReadFrom(after=0),
        ReadFrom(after=139),
        ReadFrom(turn=7),
        ReadFrom(after=0, follow=True),
    ):
        with pytest.raises(PositionExpired) as told:
            await rig.service.subscribe(ME, session, place)
        assert told.value.details["earliest"] == 141
    assert len(await rig.watch(session, ReadFrom(after=140))) == 100
    assert len(await rig.watch(session, ReadFrom(turn=8))) == 20
    assert (await rig.get(session))["position"] == 240
    steps, _ = await rig.service.steps(ME, session, turn=None, after=0, limit=100)
    assert [s["turn"] for s in steps] == [8, 8, 9, 9, 10, 10, 11, 11, 12, 12]
    assert (await rig.run(goal, session=session))["position"] == 260


async def test_the_result_of_what_is_gone(rig: Rig) -> None:
    ref = await rig.execute("x", key="k")
    await rig.result(ref)
    await rig.log.trim(ref.session_id, 10)
    with pytest.raises(PositionExpired):
        await rig.result(await rig.execute("x", key="k"))
    await rig.log.delete(ref.session_id)  # and its turns are not forgotten yet
    with pytest.raises(PositionExpired):
        await rig.result(ref)
    await rig.service.delete(ME, ref.session_id)
    with pytest.raises(NotFound):
        await rig.result(ref)


async def test_an_agent_of_a_long_session_is_given_what_is_left(rig: Rig) -> None:
    rig.supervisor.limits = replace(rig.limits, chunks_per_session=100)
    session = await rig.create()
    for n in range(10):
        await rig.run(f"{n} " * 20, session=session)
    rig.supervisor.history._known.clear()
    echo = rig.agents["echo"]
    await rig.run("now", session=session)
    history = echo.turns[-1].history  # type: ignore[attr-defined]
    assert 3 <= len(history) <= 5
    assert history[-1].goal == "9 " * 20


async def test_a_reader_that_is_too_slow_is_told(rig: Rig) -> None:
    session = await rig.create()
    await rig.run(" ".join(["w"] * 17), session=session)
    view = await rig.service.subscribe(ME, session, ReadFrom(after=3, follow=True))
    assert view is not None
    await rig.log.trim(session, 10)
    with pytest.raises(PositionExpired):
        await anext(view.batches(5))


# -- deletion -------------------------------------------------------------------------------


async def test_deletion_ends_every_reader(rig: Rig, gate: Gate) -> None:
    ref = await rig.execute(agent="gate")
    session = ref.session_id
    await rig.execute("2", session=session, agent="gate", if_busy="enqueue")
    gate.say("some")
    await rig.until_head(session, 2)
    places = [
        ReadFrom(after=0),
        ReadFrom(after=0, follow=True),
        ReadFrom(turn=2),
        ReadFrom(turn=1),
        ReadFrom(),
    ]
    readers = [asyncio.create_task(rig.watch(session, place)) for place in places]
    while rig.hub.readers(session) + rig.hub.readers(f"{session}/turns") < len(readers):
        await asyncio.sleep(0)
    await rig.service.delete(ME, session)
    async with asyncio.timeout(20):
        seen = await asyncio.gather(*readers)
    assert kinds(seen[0])[:2] == ["step", "text"]
    assert kinds(seen[1])[-1] == "done"
    for call in (
        rig.get(session),
        rig.service.subscribe(ME, session, ReadFrom()),
        rig.execute("3", session=session, agent="gate"),
        rig.service.delete(ME, session),
    ):
        with pytest.raises(SessionNotFound):
            await call
    assert not rig.hub.busy
    assert (await rig.log.read(session, 0)).info is None
    assert (await rig.log.read(f"{session}/turns", 0)).info is None
    assert session not in rig.rows.rows


async def test_a_reader_that_comes_between_check_and_deletion_ends_too(rig: Rig) -> None:
    """It was let in, then the session went, then it registered: nobody tells it any more."""
    session = await rig.create()
    await rig.run(session=session)
    view = await rig.service.subscribe(ME, session, ReadFrom(after=0, follow=True))
    assert view is not None
    await rig.service.delete(ME, session)
    async with asyncio.timeout(20):
        assert [entries async for entries in view.batches(60)] == []


async def test_starts_that_race_with_the_deletion(rig: Rig) -> None:
    """Each is refused, or runs before the deletion; nothing is left of the session."""
    for n in range(40):
        session = await rig.create()
        starts = [
            asyncio.create_task(rig.execute("a b", session=session, if_busy="enqueue"))
            for _ in range(4)
        ]
        for _ in range(n):
            await asyncio.sleep(0)
        try:
            await rig.service.delete(ME, session)
        except SessionBusy:
            await asyncio.gather(*starts, return_exceptions=True)
            await rig.service.delete(ME, session)
        for start in await asyncio.gather(*starts, return_exceptions=True):
            assert not isinstance(start, BaseException) or isinstance(start, SessionNotFound)
        async with asyncio.timeout(20):
            while rig.supervisor._active:
                await asyncio.sleep(0)
        assert (await rig.log.read(session, 0)).info is None
        assert (await rig.log.read(f"{session}/turns", 0)).info is None
        assert await rig.supervisor.states.load(session) is None
    await rig.session_list.settle()
    assert rig.rows.rows == {}


async def test_deletion_of_a_stubborn_turn(rig: Rig) -> None:
    ref = await rig.execute(agent="stubborn")
    await rig.until_head(ref.session_id, 2)
    async with asyncio.timeout(20):
        await rig.service.delete(ME, ref.session_id)
    assert (await rig.log.read(ref.session_id, 0)).info is None


# -- retention ------------------------------------------------------------------------------


def keeper(rig: Rig, seconds: float, now: float | None = None) -> Retention:
    """`now` is what the sweep takes for the time."""
    clock = None if now is None else Clock(lambda: now, lambda: now)
    return Retention(rig.rows, rig.service.remove, rig.session_list.settle, seconds, clock)


async def test_sessions_long_unused_are_removed_and_no_others(rig: Rig, gate: Gate) -> None:
    old = [await rig.create() for _ in range(250)]
    running = await rig.execute(agent="gate")
    await asyncio.sleep(0.01)
    now = time.time() + 1_000
    new = await rig.create()
    assert await keeper(rig, 1_000, now).sweep() == 250
    await rig.session_list.settle()
    assert set(rig.rows.rows) == {running.session_id, new}
    for session in old[::50]:
        with pytest.raises(SessionNotFound):
            await rig.get(session)
    gate.end()
    assert (await rig.result(running))["status"] == "success"


async def test_a_list_that_is_behind_its_log_is_repaired_not_obeyed(rig: Rig) -> None:
    """After a crash a row can say running of what has ended, or old of what is not."""
    fresh = await rig.create()
    stale = await rig.create()
    gone = await rig.create()
    await rig.session_list.settle()
    await asyncio.sleep(0.01)
    now = time.time() + 1_000
    await rig.run(session=fresh)
    await rig.session_list.settle()
    old = rig.rows.rows[gone].updated_at
    rows = rig.rows.rows
    rows[fresh] = replace(rows[fresh], updated_at=old, status="created")
    rows[stale] = replace(rows[stale], status="running")
    rows["sess_ghost"] = replace(rows[gone], id="sess_ghost", status="running")
    assert await keeper(rig, 1_000, now).sweep() == 3
    assert set(rig.rows.rows) == {fresh}
    assert rig.rows.rows[fresh].status == "completed"


async def test_a_removal_that_fails_is_tried_again(rig: Rig) -> None:
    session = await rig.create()
    await rig.session_list.settle()
    sweeper = keeper(rig, -1)
    rig.rows.broken = True
    with pytest.raises(Exception, match="broken"):
        await sweeper.sweep()
    rig.rows.broken = False
    await sweeper.sweep()
    assert rig.rows.rows == {}
    with pytest.raises(SessionNotFound):
        await rig.get(session)


async def test_rows_of_running_sessions_do_not_stop_the_sweep(rig: Rig, gate: Gate) -> None:
    refs: list[Any] = [await rig.execute(agent="gate") for _ in range(3)]
    session = await rig.create()
    await rig.session_list.settle()
    assert await keeper(rig, -1).sweep() == 1
    assert session not in rig.rows.rows
    assert len(rig.rows.rows) == len(refs)
