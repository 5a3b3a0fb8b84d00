"""GET, polling, steps, lists."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import orjson
import pytest
from resonantgenesis_server.codec.times import parse_time
from resonantgenesis_server.model.chunks import Step
from resonantgenesis_server.model.errors import (
    InvalidRequest,
    NotFound,
    PositionExpired,
    SessionNotFound,
)
from resonantgenesis_server.model.limits import PAGE_BYTES
from resonantgenesis_server.records.base import StoreError
from resonantgenesis_server.sessions.service import Poll

from .agents import Gate
from .rig import ME, Json, Rig, text_of

pytestmark = pytest.mark.anyio


async def poll(
    rig: Rig,
    session: str,
    after: int = 0,
    *,
    limit: int = 500,
    wait: float = 0,
    compacted: bool = False,
    epoch: str | None = None,
    timed: bool = False,
) -> Poll:
    return await rig.service.poll(
        ME,
        session,
        after=after,
        limit=limit,
        wait=wait,
        compacted=compacted,
        epoch=epoch,
        timed=timed,
    )


def chunks_of(answer: Poll) -> list[Json]:
    return [orjson.loads(event) for event in answer.events]


async def test_a_snapshot_to_go_on_from(rig: Rig, gate: Gate) -> None:
    session = await rig.create("gate")
    empty = await rig.get(session)
    assert (empty["status"], empty["turn"], empty["output"], empty["position"]) == (
        "created", None, "", 0,
    )  # fmt: skip
    ref = await rig.execute(session=session, agent="gate")
    gate.say("a ", "b ")
    await rig.until_head(session, 3)
    running = await rig.get(session)
    assert (running["status"], running["output"], running["position"]) == ("running", "a b ", 3)
    gate.say("c")
    gate.end()
    await rig.result(ref)
    rest = await poll(rig, session, running["position"])
    assert text_of(chunks_of(rest)) == "c"
    assert chunks_of(rest)[-1]["output"] == "a b c"


async def test_polling_page_by_page(rig: Rig) -> None:
    ref = await rig.execute(" ".join(str(n) for n in range(20)))
    await rig.result(ref)
    after, seen, done = 0, [], False
    while not done:
        answer = await poll(rig, ref.session_id, after, limit=4)
        assert 1 <= len(answer.events) <= 4
        seen += chunks_of(answer)
        after, done = answer.position, answer.done
        assert answer.status == "completed"
    assert seen == await rig.chunks(ref.session_id)
    over = await poll(rig, ref.session_id, after, wait=30)  # does not wait: nothing runs
    assert (over.events, over.position, over.done) == ([], after, True)


async def test_polling_waits_for_the_first(rig: Rig, gate: Gate) -> None:
    ref = await rig.execute(agent="gate")
    await gate.begun()
    none = await poll(rig, ref.session_id, wait=0.01)
    assert (none.events, none.position, none.status, none.done) == ([], 0, "running", False)
    waiting = asyncio.create_task(poll(rig, ref.session_id, wait=10, limit=1))
    while not rig.hub.readers(ref.session_id):
        await asyncio.sleep(0)
    gate.say("x", "y")
    answer = await waiting
    assert (len(answer.events), answer.position, answer.done) == (1, 1, False)
    assert rig.hub.readers(ref.session_id) == 0  # left at once, not with the garbage
    gate.end()
    await rig.result(ref)


async def test_polling_compact(rig: Rig) -> None:
    ref = await rig.execute("a b c d")
    await rig.result(ref)
    answer = await poll(rig, ref.session_id, compacted=True)
    chunks = chunks_of(answer)
    assert [c["type"] for c in chunks] == ["step", "text", "step", "done"]
    assert (chunks[1]["from"], chunks[1]["position"], chunks[1]["content"]) == (2, 5, "abcd")
    inside = chunks_of(await poll(rig, ref.session_id, 3, compacted=True))
    assert (inside[0]["from"], inside[0]["content"]) == (4, "cd")


async def test_polling_with_times(rig: Rig) -> None:
    ref = await rig.execute("a b c d")
    await rig.result(ref)
    timed = chunks_of(await poll(rig, ref.session_id, timed=True))
    page = await rig.log.read(ref.session_id, 0, limit=500)
    assert [parse_time(chunk.pop("at")) for chunk in timed] == [each.at for each in page.entries]
    assert timed == await rig.chunks(ref.session_id)
    merged = chunks_of(await poll(rig, ref.session_id, timed=True, compacted=True))[1]
    assert parse_time(merged["at"]) == page.entries[merged["position"] - 1].at


async def test_polling_a_place_that_is_not_there(rig: Rig) -> None:
    ref = await rig.execute("a")
    await rig.result(ref)
    with pytest.raises(InvalidRequest):
        await poll(rig, ref.session_id, 5)
    with pytest.raises(PositionExpired):
        await poll(rig, ref.session_id, 2, epoch="another")
    await rig.log.trim(ref.session_id, 3)
    with pytest.raises(PositionExpired) as told:
        await poll(rig, ref.session_id, 1)
    assert told.value.details["earliest"] == 3
    assert (await poll(rig, ref.session_id, 2)).events


async def test_a_session_deleted_while_somebody_polls_or_waits(rig: Rig, gate: Gate) -> None:
    ref = await rig.execute(agent="gate")
    session = ref.session_id
    await gate.begun()
    polling = asyncio.create_task(poll(rig, session, wait=10))
    waiting = asyncio.create_task(rig.result(ref, 10))
    while not (rig.hub.readers(session) and rig.hub.readers(f"{session}/turns")):
        await asyncio.sleep(0)
    await rig.service.delete(ME, session)
    async with asyncio.timeout(8):
        await asyncio.wait({polling, waiting})
    for task in (polling, waiting):
        error = task.exception()
        assert error is None or isinstance(error, NotFound)


async def test_steps_page_by_page_and_by_turn(rig: Rig, gate: Gate) -> None:
    session = await rig.create("gate")
    for turn in (1, 2):
        gate.say(Step("a"), "x", Step("a", "completed"), Step("b"), turn=turn)
        gate.end(turn=turn)
        await rig.run(session=session, agent="gate")
    every = [
        (turn, step, name, status)
        for turn in (1, 2)
        for step, name, status in (
            (1, "a", "started"), (1, "a", "completed"), (2, "b", "started"), (2, "b", "completed"),
        )
    ]  # fmt: skip
    for limit in (1, 3, 100):
        found: list[tuple[int, int, str, str]] = []
        after: int | None = 0
        while after is not None:
            steps, after = await rig.service.steps(ME, session, turn=None, after=after, limit=limit)
            assert len(steps) <= limit
            found += [(s["turn"], s["step"], s["name"], s["status"]) for s in steps]
        assert found == every
    for turn in (1, 2):
        steps, _ = await rig.service.steps(ME, session, turn=turn, after=0, limit=100)
        assert [(s["turn"], s["step"], s["name"], s["status"]) for s in steps] == [
            one for one in every if one[0] == turn
        ]
    with pytest.raises(NotFound):
        await rig.service.steps(ME, session, turn=3, after=0, limit=100)


async def test_pages_of_large_steps_and_of_chunks_without_any_end_early(
    rig: Rig, gate: Gate
) -> None:
    rig.supervisor.limits = replace(rig.limits, output=1_000)
    ref = await rig.execute(agent="gate", max_steps=100)
    session = ref.session_id
    gate.say(*(Step(f"s{n}", detail="d" * 200_000) for n in range(30)))
    gate.say(*("t" * 40_000 for _ in range(900)))
    gate.say(Step("last"))
    gate.end()
    await rig.result(ref, 60)
    names: list[str] = []
    pages: list[int] = []
    after: int | None = 0
    while after is not None:
        found, after = await rig.service.steps(ME, session, turn=None, after=after, limit=500)
        names += [step["name"] for step in found if step["status"] == "started"]
        pages.append(len(found))
        assert sum(len(str(step)) for step in found) <= PAGE_BYTES + 201_000
    assert names == [*(f"s{n}" for n in range(30)), "last"]
    # 200 KB a step; then more than is looked through at once without any.
    assert pages[:2] == [11, 11] and len(pages) == 4


async def test_a_turn_that_waits_has_no_steps_yet(rig: Rig, gate: Gate) -> None:
    first = await rig.execute(agent="gate")
    gate.say("x")
    await rig.until_head(first.session_id, 2)
    await rig.execute("2", session=first.session_id, agent="gate", if_busy="enqueue")
    found = await rig.service.steps(ME, first.session_id, turn=2, after=0, limit=100)
    assert found == ([], None)


async def test_the_list_shows_what_the_log_showed(rig: Rig, gate: Gate) -> None:
    async def listed(status: str | None = None) -> dict[str, str]:
        page = await rig.service.list_sessions(
            ME, agent_id=None, status=status, limit=50, cursor=None
        )
        return {item["session_id"]: item["status"] for item in page.items}

    one, two = await rig.create("gate"), await rig.create()
    assert await listed() == {one: "created", two: "created"}
    ref = await rig.execute(session=one, agent="gate")
    assert (await listed())[one] == "running"
    gate.end()
    await rig.result(ref)
    assert await listed("completed") == {one: "completed"}
    await rig.service.delete(ME, one)
    assert await listed() == {two: "created"}


async def test_records_that_fail_for_a_while_are_caught_up(rig: Rig) -> None:
    doomed = await rig.create()
    await rig.session_list.settle()
    rig.rows.broken = True
    made = await rig.create()
    with pytest.raises(StoreError):
        await rig.service.list_sessions(ME, agent_id=None, status=None, limit=5, cursor=None)
    with pytest.raises(StoreError):
        await rig.service.delete(ME, doomed)
    with pytest.raises(SessionNotFound):  # its log is gone all the same
        await rig.get(doomed)
    rig.rows.broken = False
    await rig.session_list.settle()
    assert set(rig.rows.rows) == {made}
