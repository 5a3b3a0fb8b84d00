"""Turns beyond an agent's own number wait: durably, in order, and nobody's turn for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from resonantgenesis_server.sessions.agent_slots import AgentSlots, SlotTicket

from .agents import Gate
from .rig import Rig, assert_sound, kinds

pytestmark = pytest.mark.anyio


@pytest.fixture
def one(rig: Rig) -> Rig:
    rig.defaults = {"concurrency": 1}
    return rig


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.005)


async def test_a_turn_beyond_the_number_waits_and_then_runs(one: Rig, gate: Gate) -> None:
    first = await one.execute("first", agent="gate")
    await gate.begun()
    second = await one.execute("second", agent="gate")
    watching = asyncio.create_task(one.watch(second.session_id))
    assert (await one.get(second.session_id))["status"] == "queued"
    gate.end()
    assert (await one.result(first))["status"] == "success"
    await until(lambda: len(gate.turns) == 2)
    gate.say("at last")
    gate.end()
    assert (await one.result(second))["output"] == "at last"
    chunks = await watching
    assert_sound(chunks)
    assert kinds(chunks) == ["step", "text", "step", "done"]


async def test_one_that_waits_can_be_cancelled_and_gives_its_place_back(
    one: Rig, gate: Gate
) -> None:
    first = await one.execute("first", agent="gate")
    await gate.begun()
    second = await one.execute("second", agent="gate")
    third = await one.execute("third", agent="gate")
    assert (await one.cancel(second.session_id))["cancelled"] == [1]
    assert (await one.result(second))["status"] == "cancelled"
    gate.end()
    gate.end()
    assert [(await one.result(ref))["status"] for ref in (first, third)] == ["success"] * 2
    assert [turn.goal for turn in gate.turns] == ["first", "third"]


async def test_it_waits_over_a_crash(one: Rig, gate: Gate) -> None:
    await one.execute("first", agent="gate")
    await gate.begun()
    second = await one.execute("second", agent="gate")
    await one.crash()
    assert await one.open() == (1, 1)
    gate.end()
    assert (await one.result(second))["status"] == "success"


async def test_a_drain_does_not_wait_for_it(one: Rig, gate: Gate) -> None:
    first = await one.execute("first", agent="gate")
    await gate.begun()
    second = await one.execute("second", agent="gate")
    async with asyncio.timeout(10):
        await one.supervisor.drain(0.05)
    assert (await one.result(first))["status"] == "cancelled"
    assert (await one.get(second.session_id))["status"] == "queued"
    assert len(gate.turns) == 1


async def test_turns_of_one_session_wait_behind_each_other_alone(one: Rig, gate: Gate) -> None:
    first = await one.execute("first", agent="gate")
    await gate.begun()
    queued = await one.execute("next", agent="gate", session=first.session_id, if_busy="enqueue")
    gate.end()
    gate.end(turn=2)
    assert (await one.result(queued))["status"] == "success"


def test_slots_go_round_among_the_owners() -> None:
    slots = AgentSlots()
    granted: list[str] = []

    def ask(name: str, owner: str) -> SlotTicket:
        return slots.ask(("a",), 1, owner, lambda: granted.append(name))

    tickets = {name: ask(name, name[0]) for name in ("x1", "x2", "x3", "y1", "y2", "z1")}
    tickets["y1"].leave()  # it waits no more
    for _ in range(5):
        tickets[granted[-1]].leave()
    assert granted == ["x1", "x2", "y2", "z1", "x3"]
    assert slots._lines == {}


def test_a_higher_number_lets_more_in() -> None:
    slots = AgentSlots()
    first, second = (slots.ask(("a",), 1, "x", lambda: None) for _ in range(2))
    assert (first.has_slot, second.has_slot) == (True, False)
    third = slots.ask(("a",), 3, "x", lambda: None)
    assert second.has_slot and third.has_slot
