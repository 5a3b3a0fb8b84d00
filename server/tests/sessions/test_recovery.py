"""After a crash, while draining, at the end."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace

import pytest
from resonantgenesis_server.model.chunks import Step, Text, Usage
from resonantgenesis_server.model.errors import Unavailable
from resonantgenesis_server.sessions import supervisor as supervisor_module
from resonantgenesis_server.sessions.range import ReadFrom

from .agents import Gate
from .failing import FailingLog
from .rig import Rig, assert_sound, kinds, text_of

pytestmark = pytest.mark.anyio


async def test_a_turn_whose_process_died_ends_with_runner_lost(rig: Rig, gate: Gate) -> None:
    ref = await rig.execute(agent="gate")
    session = ref.session_id
    gate.say("kept ", "and kept")
    await rig.until_head(session, 3)
    await rig.crash()
    assert await rig.open() == (1, 0)
    chunks = await rig.chunks(session)
    assert_sound(chunks)
    assert kinds(chunks) == ["step", "text", "text", "step", "error", "done"]
    error, done = chunks[-2:]
    assert (error["code"], error["retryable"]) == ("RUNNER_LOST", True)
    assert (done["status"], done["output"]) == ("failed", "kept and kept")
    described = await rig.get(session)
    assert (described["status"], described["output"]) == ("failed", "kept and kept")
    result = await rig.result(ref)
    assert (result["status"], result["error"]["code"]) == ("failed", "RUNNER_LOST")
    # A viewer goes on from where it was; the agent is not asked again.
    assert kinds(await rig.watch(session, ReadFrom(after=2))) == ["text", "step", "error", "done"]
    assert len(gate.turns) == 1
    assert (await rig.run("next", session=session, agent="gate", timeout_seconds=0.01))["turn"] == 2
    await rig.session_list.settle()
    assert rig.rows.rows[session].status == "timeout"


async def test_one_that_had_said_nothing(rig: Rig, gate: Gate) -> None:
    ref = await rig.execute(agent="gate")
    await gate.begun()
    await rig.crash()
    await rig.open()
    chunks = await rig.chunks(ref.session_id)
    assert kinds(chunks) == ["error", "done"]
    assert chunks[-1]["usage"] == {
        "input_tokens": 0, "output_tokens": 0, "steps": 0, "duration_ms": 0,
    }  # fmt: skip


async def test_its_steps_are_completed_and_counted_and_its_time_is_told(
    rig: Rig, gate: Gate
) -> None:
    ref = await rig.execute(agent="gate")
    session = ref.session_id
    gate.say(Step("plan"), Step("plan", "completed"), Step("outer"), Step("inner"), Usage(5, 6))
    await rig.until_head(session, 4)
    state = await rig.state(session)
    while time.time() < state.turns[0].started_at + 0.02:
        await asyncio.sleep(0.001)
    gate.say("last words")
    await rig.until_head(session, 5)
    await rig.crash()
    await rig.open()
    chunks = await rig.chunks(session)
    assert_sound(chunks)
    assert kinds(chunks[5:]) == ["step", "step", "error", "done"]
    inner, outer, _, done = chunks[5:]
    assert [(c["step"], c["name"], c["status"], c["finish_reason"]) for c in (inner, outer)] == [
        (3, "inner", "completed", "failed"), (2, "outer", "completed", "failed"),
    ]  # fmt: skip
    assert done["usage"].items() >= {"input_tokens": 0, "output_tokens": 0, "steps": 3}.items()
    assert done["usage"]["duration_ms"] >= outer["duration_ms"] >= inner["duration_ms"] > 0
    assert done["usage"]["duration_ms"] >= 20
    told = await rig.log.read("events:org", 0)
    completed = [json.loads(e.body)["data"] for e in told.entries if "step" in e.kind]
    assert [data["step"] for data in completed] == [1, 3, 2]
    assert (await rig.result(ref))["steps"] == 3


async def test_the_steps_and_the_text_of_a_sub_agent_stay_its_own(rig: Rig, gate: Gate) -> None:
    ref = await rig.execute(agent="gate")
    gate.say("kept", Step("look", agent_id="helper"), Text(" not kept", agent_id="helper"))
    await rig.until_head(ref.session_id, 4)
    await rig.crash()
    await rig.open()
    chunks = await rig.chunks(ref.session_id)
    look, answer, _, done = chunks[4:]
    assert [(end["name"], end.get("agent_id")) for end in (look, answer)] == [
        ("look", "helper"),
        ("answer", None),
    ]
    assert done["output"] == "kept"


async def test_what_waited_goes_on_and_what_was_withdrawn_ends(rig: Rig, gate: Gate) -> None:
    first = await rig.execute("1", agent="gate")
    session = first.session_id
    for n in (2, 3, 4):
        await rig.execute(
            str(n), session=session, agent="gate", if_busy="enqueue", context={"n": n}
        )
    await rig.cancel(session, 3)
    await gate.begun()
    await rig.crash()
    gate.say("two", turn=2)
    gate.end(turn=2)
    gate.say("four", turn=4)
    gate.end(turn=4)
    assert await rig.open() == (1, 1)
    chunks = await rig.watch(session, ReadFrom(after=0))
    assert_sound(chunks)
    done = {chunk["turn"]: chunk for chunk in chunks if chunk["type"] == "done"}
    assert [done[n]["status"] for n in (1, 2, 3, 4)] == [
        "failed", "success", "cancelled", "success",
    ]  # fmt: skip
    assert [turn.goal for turn in gate.turns] == ["1", "2", "4"]
    assert gate.turns[-1].context == {"n": 4}


async def test_twenty_sessions_at_once_and_a_crash_of_the_recovery(rig: Rig, gate: Gate) -> None:
    refs = [await rig.execute(agent="gate") for _ in range(20)]
    for _ in range(20):
        gate.say("word ")
    await asyncio.sleep(0.01)
    for _ in range(3):
        await rig.crash()
        await rig.open(sweep=False)
    lost, resumed = await rig.sweep()
    assert (lost, resumed) == (20, 0)
    for ref in refs:
        chunks = await rig.chunks(ref.session_id)
        assert_sound(chunks)
        assert kinds(chunks)[-2:] == ["error", "done"]
        assert chunks[-1]["output"] == text_of(chunks)
        assert not (await rig.state(ref.session_id)).open_turns
    assert rig.supervisor._active == {}
    assert await rig.log.pending() == []


async def test_a_huge_output_is_no_obstacle_to_the_start(rig: Rig, gate: Gate) -> None:
    """In characters it would be within the bound and in one append's bytes far beyond it."""
    ref = await rig.execute(agent="gate")
    gate.say("\x01" * 1_000_000)
    await rig.until_head(ref.session_id, 20)
    await rig.crash()
    assert await rig.open() == (1, 0)
    assert (await rig.result(ref))["error"]["code"] == "RUNNER_LOST"


