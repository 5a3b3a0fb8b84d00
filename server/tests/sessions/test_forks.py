"""Forks: their conversation begins with that of the original, whatever becomes of that."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from resonantgenesis_server.log.base import Append, NewEntry, stream_info
from resonantgenesis_server.model.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    PositionExpired,
    SessionNotFound,
)
from resonantgenesis_server.model.events import event_stream
from resonantgenesis_server.sessions import forks as forks_module
from resonantgenesis_server.sessions.range import ReadFrom
from resonantgenesis_server.sessions.state import control_stream

from .agents import Gate, Scripted
from .rig import ME, Rig, assert_sound

pytestmark = pytest.mark.anyio
Json = dict[str, Any]


async def fork(rig: Rig, session: str, turn: int | None = None, **named: Any) -> str:
    state = await rig.service.forks.fork(ME, session, turn, None, request_id="req_2", **named)
    assert state.info is not None
    return state.info.session_id


async def conversation(rig: Rig, session: str, **named: Any) -> list[tuple[str, str]]:
    asked = {"limit": 500, "cursor": None, **named}
    page = await rig.service.conversations.messages(ME, session, **asked)
    return [
        (m["role"], "".join(p["content"] for p in m["parts"] if p["type"] == "text"))
        for m in page.messages
    ]


async def talk(rig: Rig, *goals: str) -> str:
    session = await rig.create()
    for goal in goals:
        await rig.run(goal, session=session)
    return session


def said(*goals: str) -> list[tuple[str, str]]:
    return [(role, goal) for goal in goals for role in ("user", "assistant")]


def goals_of(rig: Rig) -> list[str]:
    """The history of the newest turn."""
    echo = rig.agents["echo"]
    assert isinstance(echo, Scripted)
    return [past.goal for past in echo.turns[-1].history]


async def remove(rig: Rig, session: str) -> None:
    await rig.service.delete(ME, session)
    with pytest.raises(SessionNotFound):
        await rig.get(session)


async def is_kept(rig: Rig, session: str) -> bool:
    chunks = await stream_info(rig.log, session)
    records = await stream_info(rig.log, control_stream(session))
    assert (chunks is None) == (records is None)
    return records is not None


async def test_a_fork_goes_its_own_way(rig: Rig) -> None:
    session = await talk(rig, "one", "two", "three")
    made = await fork(rig, session, 2)
    assert await conversation(rig, made) == said("one", "two")
    assert (await rig.get(made))["status"] == "created"
    result = await rig.run("four", session=made)
    assert result["turn"] == 1
    chunks = await rig.chunks(made)
    assert_sound(chunks)
    assert chunks[0]["position"] == 1
    assert goals_of(rig) == ["one", "two"]
    assert await conversation(rig, made) == said("one", "two", "four")
    await rig.run("five", session=session)
    assert goals_of(rig) == ["one", "two", "three"]
    assert await conversation(rig, session) == said("one", "two", "three", "five")
    assert (await rig.get(made))["forked_from"] == {"session_id": session, "turn": 2}


async def test_pages_of_a_fork_lead_into_the_original(rig: Rig) -> None:
    session = await talk(rig, "one", "two")
    made = await fork(rig, session)
    await rig.run("three", session=made)
    messages: list[Json] = []
    cursor: str | None = None
    while True:
        page = await rig.service.conversations.messages(ME, made, limit=2, cursor=cursor)
        assert len(page.messages) == 2
        messages = [*page.messages, *messages]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert [(m["session_id"], m["turn"]) for m in messages[::2]] == [
        (session, 1),
        (session, 2),
        (made, 1),
    ]
    assert len({m["id"] for m in messages}) == 6


@pytest.mark.parametrize("restart", [False, True])
async def test_the_original_is_deleted(rig: Rig, restart: bool) -> None:
    session = await talk(rig, "one", "two")
    made = await fork(rig, session, 1)
    await remove(rig, session)
    if restart:
        await rig.crash()
        await rig.open()
        with pytest.raises(SessionNotFound):
            await rig.get(session)
    listed = await rig.service.list_sessions(ME, agent_id=None, status=None, limit=9, cursor=None)
    assert [item["session_id"] for item in listed.items] == [made]
    assert await conversation(rig, made) == said("one")
    await rig.run("three", session=made)
    assert goals_of(rig) == ["one"]
    for forbidden in (
        rig.execute("x", session=session),
        rig.service.subscribe(ME, session, ReadFrom(after=0)),
        fork(rig, session, 1),
        rig.service.delete(ME, session),
    ):
        with pytest.raises(SessionNotFound):
            await forbidden
    assert await is_kept(rig, session)
    await remove(rig, made)
    assert not await is_kept(rig, session)
    assert not await is_kept(rig, made)
    assert rig.rows.rows == {}


async def test_one_event_tells_of_the_deletion(rig: Rig) -> None:
    session = await talk(rig, "one")
    made = await fork(rig, session)
    await remove(rig, session)
    await remove(rig, made)
    page = await rig.log.read(event_stream("org"), 0, limit=1000)
    deleted = [e for e in page.entries if e.kind == "session.deleted"]
    assert len(deleted) == 2


async def test_a_fork_of_a_fork(rig: Rig) -> None:
    session = await talk(rig, "one", "two")
    child = await fork(rig, session, 1)
    await rig.run("three", session=child)
    grandchild = await fork(rig, child)
    inherited_only = await fork(rig, child, 0)
    await rig.run("four", session=grandchild)
    assert goals_of(rig) == ["one", "three"]
    assert await conversation(rig, grandchild) == said("one", "three", "four")
    assert await conversation(rig, inherited_only) == said("one")
    await remove(rig, child)
    await remove(rig, session)
    assert await conversation(rig, grandchild) == said("one", "three", "four")
    await remove(rig, inherited_only)
    assert await is_kept(rig, session)
    assert await is_kept(rig, child)
    await remove(rig, grandchild)
    assert not await is_kept(rig, child)
    assert not await is_kept(rig, session)


async def test_a_session_with_forks_is_not_trimmed(rig: Rig) -> None:
    rig.supervisor.limits = replace(rig.limits, chunks_per_session=10)
    session = await talk(rig, "one")
    made = await fork(rig, session)
    for number in range(6):
        await rig.run(f"{number}", session=session)
    assert await conversation(rig, made) == said("one")
    await remove(rig, made)
    await rig.run("last", session=session)
    state = await rig.state(session)
    assert state.forks == {}
    async with rig.supervisor.session(session) as writer:
        if writer.pump is not None:  # else it has trimmed, and nothing is left to do
            await writer.pump
    info = await stream_info(rig.log, session)
    assert info is not None
    assert info.earliest > 1


async def test_retention_takes_originals_and_forks(rig: Rig) -> None:
    session = await talk(rig, "one")
    made = await fork(rig, session)
    await rig.session_list.settle()
    later = time.time() + 100
    assert await rig.service.remove([session], later) == 1
    await rig.session_list.settle()
    assert await rig.rows.last_used_before(later) == [rig.rows.rows[made]]
    assert await conversation(rig, made) == said("one")
    assert await rig.service.remove([made], later) == 1
    assert rig.rows.rows == {}
    assert not await is_kept(rig, session)


async def test_the_sweep_finds_forks_that_never_were(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their process died before it made them, or before it released them."""
    session = await talk(rig, "one")
    control = control_stream(session)
    body = b'{"turn":1,"session_id":"sess_never"}'
    await rig.log.append(Append(control, [NewEntry("forked", body)]))
    await rig.crash()
    await rig.open()
    await remove(rig, session)
    assert await rig.service.forks.sweep() == 0  # it may still be made
    assert await is_kept(rig, session)
    monkeypatch.setattr(forks_module, "_MAKING", -100.0)
    assert await rig.service.forks.sweep() == 1
    assert not await is_kept(rig, session)
    assert rig.rows.rows == {}


