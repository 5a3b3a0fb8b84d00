"""One turn at a time: refuse, queue, interrupt; and never busy once `done` was seen."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from resonantgenesis_server.log.sqlite.log import SqliteLog
from resonantgenesis_server.model.errors import SessionBusy
from resonantgenesis_server.sessions.range import ReadFrom
from resonantgenesis_server.sessions.request import TurnRef

from .agents import Gate
from .rig import ME, Rig, assert_sound

pytestmark = pytest.mark.anyio


async def start(rig: Rig, session: str, if_busy: str, **named: object) -> TurnRef:
    return await rig.execute("g", session=session, agent="gate", if_busy=if_busy, **named)


async def test_reject(rig: Rig, gate: Gate) -> None:
    ref = await rig.execute(agent="gate")
    for _ in range(3):
        with pytest.raises(SessionBusy) as refused:
            await start(rig, ref.session_id, "reject")
        assert refused.value.retryable
    gate.end()
    await rig.result(ref)
    gate.end(turn=2)
    assert (await rig.result(await start(rig, ref.session_id, "reject")))["turn"] == 2


async def test_ten_wait_the_eleventh_is_refused(rig: Rig, gate: Gate) -> None:
    first = await rig.execute(agent="gate")
    session = first.session_id
    refs = [await start(rig, session, "enqueue") for _ in range(10)]
    assert [ref.turn for ref in refs] == list(range(2, 12))
    with pytest.raises(SessionBusy):
        await start(rig, session, "enqueue")
    assert (await rig.get(session))["status"] == "running"
    for turn in range(1, 12):
        gate.say(f"said {turn}", turn=turn)
        gate.end(turn=turn)
    results = [await rig.result(ref) for ref in [first, *refs]]
    assert [r["output"] for r in results] == [f"said {turn}" for turn in range(1, 12)]
    assert [turn.turn for turn in gate.turns] == list(range(1, 12))
    assert_sound(await rig.chunks(session))


async def test_enqueue_when_idle_starts_at_once(rig: Rig, gate: Gate) -> None:
    session = await rig.create("gate")
    gate.end()
    assert (await rig.result(await start(rig, session, "enqueue")))["status"] == "success"


async def test_many_enqueue_at_once(rig: Rig, gate: Gate) -> None:
    first = await rig.execute(agent="gate")
    answers = await asyncio.gather(
        *(start(rig, first.session_id, "enqueue", key=f"k{n}") for n in range(25)),
        return_exceptions=True,
    )
    started = [a for a in answers if isinstance(a, TurnRef)]
    assert sorted(ref.turn for ref in started) == list(range(2, 12))
    assert all(isinstance(a, TurnRef | SessionBusy) for a in answers)
    assert len(started) == 10


async def test_interrupt_cancels_what_runs_and_waits_then_starts(rig: Rig, gate: Gate) -> None:
    first = await rig.execute(agent="gate")
    session = first.session_id
    second = await start(rig, session, "enqueue")
    gate.say("partial")
    await rig.until_head(session, 2)
    third = await start(rig, session, "interrupt")
    gate.say("new", turn=3)
    gate.end(turn=3)
    results = [await rig.result(ref) for ref in (first, second, third)]
    assert [r["status"] for r in results] == ["cancelled", "cancelled", "success"]
    assert [r["output"] for r in results] == ["partial", "", "new"]
    assert_sound(await rig.chunks(session))


async def test_interrupts_in_a_row_the_last_one_wins(rig: Rig, gate: Gate) -> None:
    first = await rig.execute(agent="gate")
    refs = [first] + [await start(rig, first.session_id, "interrupt") for _ in range(8)]
    gate.end(turn=9)
    statuses = [(await rig.result(ref))["status"] for ref in refs]
    assert statuses == ["cancelled"] * 8 + ["success"]
    assert_sound(await rig.chunks(first.session_id))


@pytest.mark.parametrize("keyed", [False, True])
async def test_interrupts_at_once_each_get_a_turn_of_their_own(
    rig: Rig, gate: Gate, keyed: bool
) -> None:
    first = await rig.execute(agent="gate")
    refs = await asyncio.gather(
        *(
            start(rig, first.session_id, "interrupt", key=f"k{n}" if keyed else None)
            for n in range(30)
        )
    )
    assert sorted(ref.turn for ref in refs) == list(range(2, 32))
    gate.end(turn=31)
    statuses = [(await rig.result(ref))["status"] for ref in sorted(refs, key=lambda r: r.turn)]
    assert statuses == ["cancelled"] * 29 + ["success"]
    assert_sound(await rig.chunks(first.session_id))


async def test_a_repeated_interrupt_interrupts_once(rig: Rig, gate: Gate) -> None:
    first = await rig.execute(agent="gate")
    session = first.session_id
    second = await start(rig, session, "interrupt", key="once")
    third = await start(rig, session, "enqueue")
    repeats = await asyncio.gather(
        *(start(rig, session, "interrupt", key="once") for _ in range(10))
    )
    assert all((ref.turn, ref.joined) == (2, True) for ref in repeats)
    for turn in (2, 3):
        gate.end(turn=turn)
    assert [(await rig.result(ref))["status"] for ref in (first, second, third)] == [
        "cancelled", "success", "success",
    ]  # fmt: skip
    # Also when everything is over.
    again = await start(rig, session, "interrupt", key="once")
    assert (again.turn, (await rig.state(session)).open_turns) == (2, [])


async def test_a_refused_interrupt_cancels_nothing(rig: Rig, gate: Gate) -> None:
    first = await rig.execute(agent="gate")
    await gate.begun()
    rig.supervisor.draining = True
    with pytest.raises(Exception, match="shutting down"):
        await start(rig, first.session_id, "interrupt")
    rig.supervisor.draining = False
    gate.say("unharmed")
    gate.end()
    assert (await rig.result(first))["status"] == "success"


@pytest.mark.parametrize("turns", [300, pytest.param(1_000, marks=pytest.mark.soak)])
async def test_turns_in_a_row_are_never_refused(rig: Rig, turns: int) -> None:
    session = await rig.create()
    for turn in range(1, turns + 1):
        result = await rig.run("x", session=session)
        assert (result["turn"], result["status"]) == (turn, "success")
        if turn % 20 == 0:
            described = await rig.get(session)
            assert (described["status"], described["turn"]) == ("completed", turn)
    assert_sound(await rig.chunks(session))


async def test_never_busy_once_done_was_seen_pushed(rig: Rig) -> None:
    """A viewer's first sight of `done` is the starting shot."""
    session = await rig.create()
    for turn in range(1, 201):
        ref = await rig.execute("x", session=session)
        assert ref.turn == turn
        view = await rig.service.subscribe(ME, session, ReadFrom(turn=turn))
        assert view is not None
        async for entries in view.batches(5):
            if entries and entries[-1].kind == "done":
                break
        # Before anything else: the end shows everywhere.
        described = await rig.get(session)
        assert (described["status"], described["turn"]) == ("completed", turn)
        assert described["output"] == "x"