async def test_an_orphan_that_cannot_be_closed_at_the_start_is_closed_later(
    rig: Rig, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "_SWEEP_SECONDS", 0.05)
    ref = await rig.execute(agent="gate")
    await gate.begun()
    await rig.crash()
    failing: list[FailingLog] = []

    def wrap(log: object) -> FailingLog:
        failing.append(FailingLog(log, writes=True))  # type: ignore[arg-type]
        return failing[0]

    assert await rig.open(wrap) == (1, 0)
    assert (await rig.get(ref.session_id))["status"] == "running"
    failing[0].heal()
    result = await rig.result(ref)
    assert (result["status"], result["error"]["code"]) == ("failed", "RUNNER_LOST")
    assert len(gate.turns) == 1


async def test_a_session_that_could_not_be_swept_is_closed_when_it_is_used(
    rig: Rig, gate: Gate
) -> None:
    ref = await rig.execute(agent="gate")
    await gate.begun()
    await rig.crash()
    await rig.open(sweep=False)  # as if its log could not be read then
    assert (await rig.get(ref.session_id))["status"] == "running"
    second = await rig.execute("2", session=ref.session_id, agent="gate", if_busy="enqueue")
    gate.end(turn=2)
    assert (await rig.result(ref))["error"]["code"] == "RUNNER_LOST"
    assert (await rig.result(second))["status"] == "success"
    assert [turn.turn for turn in gate.turns] == [1, 2]


