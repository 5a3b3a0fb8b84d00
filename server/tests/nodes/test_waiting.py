"""Turns that wait, over several nodes: answered anywhere, whoever has died."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from resonantgenesis_server.model.errors import Conflict
from resonantgenesis_server.sessions import agent_run
from resonantgenesis_server.sessions.range import ReadFrom

from ..sessions.rig import Rig, assert_sound, kinds
from ..sessions.test_waiting import Refunds
from .test_sessions import kill, two

pytestmark = pytest.mark.anyio
Open = Callable[..., Awaitable[Rig]]


def refunds_on(*nodes: Rig) -> list[Refunds]:
    made = [Refunds() for _ in nodes]
    for node, agent in zip(nodes, made, strict=True):
        node.agents["refunds"] = agent
    return made


async def test_the_answer_comes_to_any_node_while_one_holds_the_turn(nodes: Open) -> None:
    one, other = await two(nodes)
    here, there = refunds_on(one, other)
    ref = await one.execute(agent="refunds")
    seen = await other.watch(ref.session_id)
    assert kinds(seen)[-1] == "waiting"
    assert (await other.get(ref.session_id))["waiting"][0]["call_id"] == "call_refund"
    watching = asyncio.create_task(
        other.watch(ref.session_id, ReadFrom(after=seen[-1]["position"], follow=False))
    )
    assert await watching == []
    given = await other.input(ref.session_id, "call_refund", approved=True)
    assert given["turn"] == 1
    assert (await other.result(ref))["output"] == "Looking. Paid."
    assert_sound(await one.chunks(ref.session_id))
    assert (here.paid, there.paid, there.runs) == ([7], [], 0)
    await other.input(ref.session_id, "call_refund", approved=True)
    with pytest.raises(Conflict):
        await one.input(ref.session_id, "call_refund", approved=False)


async def test_whoever_gets_the_answer_goes_on_with_a_turn_that_nobody_holds(
    nodes: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_run, "HOLD_SECONDS", 0.0)
    one, other = await two(nodes)
    here, there = refunds_on(one, other)
    ref = await one.execute(agent="refunds")
    async with asyncio.timeout(20):
        while not (await other.state(ref.session_id)).rests:
            await asyncio.sleep(0.01)
    await other.input(ref.session_id, "call_refund", approved=True)
    assert (await one.result(ref))["output"] == "Looking. Paid."
    assert (here.paid, there.paid) == ([], [7])
    assert_sound(await one.chunks(ref.session_id))


async def test_the_node_that_held_it_has_died(nodes: Open) -> None:
    one, other = await two(nodes)
    here, there = refunds_on(one, other)
    ref = await one.execute(agent="refunds")
    await other.watch(ref.session_id)
    await kill(one)
    await other.input(ref.session_id, "call_refund", approved=True)
    assert (await other.result(ref, 30))["output"] == "Looking. Paid."
    chunks = await other.chunks(ref.session_id)
    assert_sound(chunks)
    assert kinds(chunks).count("tool_call") == 1
    assert (here.paid, there.paid) == ([], [7])


async def test_two_nodes_answer_at_once(nodes: Open) -> None:
    one, other = await two(nodes)
    refunds_on(one, other)
    ref = await one.execute(agent="refunds")
    await one.watch(ref.session_id)
    answers = await asyncio.gather(
        one.input(ref.session_id, "call_refund", approved=True),
        other.input(ref.session_id, "call_refund", approved=False),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, Conflict) for answer in answers) == 1
    await other.result(ref)
    chunks = await other.chunks(ref.session_id)
    assert_sound(chunks)
    assert kinds(chunks).count("input") == 1
