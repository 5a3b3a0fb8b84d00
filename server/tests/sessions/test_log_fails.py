"""The log fails for a while, or takes an append and its answer is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from resonantgenesis_server.log.base import LogError, LogUnavailable
from resonantgenesis_server.log.sqlite.log import SqliteLog
from resonantgenesis_server.sessions import session as session_module
from resonantgenesis_server.sessions.range import ReadFrom
from resonantgenesis_server.sessions.state import control_stream

from .agents import Gate
from .failing import FailingLog
from .rig import Rig, assert_sound, kinds, text_of

pytestmark = pytest.mark.anyio


class Failing(Rig):
    failing: FailingLog

    def wrap(self, log: SqliteLog) -> FailingLog:
        self.failing = FailingLog(log)
        return self.failing


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Failing]:
    monkeypatch.setattr(session_module, "_RETRY_FIRST", 0.001)
    monkeypatch.setattr(session_module, "_RETRY_MAX", 0.01)
    made = Failing(tmp_path)
    await made.open(made.wrap)
    yield made
    made.failing.heal()
    await made.close()


async def test_in_mid_turn_it_ends_unavailable_once_the_log_is_back(
    rig: Failing, gate: Gate
) -> None:
    ref = await rig.execute(agent="gate")
    session = ref.session_id
    gate.say("stored ")
    await rig.until_head(session, 2)
    rig.failing.writes = True
    gate.say("lost ", "and lost")  # and then it is silent
    while rig.failing.refused < 5:  # the chunk, then the ending again and again
        await asyncio.sleep(0.001)
    assert (await rig.get(session))["status"] == "running"
    watching = asyncio.create_task(rig.watch(session, ReadFrom(after=0)))
    rig.failing.heal()
    result = await rig.result(ref)
    assert (result["status"], result["error"]["code"]) == ("failed", "UNAVAILABLE")
    assert result["error"]["retryable"] is True
    chunks = await watching
    assert_sound(chunks)
    # What `done` calls the output is what viewers were given, not what got lost.
    assert result["output"] == text_of(chunks) == "stored "
    # Nor does a step stay open.
    assert kinds(chunks) == ["step", "text", "step", "error", "done"]
    assert result["usage"]["steps"] == 1
    gate.end(turn=2)
    assert (await rig.run(session=session, agent="gate"))["status"] == "success"


async def test_a_chunk_whose_answer_was_lost_is_there_once(rig: Failing, gate: Gate) -> None:
    ref = await rig.execute(agent="gate")
    await gate.begun()
    rig.failing.streams = {ref.session_id}
    rig.failing.lost = 1
    gate.say("taken ", "refused")
    result = await rig.result(ref)
    assert result["error"]["code"] == "UNAVAILABLE"
    chunks = await rig.chunks(ref.session_id)
    assert_sound(chunks)
    assert kinds(chunks)[-2:] == ["error", "done"]
    assert result["output"] == text_of(chunks)
    gate.end(turn=2)
    assert (await rig.run(session=ref.session_id, agent="gate"))["status"] == "success"


async def test_an_ending_whose_answer_was_lost_is_there_once(rig: Failing, gate: Gate) -> None:
    ref = await rig.execute(agent="gate")
    session = ref.session_id
    second = await rig.execute("2", session=session, agent="gate", if_busy="enqueue")
    gate.say("all")
    await rig.until_head(session, 2)
    rig.failing.lost = 1
    gate.end()
    gate.end(turn=2)
    assert (await rig.result(ref))["status"] == "success"
    assert (await rig.result(second))["status"] == "success"
    chunks = await rig.chunks(session)
    assert_sound(chunks)
    assert kinds(chunks) == ["step", "text", "step", "done", "done"]


@pytest.mark.parametrize("lost", [1, 2, 3])
async def test_a_start_whose_answer_was_lost_is_run_and_the_repeat_joins_it(
    rig: Failing, gate: Gate, lost: int
) -> None:
    gate.say("said")
    gate.end()
    session = await rig.create("gate")
    rig.failing.lost = lost
    with pytest.raises(LogUnavailable):
        await rig.execute("g", session=session, agent="gate", key="k")
    again = await rig.execute("g", session=session, agent="gate", key="k")
    assert (again.turn, again.joined) == (1, True)
    rig.failing.heal()
    result = await rig.result(again)
    assert result["turn"] == 1
    assert result["status"] == ("success" if lost == 1 else result["status"])
    assert len(gate.turns) == 1
    assert_sound(await rig.chunks(session))
    gate.end(turn=2)
    assert (await rig.run("next", session=session, agent="gate"))["turn"] == 2


async def test_a_start_that_was_refused_leaves_nothing(rig: Failing, gate: Gate) -> None:
    session = await rig.create("gate")
    rig.failing.writes = True
    for _ in range(5):
        with pytest.raises(LogUnavailable):
            await rig.execute("g", session=session, agent="gate")
        with pytest.raises(LogError):
            await rig.execute("g", agent="gate")
    rig.failing.heal()
    async with asyncio.timeout(20):
        while rig.supervisor._active:
            await asyncio.sleep(0.001)
    assert gate.turns == []
    gate.end()
    assert (await rig.run("g", session=session, agent="gate"))["turn"] == 1


async def test_unreadable_too_and_nothing_is_kept_for_ever(rig: Failing, gate: Gate) -> None:
    """Sessions whose start failed do not pile up while nothing can be read or written."""
    session = await rig.create("gate")
    rig.failing.writes = rig.failing.reads = True
    for _ in range(10):
        for call in (rig.execute("g", agent="gate"), rig.execute("g", session=session)):
            with pytest.raises(LogError):
                await call
    async with asyncio.timeout(20):
        while rig.supervisor._active:
            await asyncio.sleep(0.001)
    rig.failing.heal()
    gate.end()
    assert (await rig.run("g", session=session, agent="gate"))["turn"] == 1


async def test_a_waiting_turn_is_not_lost_to_a_log_that_fails_meanwhile(
    rig: Failing, gate: Gate
) -> None:
    first = await rig.execute(agent="gate")
    session = first.session_id
    second = await rig.execute("2", session=session, agent="gate", if_busy="enqueue")
    await gate.begun()
    rig.failing.writes = True
    gate.end()
    while rig.failing.refused < 3:
        await asyncio.sleep(0.001)
    rig.failing.heal()
    gate.end(turn=2)
    assert (await rig.result(second))["status"] == "success"
    assert_sound(await rig.chunks(session))


async def test_a_begin_whose_answer_was_lost_runs_the_turn_once(rig: Failing, gate: Gate) -> None:
    first = await rig.execute(agent="gate")
    session = first.session_id
    second = await rig.execute("2", session=session, agent="gate", if_busy="enqueue")
    await gate.begun()
    begun = rig.supervisor._active[session]
    finish = begun._runner._begin

    async def begin(turn: object) -> None:
        rig.failing.streams = {control_stream(session)}
        rig.failing.lost = 1
        begun._runner._begin = finish  # type: ignore[method-assign]
        await finish(turn)  # type: ignore[arg-type]

    begun._runner._begin = begin  # type: ignore[method-assign,assignment]
    gate.end()
    gate.say("two", turn=2)
    gate.end(turn=2)
    result = await rig.result(second)
    assert (result["status"], result["output"]) == ("success", "two")
    assert rig.failing.refused == 1
    assert [turn.turn for turn in gate.turns] == [1, 2]
    assert_sound(await rig.chunks(session))


async def test_a_cancel_whose_answer_was_lost_takes_all_the_same(rig: Failing, gate: Gate) -> None:
    first = await rig.execute(agent="gate")
    session = first.session_id
    second = await rig.execute("2", session=session, agent="gate", if_busy="enqueue")
    rig.failing.streams = {control_stream(session)}
    rig.failing.lost = 1
    with pytest.raises(LogUnavailable):
        await rig.cancel(session, 2)
    assert (await rig.cancel(session, 2))["cancelled"] == []  # it is already
    gate.end()
    assert (await rig.result(second))["status"] == "cancelled"
    assert (await rig.result(first))["status"] == "success"


async def test_a_cancelled_turn_whose_words_are_refused_ends_as_cancelled(
    rig: Failing, gate: Gate
) -> None:
    ref = await rig.execute(agent="gate")
    gate.say("stored ")
    await rig.until_head(ref.session_id, 2)
    rig.failing.streams = {ref.session_id}
    rig.failing.writes = True
    gate.say("lost ")
    assert (await rig.cancel(ref.session_id))["cancelled"] == [1]
    while rig.failing.refused < 3:
        await asyncio.sleep(0.001)
    rig.failing.heal()
    result = await rig.result(ref)
    assert (result["status"], result["output"]) == ("cancelled", "stored ")
    chunks = await rig.chunks(ref.session_id)
    assert_sound(chunks)
    assert kinds(chunks) == ["step", "text", "step", "done"]


async def test_at_random_for_a_while(rig: Failing) -> None:
    """Answers lost and appends refused at any moment: no turn twice, none open for ever."""
    session = await rig.create()
    started = 0
    for n in range(60):
        rig.failing.lost = n % 3
        rig.failing.writes = n % 7 == 5
        try:
            await rig.execute(f"a b c {n}", session=session, if_busy="enqueue")
            started += 1
        except Exception as error:
            assert isinstance(error, LogError) or getattr(error, "code", "") == "SESSION_BUSY"
        for _ in range(n % 5):
            await asyncio.sleep(0.001)
        rig.failing.heal()
    state = await rig.state(session)
    async with asyncio.timeout(10):
        while (await rig.state(session)).open_turns or rig.supervisor._active:
            await asyncio.sleep(0.001)
    chunks = await rig.chunks(session)
    assert_sound(chunks)
    assert started >= 1
    done = [chunk for chunk in chunks if chunk["type"] == "done"]
    assert len(done) == len((await rig.state(session)).turns) >= started
    assert state.info is not None
