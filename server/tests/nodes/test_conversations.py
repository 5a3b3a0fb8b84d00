"""Messages, forks and the queue over several nodes: any node serves, one decides."""

from __future__ import annotations

import asyncio

import pytest
from resonantgenesis_server.log.base import stream_info
from resonantgenesis_server.model.errors import ApiError, Conflict, SessionNotFound
from resonantgenesis_server.sessions.state import control_stream

from ..sessions.agents import Scripted
from ..sessions.rig import ME, Rig, assert_sound
from ..sessions.test_forks import conversation, fork, said, talk
from ..sessions.test_steering import listening, messages_in, post
from .test_sessions import Open, kill, two, until

pytestmark = pytest.mark.anyio


async def is_kept(rig: Rig, session: str) -> bool:
    return await stream_info(rig.log, control_stream(session)) is not None


async def test_a_message_is_taken_where_the_turn_runs(nodes: Open) -> None:
    one, other = await two(nodes)
    one.agents["listening"] = Scripted(listening)
    ref = await one.execute(agent="listening")
    answers = await asyncio.gather(
        *(post(node, ref.session_id, "hi", message_id="m1") for node in (one, other) * 3)
    )
    assert {answer["turn"] for answer in answers} == {1}
    await post(other, ref.session_id, "stop")
    assert (await other.result(ref))["output"] == "I listen. hi stop"
    assert await messages_in(other, ref.session_id) == [("hi", True), ("stop", True)]
    with pytest.raises(Conflict):
        await post(other, ref.session_id, "late")


async def test_messages_of_a_dead_node_are_left(nodes: Open) -> None:
    one, other = await two(nodes)
    ref = await one.execute("x", agent="gate")
    await one.gate.begun()
    await post(other, ref.session_id, "hello?")
    await kill(one)
    assert (await other.result(ref, 20))["error"]["code"] == "RUNNER_LOST"
    assert await messages_in(other, ref.session_id) == [("hello?", False)]
    assert_sound(await other.chunks(ref.session_id))


async def test_the_queue_of_another_node(nodes: Open) -> None:
    one, other = await two(nodes)
    ref = await one.execute("x", agent="gate")
    session = ref.session_id
    refs = [
        await one.execute(goal, agent=None, session=session, if_busy="enqueue")
        for goal in ("second", "third")
    ]
    changed = other.service.conversations
    await changed.edit_queued(ME, session, 2, {"goal": "edited"})
    await changed.remove_queued(ME, session, 3)
    queued = await one.service.conversations.queue(ME, session)
    assert [(turn["turn"], turn["goal"]) for turn in queued] == [(2, "edited")]
    for turn in (1, 2):
        one.gate.end(turn)
    statuses = [(await other.result(each))["status"] for each in refs]
    assert statuses == ["success", "cancelled"]
    assert one.gate.turns[-1].goal == "edited"


async def test_a_fork_is_made_and_read_at_any_node(nodes: Open) -> None:
    one, other = await two(nodes)
    session = await talk(one, "one", "two")
    made = await fork(other, session, 1)
    assert await conversation(one, made) == said("one")
    await one.service.delete(ME, session)
    for node in (one, other):
        with pytest.raises(SessionNotFound):
            await node.get(session)
        assert await conversation(node, made) == said("one")
    await one.run("three", session=made)
    assert await conversation(other, made) == said("one", "three")
    await other.service.delete(ME, made)
    await until_gone(one, session)


async def until_gone(rig: Rig, session: str) -> None:
    async with asyncio.timeout(20):
        while await is_kept(rig, session):
            await asyncio.sleep(0.01)


async def test_a_fork_of_a_session_that_runs_elsewhere(nodes: Open) -> None:
    one, other = await two(nodes)
    session = await talk(one, "one")
    ref = await one.execute("x", agent=None, session=session)
    await one.result(ref)
    busy = await one.execute("y", agent="gate")
    one.gate.end()
    await one.result(busy)
    second = await one.execute("z", agent=None, session=busy.session_id)
    await one.gate.begun(2)
    made = await fork(other, busy.session_id)
    assert [goal for _, goal in await conversation(other, made)][:1] == ["y"]
    one.gate.end(2)
    await other.result(second)


async def test_a_deletion_and_a_fork_at_once_agree(nodes: Open) -> None:
    """Either there is no fork, or it shows what it begins with."""
    one, other = await two(nodes)
    outcomes: set[bool] = set()
    for number in range(12):
        session = await talk(one, "one")
        made: str | None = None

        async def forking(session: str = session, pause: int = number % 6) -> str | None:
            for _ in range(pause):
                await asyncio.sleep(0.001)
            try:
                return await fork(other, session, 1)
            except ApiError:
                return None

        made, _ = await asyncio.gather(forking(), one.service.delete(ME, session))
        outcomes.add(made is None)
        if made is not None:
            assert await conversation(one, made) == said("one")
            await other.service.delete(ME, made)
        await until_gone(one, session)
    await until(lambda: not one.rows.rows)