async def test_never_busy_once_done_was_seen_polled(rig: Rig) -> None:
    """Read from the file, which can show the end before it is announced."""
    session = await rig.create()
    after = 0
    for turn in range(1, 101):
        await rig.execute("x", session=session)
        seen = b""
        while b'"done"' not in seen:
            poll = await rig.service.poll(
                ME, session, after=after, limit=100, wait=0, compacted=False, epoch=None
            )
            after = poll.position
            seen = b"".join(poll.events)
        assert (poll.status, poll.done) == ("completed", True)
        assert (await rig.get(session))["turns"] == turn


async def test_never_busy_even_if_announcements_come_late(rig: Rig) -> None:
    """The writer has committed, nobody has heard of it: readers still have."""
    session = await rig.create()
    late: list[Any] = []
    # Held back in the loop's own thread: the writer to a file is another one.
    is_thread = isinstance(rig.log, SqliteLog)
    held, name = (rig.log, "_deliver") if is_thread else (rig.log._writer, "_announce")
    deliver = getattr(held, name)
    after = 0
    for turn in range(1, 31):
        await rig.execute("x", session=session)
        setattr(held, name, late.append)
        seen = b""
        async with asyncio.timeout(20):
            while True:
                poll = await rig.service.poll(
                    ME, session, after=after, limit=100, wait=0, compacted=False, epoch=None
                )
                after, seen = poll.position, seen + b"".join(poll.events)
                if b'"done"' in seen:
                    break
                if late:  # one commit at a time; the one with the `done` stays unannounced
                    deliver(late.pop(0))
        assert (poll.status, poll.done) == ("completed", True)
        described = await rig.get(session)
        assert (described["status"], described["turns"]) == ("completed", turn)
        assert await rig.watch(session, ReadFrom(after=after)) == []
        setattr(held, name, deliver)
        for done in late:
            deliver(done)
        late.clear()
    assert_sound(await rig.chunks(session))


async def test_a_queued_turn_can_be_awaited_in_a_session_whose_beginning_is_trimmed(
    rig: Rig, gate: Gate
) -> None:
    gate.say("one", turn=1)
    gate.end(turn=1)
    first = await rig.execute(agent="gate")
    done = await rig.result(first)
    session = first.session_id
    await start(rig, session, "reject")
    queued = await start(rig, session, "enqueue")
    await rig.log.trim(session, done["position"] + 1)
    watching = asyncio.create_task(rig.watch(session, ReadFrom(turn=queued.turn)))
    for turn in (2, 3):
        gate.say(f"said {turn}", turn=turn)
        gate.end(turn=turn)
    chunks = await watching
    assert [c["content"] for c in chunks if c["type"] == "text"] == ["said 3"]
