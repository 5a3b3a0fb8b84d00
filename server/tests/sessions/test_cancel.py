"""Cancelling, from anywhere, at any moment."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from resonantgenesis_server.agents.base import Turn
from resonantgenesis_server.agents.engines.python import PythonAgent
from resonantgenesis_server.log.sqlite.log import SqliteLog
from resonantgenesis_server.model.chunks import AgentChunk
from resonantgenesis_server.model.errors import (
    AgentNotFound,
    NotFound,
    SessionBusy,
    SessionNotFound,
)
from resonantgenesis_server.sessions.agent_run import AgentRun
from resonantgenesis_server.sessions.chunks import TurnOutcome
from resonantgenesis_server.sessions.range import ReadFrom
from resonantgenesis_server.sessions.state import control_stream
from structlog.testing import capture_logs

from .agents import Gate, Scripted
from .failing import FailingLog
from .rig import ME, Rig, assert_sound, kinds

pytestmark = pytest.mark.anyio

#: PROTOCOL.md, section 4: the `done` is out within so many seconds; and what a busy machine may
#: add, less than the agents go on for.
PROMISED, ALLOWANCE = 1.0, 0.7


async def test_an_agent_that_stops(rig: Rig, gate: Gate) -> None:
    gate.say("partial")
    ref = await rig.execute(agent="gate")
    await rig.until_head(ref.session_id, 2)
    assert (await rig.cancel(ref.session_id))["cancelled"] == [1]
    result = await rig.result(ref)
    assert (result["status"], result["output"]) == ("cancelled", "partial")
    assert "error" not in result
    chunks = await rig.chunks(ref.session_id)
    assert kinds(chunks) == ["step", "text", "step", "done"]
    assert (chunks[2]["status"], chunks[2]["finish_reason"]) == ("completed", "cancelled")
    assert gate.cancelled == [1]
    assert (await rig.get(ref.session_id))["status"] == "cancelled"


async def test_an_agent_that_fails_as_it_is_cancelled_is_in_the_log(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[AgentRun] = []
    run = AgentRun.run

    async def noted(turn: AgentRun) -> TurnOutcome:
        turns.append(turn)
        return await run(turn)

    async def agent(_turn: Turn) -> AsyncIterator[str]:
        yield "half"
        assert turns[0].cancel()
        raise ValueError("broken")

    monkeypatch.setattr(AgentRun, "run", noted)
    rig.agents["failing"] = PythonAgent("test:agent", agent)
    with capture_logs() as logs:
        result = await rig.result(await rig.execute(agent="failing"))
    assert (result["status"], result["output"]) == ("cancelled", "half")
    assert "error" not in result
    assert [log["agent"] for log in logs if log["event"] == "agent failed"] == ["failing"]


def blocking(released: threading.Event) -> PythonAgent:
    def agent(_turn: Turn) -> Iterator[str]:
        yield "before the sleep"
        released.wait(30)
        yield "too late"

    return PythonAgent("test:agent", agent)


@pytest.mark.parametrize("agent", ["stubborn", "shielded", "blocking"])
async def test_an_agent_that_ignores_it_is_left_behind_in_time(rig: Rig, agent: str) -> None:
    released = threading.Event()
    rig.agents["blocking"] = blocking(released)
    others = [await rig.execute("a b c " * 300) for _ in range(5)]
    ref = await rig.execute(agent=agent)
    await rig.until_head(ref.session_id, 2)
    began = time.monotonic()
    await rig.cancel(ref.session_id)
    result = await rig.result(ref)
    assert time.monotonic() - began < PROMISED + ALLOWANCE
    assert result["status"] == "cancelled"
    assert result["output"]
    # The session goes on at once, the others never noticed.
    assert (await rig.run("again", agent=agent, session=ref.session_id, timeout_seconds=0.01))[
        "status"
    ] == "timeout"
    for other in others:
        assert (await rig.result(other))["status"] == "success"
    released.set()
    for _ in range(20):
        await asyncio.sleep(0.005)
    chunks = await rig.chunks(ref.session_id)
    assert_sound(chunks)
    assert "too late" not in str(chunks)
    if agent != "blocking":
        assert [t for t in rig.supervisor._tasks if not t.done()], "an agent without owner"


async def test_before_the_agent_was_asked_it_is_not_asked(rig: Rig, gate: Gate) -> None:
    """The cancel wins a race with the start: here it arrives while the turn is prepared."""
    resolve = rig.resolve
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def held(organization_id: str, agent_id: str) -> object:
        if rig.supervisor._active and not go_on.is_set():
            reached.set()
            await go_on.wait()
        return await resolve(organization_id, agent_id)

    rig.resolve = held  # type: ignore[method-assign,assignment]
    ref = await rig.execute(agent="gate")
    await reached.wait()
    assert (await rig.cancel(ref.session_id))["cancelled"] == [1]
    go_on.set()
    assert (await rig.result(ref))["status"] == "cancelled"
    assert gate.turns == []
    assert kinds(await rig.chunks(ref.session_id)) == ["done"]


async def test_racing_with_start_and_end_there_is_one_done_and_one_truth(rig: Rig) -> None:
    async def wordy(turn: Turn) -> AsyncIterator[str]:
        for word in turn.goal.split():
            await asyncio.sleep(0)
            yield word

    rig.agents["wordy"] = PythonAgent("test:wordy", wordy)
    statuses = set()
    for n in range(120):
        ref = await rig.execute("a " * (n % 7), agent="wordy")
        for _ in range(n % 12):
            await asyncio.sleep(0)
        answers = await asyncio.gather(*(rig.cancel(ref.session_id) for _ in range(2)))
        result = await rig.result(ref)
        statuses.add(result["status"])
        said = [answer["cancelled"] for answer in answers]
        assert all(one in ([1], []) for one in said)
        # Who is told that it is cancelled finds it so, and who finds it so was told.
        assert ([1] in said) is (result["status"] == "cancelled"), (n, said, result["status"])
        chunks = await rig.chunks(ref.session_id)
        assert_sound(chunks)
        assert kinds(chunks).count("done") == 1
        assert (
            chunks[-1]["status"]
            == result["status"]
            == (await rig.state(ref.session_id)).turns[0].status
        )
    assert statuses == {"cancelled", "success"}


async def test_what_is_answered_is_what_the_log_says_of_many_turns_at_once(rig: Rig) -> None:
    """Queues of turns, each cancelled alone, with the others, by its key or by an interrupt."""

    async def hasty(turn: Turn) -> AsyncIterator[str]:
        for _ in range(len(turn.goal)):
            await asyncio.sleep(0)
            yield "word "

    rig.agents["hasty"] = PythonAgent("test:hasty", hasty)
    kinds_of_end = set()

    async def one_session(seed: int) -> None:
        random = Random(seed)
        first = await rig.execute("x" * random.randrange(4), agent="hasty", key=f"{seed}-1")
        session, told, interrupts = first.session_id, set[int](), False

        async def cancel(turn: int | None, key: str | None) -> None:
            for _ in range(random.randrange(20)):
                await asyncio.sleep(0)
            if key is None:
                told.update((await rig.cancel(session, turn))["cancelled"])
            else:
                told.update((await rig.service.cancel_by_key(ME, key))["cancelled"])

        count, cancels = 1, [cancel(1, None)]
        for _ in range(random.randrange(4)):
            busy = random.choice(("enqueue", "enqueue", "interrupt"))
            interrupts |= busy == "interrupt"
            goal = "x" * random.randrange(4)
            count += 1
            await rig.execute(
                goal, session=session, agent="hasty", if_busy=busy, key=f"{seed}-{count}"
            )
            turn = random.randrange(1, count + 1)
            cancels.append(cancel(*random.choice([(turn, None), (None, f"{seed}-{turn}")])))
        if random.random() < 0.3:
            cancels.append(cancel(None, None))
        await asyncio.gather(*cancels)
        await rig.watch(session, ReadFrom(after=0))
        ends = {t.turn: t.status for t in (await rig.state(session)).turns}
        kinds_of_end.update(ends.values())
        cancelled = {turn for turn, status in ends.items() if status == "cancelled"}
        assert told <= cancelled, (seed, told, ends)
        assert interrupts or told == cancelled, (seed, told, ends)
        chunks = await rig.chunks(session)
        assert_sound(chunks)
        assert {c["turn"]: c["status"] for c in chunks if c["type"] == "done"} == ends

    for start in range(0, 120, 20):
        await asyncio.gather(*(one_session(seed) for seed in range(start, start + 20)))
    assert kinds_of_end == {"cancelled", "success"}


async def test_one_that_comes_while_the_done_is_on_its_way_is_told_that_it_comes_too_late(
    tmp_path: Path, gate: Gate
) -> None:
    rig = Rig(tmp_path)
    rig.agents["gate"] = gate
    failing: list[FailingLog] = []

    def wrap(log: SqliteLog) -> FailingLog:
        failing.append(FailingLog(log))
        return failing[0]

    await rig.open(wrap)
    ref = await rig.execute(agent="gate")
    await gate.begun()
    failing[0].writes = True
    failing[0].streams = {control_stream(ref.session_id)}
    gate.end()
    while not failing[0].refused:
        await asyncio.sleep(0.001)
    for turn in (None, 1):
        answer = await rig.cancel(ref.session_id, turn)
        assert (answer["cancelled"], answer["status"]) == ([], "running")
    failing[0].heal()
    assert (await rig.result(ref))["status"] == "success"
    await rig.close()


async def test_one_that_was_answered_holds_though_the_agent_is_gone(rig: Rig, gate: Gate) -> None:
    resolve = rig.resolve
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def gone(organization_id: str, agent_id: str) -> object:
        if not rig.supervisor._active:
            return await resolve(organization_id, agent_id)
        reached.set()
        await go_on.wait()
        raise AgentNotFound("no such agent")

    rig.resolve = gone  # type: ignore[method-assign,assignment]
    ref = await rig.execute(agent="gate")
    await reached.wait()
    assert (await rig.cancel(ref.session_id))["cancelled"] == [1]
    go_on.set()
    result = await rig.result(ref)
    assert (result["status"], result.get("error")) == ("cancelled", None)


async def test_one_that_was_answered_holds_over_a_crash(rig: Rig) -> None:
    rig.supervisor.limits = replace(rig.limits, cancel_grace=5)  # the agent ignores it so long
    ref = await rig.execute(agent="stubborn")
    await rig.until_head(ref.session_id, 2)
    assert (await rig.cancel(ref.session_id))["cancelled"] == [1]
    assert (await rig.cancel(ref.session_id, 1))["cancelled"] == [1]
    await rig.crash()
    rig.stubborn.released = True
    await rig.open()
    result = await rig.result(ref)
    assert (result["status"], result["output"]) == ("cancelled", "on and on")
    assert "error" not in result
    chunks = await rig.chunks(ref.session_id)
    assert_sound(chunks)
    assert kinds(chunks) == ["step", "text", "step", "done"]
    assert (chunks[2]["status"], chunks[2]["finish_reason"]) == ("completed", "cancelled")
    assert (await rig.get(ref.session_id))["status"] == "cancelled"


async def test_idle_or_twice_is_no_error(rig: Rig, gate: Gate) -> None:
    session = await rig.create("gate")
    assert (await rig.cancel(session))["cancelled"] == []
    ref = await rig.execute(agent="gate", session=session)
    first, second = await asyncio.gather(rig.cancel(session), rig.cancel(session))
    assert first["cancelled"] == second["cancelled"] == [1]
    await rig.result(ref)
    answer = await rig.cancel(session)
    assert (answer["cancelled"], answer["status"]) == ([], "cancelled")
    assert (await rig.cancel(session, 1))["cancelled"] == []
    with pytest.raises(NotFound):
        await rig.cancel(session, 2)
    with pytest.raises(SessionNotFound):
        await rig.cancel("sess_nowhere")


async def test_of_a_queued_turn_leaves_the_running_one(rig: Rig, gate: Gate) -> None:
    first = await rig.execute(agent="gate")
    session = first.session_id
    second = await rig.execute("2", session=session, agent="gate", if_busy="enqueue")
    third = await rig.execute("3", session=session, agent="gate", if_busy="enqueue")
    assert (await rig.cancel(session, 2))["cancelled"] == [2]
    gate.say("one")
    gate.end()
    gate.say("three", turn=3)
    gate.end(turn=3)
    assert [(await rig.result(ref))["status"] for ref in (first, second, third)] == [
        "success", "cancelled", "success",
    ]  # fmt: skip
    chunks = await rig.chunks(session)
    assert_sound(chunks)
    assert [turn.goal for turn in gate.turns] == ["a goal", "3"]


async def test_of_all_leaves_none(rig: Rig, gate: Gate) -> None:
    first = await rig.execute(agent="gate")
    session = first.session_id
    refs = [first] + [
        await rig.execute(str(n), session=session, agent="gate", if_busy="enqueue")
        for n in range(2, 6)
    ]
    assert (await rig.cancel(session))["cancelled"] == [1, 2, 3, 4, 5]
    # What was cancelled keeps nobody from starting, though the last `done` are still to come.
    await rig.result(first)
    after = await rig.execute("after", session=session, agent="gate")
    gate.end(turn=6)
    assert [(await rig.result(ref))["status"] for ref in refs] == ["cancelled"] * 5
    assert (await rig.result(after))["status"] == "success"
    chunks = await rig.chunks(session)
    assert_sound(chunks)
    assert len(gate.turns) == 2


async def test_by_the_key_of_a_turn_that_is_just_being_started(rig: Rig, gate: Gate) -> None:
    """Whoever never got an answer may cancel before the turn is recorded, and the key stays."""
    for n in range(20):
        key = f"key-{n}"
        start = asyncio.create_task(rig.execute(agent="gate", key=key))
        for _ in range(n):
            await asyncio.sleep(0)
        answer = None
        while answer is None:
            try:
                answer = await rig.service.cancel_by_key(ME, key)
            except NotFound:  # it was not even claimed yet
                await asyncio.sleep(0)
        ref = await start
        assert answer["session_id"] == ref.session_id
        assert (await rig.result(ref))["status"] == "cancelled"
        again = await rig.execute(agent="gate", key=key)
        assert (again.session_id, again.joined) == (ref.session_id, True)


async def test_cancelled_turns_that_wait_for_their_done_stay_in_bounds(
    rig: Rig, gate: Gate
) -> None:
    first = await rig.execute(agent="gate")
    session = first.session_id
    started = []
    for _ in range(100):
        try:
            ref = await rig.execute("x", session=session, agent="gate", if_busy="enqueue")
        except SessionBusy:
            break
        started.append(ref)
        await rig.cancel(session, ref.turn)
    assert len(started) == 31
    gate.end()
    for ref in started:
        assert (await rig.result(ref))["status"] == "cancelled"
    assert_sound(await rig.chunks(session))
    assert (await rig.result(first))["status"] == "success"


# -- nobody is watching --------------------------------------------------------------------


async def test_on_disconnect_cancels_after_the_grace(rig: Rig, gate: Gate) -> None:
    ref = await rig.execute(agent="gate", on_disconnect="cancel")
    await gate.begun()
    async with asyncio.timeout(20):
        while not (await rig.state(ref.session_id)).turns[0].last:
            await asyncio.sleep(0.01)
    assert (await rig.result(ref))["status"] == "cancelled"


async def test_who_waits_for_the_answer_counts_as_watching(rig: Rig, gate: Gate) -> None:
    ref = await rig.execute(agent="gate", on_disconnect="cancel")
    waiting = asyncio.create_task(rig.result(ref, 20))
    for _ in range(8):
        await asyncio.sleep(0.06)  # more than twice the grace
    assert not waiting.done()
    gate.end()
    assert (await waiting)["status"] == "success"


async def test_who_polls_a_busy_stream_counts_as_watching(rig: Rig) -> None:
    """There is always something to answer with, so a poll never waits and never registers."""

    # Time enough for a busy machine between two polls; the turn goes on for twice as long.
    grace = 1.0
    rig.supervisor.limits = replace(rig.limits, disconnect_grace=grace)

    async def script(_turn: Turn) -> AsyncIterator[AgentChunk]:
        began = time.monotonic()
        while time.monotonic() - began < 2 * grace:
            yield "word "
            await asyncio.sleep(0.005)

    rig.agents["slow"] = Scripted(script)
    ref = await rig.execute(agent="slow", on_disconnect="cancel")
    after, done = 0, False
    while not done:
        poll = await rig.service.poll(
            ME, ref.session_id, after=after, limit=1, wait=0, compacted=False, epoch=None
        )
        after, done = poll.position, poll.done
        await asyncio.sleep(0.002)
    assert (await rig.result(ref))["status"] == "success"


async def test_by_default_nobody_has_to_watch(rig: Rig, gate: Gate) -> None:
    ref = await rig.execute(agent="gate")
    for _ in range(6):
        await asyncio.sleep(0.06)
    gate.end()
    assert (await rig.result(ref))["status"] == "success"