async def test_a_process_that_was_replaced_writes_nothing_more(rig: Rig, gate: Gate) -> None:
    """Its fence is older: the session belongs to who came later."""
    ref = await rig.execute(agent="gate")
    gate.say("before")
    await rig.until_head(ref.session_id, 2)
    zombie = rig.supervisor, rig.log, rig.session_list
    other = Rig(rig.directory, rig.url)
    other.agents["gate"] = Gate()
    assert await other.open() == (1, 0)
    gate.say("from the grave")
    gate.end()
    async with asyncio.timeout(20):
        while zombie[0]._active:
            await asyncio.sleep(0.005)
    chunks = await other.chunks(ref.session_id)
    assert kinds(chunks) == ["step", "text", "step", "error", "done"]
    assert "grave" not in str(chunks)
    await other.close()


# -- drain ----------------------------------------------------------------------------------


async def test_drain_lets_turns_end_and_takes_no_new_ones(rig: Rig, gate: Gate) -> None:
    ref = await rig.execute(agent="gate")
    draining = asyncio.create_task(rig.supervisor.drain(10))
    while not rig.supervisor.draining:
        await asyncio.sleep(0)
    for call in (
        rig.execute("g"),
        rig.execute("g", session=ref.session_id, agent="gate", if_busy="enqueue"),
        rig.create(),
    ):
        with pytest.raises(Unavailable) as refused:
            await call
        assert refused.value.retry_after == 1
    gate.say("to the end")
    gate.end()
    await draining
    assert (await rig.result(ref))["output"] == "to the end"


async def test_drain_cancels_what_does_not_end_and_keeps_what_waits(rig: Rig, gate: Gate) -> None:
    refs = [await rig.execute(agent="gate"), await rig.execute(agent="stubborn")]
    gate.say("partial")
    for ref in refs:
        await rig.until_head(ref.session_id, 2)
    waiting = await rig.execute("w", session=refs[0].session_id, agent="gate", if_busy="enqueue")
    await rig.supervisor.drain(0.01)
    results = [await rig.result(ref) for ref in refs]
    assert [r["status"] for r in results] == ["cancelled", "cancelled"]
    assert [r["output"] for r in results] == ["partial", "on and on"]
    assert (await rig.result(waiting, 0))["status"] == "queued"
    await rig.close()
    gate.end(turn=2)
    assert await rig.open() == (0, 1)
    assert (await rig.result(waiting))["status"] == "success"


async def test_closing_leaves_no_task_and_what_ran_is_lost(rig: Rig, gate: Gate) -> None:
    rig.supervisor.limits = replace(rig.limits, disconnect_grace=60)
    refs = [await rig.execute(agent="gate", on_disconnect="cancel") for _ in range(5)]
    await gate.begun()
    await rig.close()
    assert not [task for task in rig.supervisor._tasks if not task.done()]
    assert await rig.open() == (5, 0)
    for ref in refs:
        assert (await rig.result(ref))["error"]["code"] == "RUNNER_LOST"


async def test_closing_tells_of_agents_that_cannot_be_ended(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "_CLOSE_SECONDS", 0.02)
    ref = await rig.execute(agent="stubborn")
    await rig.until_head(ref.session_id, 2)
    await rig.cancel(ref.session_id)
    assert (await rig.result(ref))["status"] == "cancelled"
    assert await rig.supervisor.close() == 1
    rig.stubborn.released = True
    assert await rig.supervisor.close() == 0


async def test_nothing_stays_in_memory_of_sessions_at_rest(rig: Rig) -> None:
    for _ in range(30):
        await rig.run("x")
    await asyncio.sleep(0.01)
    supervisor = rig.supervisor
    assert (supervisor._active, supervisor.states._pinned) == ({}, {})
    assert not supervisor._tasks
    assert not supervisor._requests
    assert not rig.hub.busy
    assert supervisor.running == 0
