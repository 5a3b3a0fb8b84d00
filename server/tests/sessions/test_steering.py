"""Messages to an open turn, regeneration of the last one, and changes of the queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from resonantgenesis_server.agents.base import Turn
from resonantgenesis_server.model.chunks import AgentChunk, Step, ToolCall, ToolResult
from resonantgenesis_server.model.errors import Conflict, NotFound, PayloadTooLarge
from resonantgenesis_server.sessions import agent_run, steering

from .agents import Gate, Scripted
from .rig import ME, Rig, assert_sound

pytestmark = pytest.mark.anyio
Json = dict[str, Any]


async def post(rig: Rig, session: str, content: str, **named: Any) -> Json:
    return await rig.service.conversations.post(ME, session, content, **named)


async def messages_in(rig: Rig, session: str) -> list[tuple[str, bool]]:
    chunks = await rig.chunks(session)
    return [(c["content"], c["taken"]) for c in chunks if c["type"] == "user_message"]


async def listening(turn: Turn) -> AsyncIterator[AgentChunk]:
    """Repeats what it is told until it is told to stop."""
    yield "I listen."
    while True:
        for message in await turn.inbox.wait():
            yield f" {message.content}"
            if message.content == "stop":
                return


# -- messages to the running turn ----------------------------------------------------------


async def test_a_message_is_taken_by_the_running_turn(rig: Rig) -> None:
    rig.agents["listening"] = Scripted(listening)
    ref = await rig.execute(agent="listening")
    posted = await post(rig, ref.session_id, "hello")
    assert posted["turn"] == 1
    await post(rig, ref.session_id, "stop")
    result = await rig.result(ref)
    assert result["output"] == "I listen. hello stop"
    chunks = await rig.chunks(ref.session_id)
    assert_sound(chunks)
    shown = [c for c in chunks if c["type"] == "user_message"]
    assert [c["content"] for c in shown] == ["hello", "stop"]
    assert shown[0]["message_id"] == posted["message_id"]
    assert all(c["taken"] for c in shown)
    # It stands before what the agent says about it.
    text = next(c for c in chunks if c.get("content") == " hello")
    assert shown[0]["position"] < text["position"]


async def test_a_message_that_nobody_takes_is_left_for_the_next_turn(rig: Rig, gate: Gate) -> None:
    ref = await rig.execute(agent="gate")
    await gate.begun()
    gate.say("text")
    await post(rig, ref.session_id, "are you there?")
    gate.end()
    await rig.result(ref)
    assert await messages_in(rig, ref.session_id) == [("are you there?", False)]
    chunks = await rig.chunks(ref.session_id)
    assert_sound(chunks)
    assert chunks[-1]["type"] == "done"
    gate.end(turn=2)
    await rig.run(agent="gate", session=ref.session_id)
    assert [past.left for past in gate.turns[1].history] == [("are you there?",)]


async def test_a_failed_turn_keeps_its_error_before_the_done(rig: Rig, gate: Gate) -> None:
    ref = await rig.execute(agent="gate")
    await gate.begun()
    await post(rig, ref.session_id, "left")
    gate.say(RuntimeError("no"))
    result = await rig.result(ref)
    assert result["error"]["code"] == "AGENT_FAILED"
    types = [c["type"] for c in await rig.chunks(ref.session_id)]
    assert types[-3:] == ["user_message", "error", "done"]


async def test_a_message_to_a_queued_turn_waits_for_it(rig: Rig, gate: Gate) -> None:
    """Once the running turn has ended, the next one is the open one."""
    rig.agents["listening"] = Scripted(listening)
    ref = await rig.execute(agent="listening")
    second = await rig.execute(agent=None, session=ref.session_id, if_busy="enqueue")
    await post(rig, ref.session_id, "stop")
    await rig.result(ref)
    assert (await post(rig, ref.session_id, "stop"))["turn"] == 2
    assert (await rig.result(second))["output"] == "I listen. stop"


async def test_an_idle_session_takes_no_message(rig: Rig) -> None:
    session = (await rig.run())["session_id"]
    with pytest.raises(Conflict):
        await post(rig, session, "too late")


async def test_the_same_message_twice_is_one(rig: Rig, gate: Gate) -> None:
    ref = await rig.execute(agent="gate")
    session = ref.session_id
    for named in ({"message_id": "m1"}, {"key": "k1"}):
        answers = await asyncio.gather(*(post(rig, session, "once", **named) for _ in range(5)))
        assert all(answer == answers[0] for answer in answers)
        with pytest.raises(Conflict):
            await post(rig, session, "another", **named)
    gate.end()
    await rig.result(ref)
    assert await messages_in(rig, session) == [("once", False)] * 2
    assert await post(rig, session, "once", message_id="m1")  # also after the end


async def test_the_messages_of_a_turn_have_bounds(
    rig: Rig, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steering, "MAX_MESSAGES", 2)
    ref = await rig.execute(agent="gate")
    for _ in range(2):
        await post(rig, ref.session_id, "m")
    with pytest.raises(PayloadTooLarge):
        await post(rig, ref.session_id, "m")
    monkeypatch.setattr(steering, "MAX_MESSAGES", 100)
    monkeypatch.setattr(steering, "MAX_BYTES", 300)
    with pytest.raises(PayloadTooLarge):
        await post(rig, ref.session_id, "m" * 300)
    with pytest.raises(PayloadTooLarge):
        await post(rig, ref.session_id, "m" * (rig.limits.goal + 1))
    gate.end()
    await rig.result(ref)


async def test_a_thread_takes_messages(rig: Rig, gate: Gate) -> None:
    async def threaded(turn: Turn) -> AsyncIterator[AgentChunk]:
        yield "text"
        while not (taken := await asyncio.to_thread(turn.inbox.take_from_thread)):
            await asyncio.sleep(0.01)
        yield taken[0].content

    rig.agents["threaded"] = Scripted(threaded)
    ref = await rig.execute(agent="threaded")
    await post(rig, ref.session_id, "!")
    assert (await rig.result(ref))["output"] == "text!"
    assert await messages_in(rig, ref.session_id) == [("!", True)]


async def test_messages_survive_the_process(rig: Rig) -> None:
    """Taken ones are taken, and the others are left, whatever died."""

    async def takes_one(turn: Turn) -> AsyncIterator[AgentChunk]:
        yield "text"
        for message in await turn.inbox.wait():
            yield message.content
        await asyncio.Event().wait()

    rig.agents["one"] = Scripted(takes_one)
    ref = await rig.execute(agent="one")
    await rig.until_head(ref.session_id, 2)
    await post(rig, ref.session_id, "first", message_id="m1")
    await rig.until_head(ref.session_id, 4)
    await post(rig, ref.session_id, "second", message_id="m2")
    await rig.crash()
    await rig.open()
    assert (await rig.result(ref))["error"]["code"] == "RUNNER_LOST"
    assert await messages_in(rig, ref.session_id) == [("first", True), ("second", False)]
    assert_sound(await rig.chunks(ref.session_id))
    await post_again(rig, ref.session_id)


async def post_again(rig: Rig, session: str) -> None:
    assert (await post(rig, session, "second", message_id="m2"))["turn"] == 1


async def test_taken_messages_stand_in_the_history(rig: Rig) -> None:
    async def talks(turn: Turn) -> AsyncIterator[AgentChunk]:
        yield Step("model")
        yield "One. "
        yield ToolCall("t", {}, "c1")
        yield ToolResult("t", "r", "c1")
        for message in await turn.inbox.wait():
            yield f"[{message.content}]"

    rig.agents["talks"] = talked = Scripted(talks)
    ref = await rig.execute(agent="talks")
    await rig.until_head(ref.session_id, 4)
    await post(rig, ref.session_id, "short, please")
    await rig.result(ref)
    second = await rig.execute(agent=None, session=ref.session_id)
    await post(rig, ref.session_id, "end")
    await rig.result(second)
    (past,) = talked.turns[1].history
    assert past.output == "One. [short, please]"
    assert [(step.text, len(step.calls), step.message) for step in past.steps] == [
        ("One. ", 1, "short, please")
    ]


@pytest.mark.parametrize("crashes", [False, True])
async def test_a_message_to_a_turn_that_waits_for_an_answer(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, crashes: bool
) -> None:
    """No process holds the turn; the message is there once it goes on."""
    monkeypatch.setattr(agent_run, "HOLD_SECONDS", 0.0)

    async def asking(turn: Turn) -> AsyncIterator[AgentChunk]:
        yield "Well. "
        name = await turn.ask("Your name?", {"type": "string"}, call_id="q")
        told = [message.content for message in await turn.inbox.take()]
        yield f"{name}: {told}"

    rig.agents["asking"] = Scripted(asking)
    ref = await rig.execute(agent="asking")
    async with asyncio.timeout(10):
        while not (await rig.state(ref.session_id)).rests:
            await asyncio.sleep(0.005)
    assert (await post(rig, ref.session_id, "hurry"))["turn"] == 1
    assert (await rig.state(ref.session_id)).rests
    if crashes:
        await rig.crash()
        await rig.open()
    await rig.input(ref.session_id, "q", payload="Ann")
    assert (await rig.result(ref))["output"] == "Well. Ann: ['hurry']"
    assert await messages_in(rig, ref.session_id) == [("hurry", True)]
    assert_sound(await rig.chunks(ref.session_id))


# -- regeneration --------------------------------------------------------------------------


async def test_the_last_turn_is_regenerated(rig: Rig) -> None:
    echo = rig.agents["echo"]
    assert isinstance(echo, Scripted)
    session = (await rig.run("one"))["session_id"]
    await rig.run("two", session=session)
    third = await rig.run("", session=session, replace_turn=2)
    assert third["output"] == "two"
    fourth = await rig.run("another two", session=session, replace_turn=3)
    assert fourth["turn"] == 4
    await rig.run("three", session=session)
    assert [[past.goal for past in turn.history] for turn in echo.turns] == [
        [],
        ["one"],
        ["one"],
        ["one"],
        ["one", "another two"],
    ]
    page = await rig.service.conversations.messages(ME, session, limit=50, cursor=None)
    replaced = {m["turn"]: m.get("replaced_by") for m in page.messages}
    assert replaced == {1: None, 2: 3, 3: 4, 4: None, 5: None}
    assert echo.turns[-1].earlier == 2


async def test_only_the_last_turn(rig: Rig) -> None:
    session = (await rig.run("one"))["session_id"]
    await rig.run("two", session=session)
    for number in (1, 3):
        for goal in ("", "again"):
            with pytest.raises(Conflict):
                await rig.execute(goal, session=session, replace_turn=number)


async def test_a_regeneration_that_never_ran_replaces_nothing(rig: Rig, gate: Gate) -> None:
    ref = await rig.execute(agent="gate")
    again = await rig.execute(
        "", agent=None, session=ref.session_id, replace_turn=1, if_busy="enqueue"
    )
    state = await rig.state(ref.session_id)
    assert state.turns[0].replaced_by == 2
    await rig.cancel(ref.session_id, again.turn)
    assert state.turns[0].replaced_by == 0
    gate.end()
    await rig.result(ref)


async def test_the_running_turn_is_interrupted_and_regenerated(rig: Rig, gate: Gate) -> None:
    ref = await rig.execute("go", agent="gate")
    await gate.begun()
    gate.end(turn=2)
    again = await rig.execute(
        "", agent=None, session=ref.session_id, replace_turn=1, if_busy="interrupt"
    )
    assert (await rig.result(again))["status"] == "success"
    assert gate.turns[1].goal == "go"
    assert gate.turns[1].history == []


# -- the queue -----------------------------------------------------------------------------


async def queued(rig: Rig, session: str) -> list[tuple[int, str]]:
    turns = await rig.service.conversations.queue(ME, session)
    return [(turn["turn"], turn["goal"]) for turn in turns]


async def test_queued_turns_are_listed_edited_and_removed(rig: Rig, gate: Gate) -> None:
    ref = await rig.execute("first", agent="gate")
    session = ref.session_id
    refs = [
        await rig.execute(goal, agent=None, session=session, if_busy="enqueue")
        for goal in ("second", "third", "fourth")
    ]
    conversations = rig.service.conversations
    assert await queued(rig, session) == [(2, "second"), (3, "third"), (4, "fourth")]
    changes = {"goal": "new", "metadata": {"a": 1}, "max_steps": 10**9}
    await conversations.edit_queued(ME, session, 3, changes)
    await conversations.remove_queued(ME, session, 2)
    await conversations.remove_queued(ME, session, 2)  # once more
    assert await queued(rig, session) == [(3, "new"), (4, "fourth")]
    for turn in (1, 3, 4):
        gate.end(turn)
    results = [await rig.result(each) for each in [ref, *refs]]
    assert [r["status"] for r in results] == ["success", "cancelled", "success", "success"]
    assert [turn.goal for turn in gate.turns] == ["first", "new", "fourth"]
    assert gate.turns[1].metadata == {"a": 1}
    assert gate.turns[1].max_steps == rig.limits.max_steps
    assert await queued(rig, session) == []


async def test_edits_survive_the_process(rig: Rig, gate: Gate) -> None:
    ref = await rig.execute("first", agent="gate")
    second = await rig.execute("second", agent=None, session=ref.session_id, if_busy="enqueue")
    await rig.service.conversations.edit_queued(ME, ref.session_id, 2, {"goal": "edited"})
    gate.end(turn=2)
    await rig.crash()
    await rig.open()
    await rig.result(second)
    assert gate.turns[-1].goal == "edited"


async def test_a_turn_that_has_started_is_not_changed(rig: Rig, gate: Gate) -> None:
    ref = await rig.execute(agent="gate")
    conversations = rig.service.conversations
    for _ in range(2):
        with pytest.raises(Conflict):
            await conversations.edit_queued(ME, ref.session_id, 1, {"goal": "late"})
        with pytest.raises(Conflict):
            await conversations.remove_queued(ME, ref.session_id, 1)
        gate.end()
        await rig.result(ref)
    with pytest.raises(NotFound):
        await conversations.remove_queued(ME, ref.session_id, 2)


async def test_a_race_with_the_start_has_one_winner(rig: Rig, gate: Gate) -> None:
    """The goal that was answered with 200 is the one that runs."""
    session = await rig.create("gate")
    for number in range(1, 30, 2):
        first = await rig.execute(f"{number}", agent=None, session=session)
        second = await rig.execute("old", agent=None, session=session, if_busy="enqueue")
        await gate.begun(number)
        gate.end(number + 1)
        gate.end(number)
        for _ in range(number % 8):
            await asyncio.sleep(0)
        edit = rig.service.conversations.edit_queued(ME, session, number + 1, {"goal": "new"})
        try:
            await edit
            expected = "new"
        except Conflict:
            expected = "old"
        await rig.result(first)
        await rig.result(second)
        assert gate.turns[-1].goal == expected