async def test_the_sweep_keeps_what_is_shown(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    session = await talk(rig, "one")
    made = await fork(rig, session)
    await remove(rig, session)
    monkeypatch.setattr(forks_module, "_MAKING", -100.0)
    assert await rig.service.forks.sweep() == 0
    assert await conversation(rig, made) == said("one")


async def test_the_context_of_the_turn(rig: Rig) -> None:
    session = await rig.create(context={"a": 1})
    await rig.run("one", session=session, context={"b": 2})
    await rig.run("two", session=session, context={"c": 3})
    first, second = await fork(rig, session, 1), await fork(rig, session, 2)
    assert (await rig.get(first))["context"] == {"a": 1, "b": 2}
    assert (await rig.get(second))["context"] == {"a": 1, "b": 2, "c": 3}


async def test_regenerated_turns_in_a_fork(rig: Rig) -> None:
    session = await talk(rig, "one")
    await rig.run("another one", session=session, replace_turn=1)
    for turn, goal in ((1, "one"), (2, "another one")):
        made = await fork(rig, session, turn)
        await rig.run("x", session=made)
        assert goals_of(rig) == [goal]


async def test_what_cannot_be_forked(rig: Rig, gate: Gate) -> None:
    empty = await rig.create()
    for turn in (None, 0, 1):
        with pytest.raises(InvalidRequest):
            await fork(rig, empty, turn)
    ref = await rig.execute(agent="gate")
    with pytest.raises(Conflict):
        await fork(rig, ref.session_id, 1)
    gate.end()
    await rig.result(ref)
    with pytest.raises(InvalidRequest):
        await fork(rig, ref.session_id, 2)
    session = await talk(rig, "one", "two")
    await rig.log.trim(session, (await rig.state(session)).turns[0].last + 1)
    with pytest.raises(PositionExpired):
        await fork(rig, session, 1)
    assert await conversation(rig, await fork(rig, session, 2)) == said("two")


async def test_forks_have_bounds(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks_module, "MAX_FORKS", 2)
    monkeypatch.setattr(forks_module, "MAX_GENERATIONS", 1)
    session = await talk(rig, "one")
    made = await fork(rig, session)
    await fork(rig, session)
    with pytest.raises(Conflict):
        await fork(rig, session)
    await rig.run("two", session=made)
    with pytest.raises(Conflict):
        await fork(rig, made)


async def test_sealing(rig: Rig) -> None:
    """Nobody forks what they do not see; a fork has the subject of its original."""
    ann = replace(ME, subject="ann", key_id="t")
    bob = replace(ME, subject="bob", key_id="t")
    session = await rig.create(who=ann)
    await rig.run("mine", session=session, who=ann)
    forks = rig.service.forks
    for other in (bob, replace(ME, organization_id="org2"), replace(ME, agent_id="other")):
        with pytest.raises(SessionNotFound):
            await forks.fork(other, session, 1, None, request_id="r")
    bound = replace(ann, session_id=session)
    with pytest.raises(Forbidden):
        await forks.fork(bound, session, 1, None, request_id="r")
    state = await forks.fork(ann, session, 1, None, request_id="r")
    assert state.info is not None
    assert state.info.subject == "ann"
    with pytest.raises(SessionNotFound):
        await rig.service.conversations.messages(bob, state.info.session_id, limit=9, cursor=None)


async def test_a_repeat_makes_one(rig: Rig) -> None:
    session = await talk(rig, "one")
    name = "sess_0123456789abcdefghij"
    assert await fork(rig, session, fork_id=name) == name
    assert await fork(rig, session, fork_id=name) == name
    assert list((await rig.state(session)).forks) == [name]


async def test_a_hundred_thousand_chunks(rig: Rig) -> None:
    """By reference: a fork takes no longer than any other session."""
    session = await talk(rig, "one")
    for _ in range(5):
        await rig.run(" ".join(["w"] * 20_000), session=session)
    info = await stream_info(rig.log, session)
    assert info is not None
    assert info.head > 100_000
    await fork(rig, session)
    took = []
    for _ in range(5):
        began = time.perf_counter()
        await fork(rig, session, 5)
        took.append(time.perf_counter() - began)
    print(f"a fork of {info.head} chunks: {min(took) * 1000:.1f} ms")
    assert min(took) < 0.1
