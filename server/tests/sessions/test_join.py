"""Where a stream starts and ends: PROTOCOL.md, section 4, "Position"."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from resonantgenesis_server.model.errors import (
    Conflict,
    InvalidRequest,
    PositionExpired,
    SessionNotFound,
)
from resonantgenesis_server.sessions.range import ReadFrom
from resonantgenesis_server.sessions.request import CreateSpec
from resonantgenesis_server.sessions.subscription import SessionSubscription

from .agents import Gate
from .rig import ME, Json, Rig, assert_sound, kinds, text_of

pytestmark = pytest.mark.anyio


async def talk(rig: Rig, turns: int = 2) -> str:
    """A session with this many turns of 6 chunks each: step, 3 texts, step, done."""
    session = await rig.create()
    for turn in range(1, turns + 1):
        await rig.run(f"a{turn} b{turn} c{turn}", session=session)
    return session


def places(chunks: list[Json]) -> list[int]:
    return [chunk["position"] for chunk in chunks]


async def view(rig: Rig, session: str, place: ReadFrom) -> SessionSubscription | None:
    return await rig.service.subscribe(ME, session, place)


async def test_without_a_place_the_last_turn_from_its_start(rig: Rig) -> None:
    session = await talk(rig)
    assert places(await rig.watch(session)) == [7, 8, 9, 10, 11, 12]


async def test_without_a_place_the_running_turn_from_its_start(rig: Rig, gate: Gate) -> None:
    session = await rig.create("gate")
    gate.end()
    await rig.run(session=session, agent="gate")
    ref = await rig.execute(session=session, agent="gate")
    gate.say("one", "two", turn=2)
    await rig.until_head(session, 3)
    watching = asyncio.create_task(rig.watch(session))
    gate.say("three", turn=2)
    gate.end(turn=2)
    chunks = await watching
    assert text_of(chunks) == "onetwothree"
    assert chunks[0]["turn"] == 2
    assert chunks[-1]["type"] == "done"
    await rig.result(ref)


@pytest.mark.parametrize("after", range(12))
async def test_after_any_place_everything_that_follows(rig: Rig, after: int) -> None:
    session = await talk(rig)
    assert places(await rig.watch(session, ReadFrom(after=after))) == list(range(after + 1, 13))


async def test_nothing_follows_and_nothing_runs(rig: Rig) -> None:
    session = await talk(rig)
    assert await view(rig, session, ReadFrom(after=12)) is None
    empty = await rig.create()
    assert await view(rig, empty, ReadFrom()) is None
    assert await view(rig, empty, ReadFrom(after=0)) is None
    assert await view(rig, empty, ReadFrom(follow=True)) is not None


async def test_beyond_the_end(rig: Rig) -> None:
    session = await talk(rig)
    for follow in (False, True):
        with pytest.raises(InvalidRequest):
            await view(rig, session, ReadFrom(after=13, follow=follow))
    with pytest.raises(InvalidRequest):
        await view(rig, await rig.create(), ReadFrom(after=1))


async def test_another_epoch(rig: Rig) -> None:
    session = await talk(rig)
    assert await view(rig, session, ReadFrom(after=3, epoch=rig.service.epoch)) is not None
    with pytest.raises(PositionExpired) as told:
        await view(rig, session, ReadFrom(after=3, epoch="another"))
    assert told.value.details == {"earliest": 1, "epoch": rig.service.epoch}


@pytest.mark.parametrize("turn", [1, 2, 3])
async def test_one_turn(rig: Rig, turn: int) -> None:
    session = await talk(rig, 3)
    first = 6 * turn - 5
    assert places(await rig.watch(session, ReadFrom(turn=turn))) == list(range(first, first + 6))
    inside = await rig.watch(session, ReadFrom(turn=turn, after=first + 1))
    assert places(inside) == list(range(first + 2, first + 6))
    assert await view(rig, session, ReadFrom(turn=turn, after=first + 5)) is None
    with pytest.raises(InvalidRequest):
        await view(rig, session, ReadFrom(turn=4))


async def test_a_view_ends_with_what_was_queued_last_when_it_caught_up(
    rig: Rig, gate: Gate
) -> None:
    first = await rig.execute(agent="gate")
    session = first.session_id
    await rig.execute("2", session=session, agent="gate", if_busy="enqueue")
    watching = asyncio.create_task(rig.watch(session))
    one = asyncio.create_task(rig.watch(session, ReadFrom(turn=1)))
    while rig.hub.readers(session) < 2:
        await asyncio.sleep(0)
    await gate.begun()
    await asyncio.sleep(0.02)  # it has read what is there, and waits
    await rig.execute("3", session=session, agent="gate", if_busy="enqueue")
    for turn in (1, 2, 3):
        gate.end(turn=turn)
    turns = [chunk["turn"] for chunk in await watching if chunk["type"] == "done"]
    assert turns == [1, 2]
    assert [chunk["turn"] for chunk in await one if chunk["type"] == "done"] == [1]


async def test_follow_stays_for_later_turns(rig: Rig) -> None:
    session = await rig.create()
    opened = await view(rig, session, ReadFrom(follow=True))
    assert opened is not None
    seen: list[int] = []

    async def watch() -> None:
        async for entries in opened.batches(5):
            seen.extend(entry.position for entry in entries)
            if len(seen) == 18:
                opened.stop()

    watching = asyncio.create_task(watch())
    for turn in range(3):
        await rig.run(f"a{turn} b{turn} c{turn}", session=session)
    await asyncio.wait_for(watching, 20)
    assert seen == list(range(1, 19))


async def test_a_queued_turn_by_number_waits_for_its_start(rig: Rig, gate: Gate) -> None:
    first = await rig.execute(agent="gate")
    session = first.session_id
    await rig.execute("2", session=session, agent="gate", if_busy="enqueue")
    opened = await view(rig, session, ReadFrom(turn=2))
    assert opened is not None
    batches = opened.batches(0.01)
    assert await anext(batches) == []  # a heartbeat while it waits
    assert await anext(batches) == []
    gate.say("first")
    gate.end()
    gate.say("second", turn=2)
    gate.end(turn=2)
    seen = [entry async for entries in batches for entry in entries]
    assert [entry.kind for entry in seen] == ["step", "message", "step", "done"]
    assert seen[0].position == 5
    await rig.result(first)


async def test_a_queued_turn_that_is_withdrawn_ends_its_view(rig: Rig, gate: Gate) -> None:
    first = await rig.execute(agent="gate")
    session = first.session_id
    await rig.execute("2", session=session, agent="gate", if_busy="enqueue")
    watching = asyncio.create_task(rig.watch(session, ReadFrom(turn=2)))
    while not rig.hub.readers(f"{session}/turns"):
        await asyncio.sleep(0)
    await rig.cancel(session, 2)
    gate.end()
    chunks = await watching
    assert kinds(chunks) == ["done"]
    assert (chunks[0]["turn"], chunks[0]["status"]) == (2, "cancelled")


async def test_any_number_of_viewers_see_the_same(rig: Rig, gate: Gate) -> None:
    ref = await rig.execute(agent="gate")
    session = ref.session_id
    viewers = []
    for n in range(60):
        gate.say(f"{n} ")
        if n % 3 == 0:
            compact = n % 2 == 0
            viewers.append(
                asyncio.create_task(rig.watch(session, ReadFrom(after=0, compact=compact)))
            )
        await asyncio.sleep(0)
    gate.end()
    expected = None
    for viewer in viewers:
        chunks = await viewer
        assert_sound(chunks)
        expected = expected or chunks
        assert chunks == expected
    assert text_of(expected or []) == "".join(f"{n} " for n in range(60))
    assert rig.hub.readers(session) == 0


# -- execute with resume_from ---------------------------------------------------------------


async def test_resume_from_without_a_session_is_refused_but_zero_starts(rig: Rig) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await rig.execute(resume_from=3)
    assert "resume_from" in refused.value.details["fields"]
    assert not (await rig.execute(resume_from=0)).joined


async def test_resume_from_with_a_session_joins_and_never_starts(rig: Rig, gate: Gate) -> None:
    ref = await rig.execute("the goal", agent="gate")
    session = ref.session_id
    for resume_from in (0, 1):
        joined = await rig.execute("the goal", session=session, resume_from=resume_from)
        assert (joined.turn, joined.joined, joined.resume_from) == (1, True, resume_from)
    with pytest.raises(Conflict):
        await rig.execute("another goal", session=session, resume_from=1)
    gate.end()
    await rig.result(ref)
    assert (await rig.execute("the goal", session=session, resume_from=2)).turn == 1
    assert len((await rig.state(session)).turns) == 1
    with pytest.raises(InvalidRequest):
        await rig.execute("the goal", session=await rig.create(), resume_from=0)


async def test_resume_from_with_a_known_key_joins_that_turn(rig: Rig) -> None:
    ref = await rig.execute("go", key="k")
    await rig.result(ref)
    await rig.run("later", session=ref.session_id)
    joined = await rig.execute("go", key="k", resume_from=2)
    assert (joined.session_id, joined.turn) == (ref.session_id, 1)
    chunks = await rig.watch(ref.session_id, ReadFrom(after=2, turn=joined.turn))
    assert (kinds(chunks)[-1], chunks[0]["position"]) == ("done", 3)


async def test_what_does_not_fit_the_session(rig: Rig) -> None:
    session = await rig.create()
    with pytest.raises(InvalidRequest):
        await rig.execute("g", agent="gate", session=session)
    with pytest.raises(InvalidRequest):
        await rig.execute("g", session=session, subject="anna")
    with pytest.raises(InvalidRequest):
        await rig.execute("g", agent=None)


# -- who may see what -----------------------------------------------------------------------


async def test_what_is_not_the_callers_does_not_exist(rig: Rig) -> None:
    anna = replace(ME, subject="anna")
    session = await rig.create(who=anna)
    ref = await rig.execute("g", session=session, who=anna)
    await rig.result(ref)
    assert (await rig.get(session))["subject"] == "anna"  # the organization's key sees it
    for stranger in (
        replace(ME, organization_id="other"),
        replace(ME, subject="ben"),
        replace(anna, session_id="sess_other"),
        replace(anna, agent_id="gate"),
    ):
        calls = [
            rig.service.get(stranger, session),
            rig.service.subscribe(stranger, session, ReadFrom()),
            rig.service.cancel(stranger, session, None),
            rig.service.delete(stranger, session),
            rig.service.steps(stranger, session, turn=None, after=0, limit=5),
            rig.execute("g", session=session, who=stranger),
            rig.service.poll(
                stranger, session, after=0, limit=5, wait=0, compacted=False, epoch=None
            ),
        ]
        for call in calls:
            with pytest.raises(SessionNotFound) as refused:
                await call
            assert refused.value.message == "no such session"
    with pytest.raises(SessionNotFound, match="no such session"):
        await rig.service.get(ME, "../etc/passwd")


async def test_a_bound_token_makes_only_what_it_is_bound_to(rig: Rig, gate: Gate) -> None:
    session = await rig.create()
    bound = [
        (replace(ME, session_id=session), CreateSpec("echo")),
        (replace(ME, agent_id="gate"), CreateSpec("echo")),
        (replace(ME, subject="anna"), CreateSpec("echo", subject="ben")),
    ]
    for who, spec in bound:
        with pytest.raises(Exception, match="this token is bound"):
            await rig.service.create(who, spec, request_id="r")
    made = await rig.service.create(replace(ME, subject="anna"), CreateSpec("echo"), request_id="r")
    assert made["subject"] == "anna"
