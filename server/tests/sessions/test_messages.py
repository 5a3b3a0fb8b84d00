"""The conversation in pages: complete, in order, and where a stream goes on."""

from __future__ import annotations

from typing import Any

import pytest
from resonantgenesis_server.codec.messages import AnswerFold
from resonantgenesis_server.model.chunks import ToolCall, ToolResult
from resonantgenesis_server.sessions import message_pages
from resonantgenesis_server.sessions.message_pages import MessagePage
from resonantgenesis_server.sessions.range import ReadFrom

from .agents import Gate
from .rig import ME, Rig

pytestmark = pytest.mark.anyio
Json = dict[str, Any]


async def page_of(
    rig: Rig, session: str, limit: int = 50, cursor: str | None = None
) -> MessagePage:
    return await rig.service.conversations.messages(ME, session, limit=limit, cursor=cursor)


async def all_pages(rig: Rig, session: str, limit: int) -> list[Json]:
    messages: list[Json] = []
    cursor: str | None = None
    while True:
        page = await page_of(rig, session, limit, cursor)
        assert len(page.messages) <= max(limit, 2)
        messages = [*page.messages, *messages]
        cursor = page.next_cursor
        if cursor is None:
            return messages


def shown(messages: list[Json]) -> list[tuple[str, str]]:
    return [
        (each["role"], "".join(part.get("content", "") for part in each["parts"]))
        for each in messages
    ]


async def test_a_conversation(rig: Rig) -> None:
    first = await rig.run("hello you")
    session = first["session_id"]
    await rig.run("bye", session=session)
    page = await page_of(rig, session)
    assert shown(page.messages) == [
        ("user", "hello you"),
        ("assistant", "helloyou"),
        ("user", "bye"),
        ("assistant", "bye"),
    ]
    assert page.next_cursor is None
    chunks = await rig.chunks(session)
    assert page.position == chunks[-1]["position"]
    assert [m["turn"] for m in page.messages] == [1, 1, 2, 2]
    assert {m["status"] for m in page.messages} == {"success"}
    assert page.messages[1]["usage"] == chunks[first["position"] - 1]["usage"]
    assert len({m["id"] for m in page.messages}) == 4


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 7, 50])
async def test_pages_are_the_whole(rig: Rig, limit: int) -> None:
    session = (await rig.run("turn 1"))["session_id"]
    for number in range(2, 6):
        await rig.run(f"turn {number}", session=session)
    whole = (await page_of(rig, session, 500)).messages
    assert len(whole) == 10
    assert await all_pages(rig, session, limit) == whole


async def test_a_page_has_a_bound_of_chunks(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    session = (await rig.run("turn 1"))["session_id"]
    await rig.run("turn 2", session=session)
    monkeypatch.setattr(message_pages, "_LOOKED", 3)
    assert len((await page_of(rig, session)).messages) == 2
    assert len(await all_pages(rig, session, 50)) == 4


async def test_a_stream_goes_on_where_the_page_ends(rig: Rig, gate: Gate) -> None:
    """At every moment of a turn."""
    ref = await rig.execute("do it", agent="gate")
    session = ref.session_id
    said = [
        "On",
        "e",
        ToolCall("t", {"a": 1}, "call_1"),
        ToolResult("t", 2, "call_1"),
        "two",
    ]
    pages = [await page_of(rig, session)]
    for number, chunk in enumerate(said, 2):
        gate.say(chunk)
        await rig.until_head(session, number)
        pages.append(await page_of(rig, session))
    gate.end()
    await rig.result(ref)
    whole = await page_of(rig, session)
    for page in pages:
        assert page.position is not None
        answer = page.messages[1] if len(page.messages) > 1 else {"status": "running", "parts": []}
        fold = AnswerFold.of(answer)
        fold.add_all(await rig.watch(session, ReadFrom(after=page.position)))
        assert fold.message().items() <= whole.messages[1].items()
    assert pages[-1].messages[0]["status"] == "running"
    assert whole.messages[0]["status"] == "success"


async def test_queued_and_withdrawn_turns(rig: Rig, gate: Gate) -> None:
    ref = await rig.execute("first", agent="gate")
    session = ref.session_id
    for goal in ("second", "third"):
        await rig.execute(goal, agent=None, session=session, if_busy="enqueue")
    await rig.cancel(session, 3)
    await gate.begun()
    page = await page_of(rig, session)
    goals = [(m["turn"], m["status"]) for m in page.messages if m["role"] == "user"]
    assert goals == [(1, "running"), (2, "queued"), (3, "cancelled")]
    for turn in (1, 2):
        gate.end(turn)
    await rig.watch(session, ReadFrom(after=0))
    page = await page_of(rig, session)
    goals = [(m["turn"], m["status"]) for m in page.messages if m["role"] == "user"]
    assert goals == [(1, "success"), (2, "success"), (3, "cancelled")]


async def test_an_empty_session(rig: Rig) -> None:
    session = await rig.create()
    page = await page_of(rig, session)
    assert page == MessagePage([], None, 0)


async def test_trimmed_turns_are_left_out(rig: Rig) -> None:
    session = (await rig.run("turn 1"))["session_id"]
    await rig.run("turn 2", session=session)
    state = await rig.state(session)
    await rig.log.trim(session, state.turns[0].last + 1)
    for limit in (2, 50):
        messages = await all_pages(rig, session, limit)
        assert [m["turn"] for m in messages] == [2, 2]
