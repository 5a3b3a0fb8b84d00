"""Sessions of several nodes over one database: any node serves, one node writes, none is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from resonantgenesis_server.log.shared import Runner
from resonantgenesis_server.model.errors import NotFound, SessionBusy
from resonantgenesis_server.sessions.ownership import Elsewhere
from resonantgenesis_server.sessions.range import ReadFrom
from resonantgenesis_server.sessions.session import Session
from resonantgenesis_server.sessions.state import control_stream

from ..sessions.rig import ME, Rig, assert_sound, kinds, text_of

pytestmark = pytest.mark.anyio
Open = Callable[..., Awaitable[Rig]]
PATIENCE = 30.0


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.01)


async def two(nodes: Open, **limits: int) -> tuple[Rig, Rig]:
    one, other = await nodes(**limits), await nodes(**limits)
    await until(lambda: one.log.nodes.others and other.log.nodes.others)
    return one, other


async def kill(node: Rig) -> None:
    """End the process as kill -9 does: it says nothing to anybody any more."""
    for part in node.log.parts:
        await part.nodes.close()
        part._database.leave = _nothing
    await node.crash()


async def _nothing() -> None:
    return


@pytest.mark.parametrize("nodes", [1, 2], indirect=True)
async def test_a_viewer_of_another_node_gets_the_whole_answer(nodes: Open) -> None:
    one, other = await two(nodes)
    ref = await one.execute("x", agent="gate")
    watching = asyncio.create_task(other.watch(ref.session_id))
    for number in range(40):
        one.gate.say(f"{number} ")
        if number % 10 == 0:
            await one.until_head(ref.session_id, number + 2)
    one.gate.end()
    seen = await watching
    assert_sound(seen)
    assert text_of(seen) == "".join(f"{n} " for n in range(40))
    assert seen == await one.watch(ref.session_id, ReadFrom(after=0))
    described = await other.get(ref.session_id)
    assert (described["status"], described["output"]) == ("completed", text_of(seen))


async def test_every_node_knows_of_a_turn_that_another_has_ended(nodes: Open) -> None:
    one, other = await two(nodes)
    session = await one.create()
    for turn in range(1, 12):
        node, reader = (one, other) if turn % 2 else (other, one)
        result = await node.run("a b", session=session)
        assert result["output"] == "ab"
        described = await reader.get(session)
        assert (described["status"], described["turns"]) == ("completed", turn)
        listed = await reader.service.list_sessions(
            ME, agent_id=None, status="completed", limit=10, cursor=None
        )
        assert [item["session_id"] for item in listed.items] == [session]
    assert_sound(await one.chunks(session))


@pytest.mark.parametrize("nodes", [1, 2], indirect=True)
async def test_a_turn_is_started_where_its_session_runs(nodes: Open) -> None:
    one, other = await two(nodes)
    first = await one.execute("x", agent="gate")
    await one.gate.begun()
    with pytest.raises(SessionBusy):
        await other.execute("y", agent=None, session=first.session_id)
    queued = await other.execute("y", agent=None, session=first.session_id, if_busy="enqueue")
    assert queued.turn == 2
    waiting = asyncio.create_task(other.result(queued))
    one.gate.say("first")
    one.gate.end()
    one.gate.say("second", turn=2)
    one.gate.end(turn=2)
    assert (await waiting)["output"] == "second"
    assert_sound(await other.chunks(first.session_id))


@pytest.mark.parametrize("nodes", [1, 2], indirect=True)
async def test_a_turn_is_cancelled_from_another_node(nodes: Open) -> None:
    one, other = await two(nodes)
    ref = await one.execute("x", agent="gate")
    await one.gate.begun()
    cancelled = await other.cancel(ref.session_id)
    assert cancelled["cancelled"] == [1]
    assert (await other.result(ref))["status"] == "cancelled"
    assert one.gate.cancelled == [1]


@pytest.mark.parametrize("nodes", [1, 2], indirect=True)
async def test_the_sessions_of_a_dead_node_are_taken_up_by_another(nodes: Open) -> None:
    one, other = await two(nodes)
    lost = await one.execute("x", agent="gate")
    one.gate.say("seen ")
    queued = await one.execute("a b", agent=None, session=lost.session_id, if_busy="enqueue")
    watching = asyncio.create_task(other.watch(lost.session_id, ReadFrom(after=0, turn=2)))
    await other.until_head(lost.session_id, 2)
    await kill(one)
    one.gate.say("after", turn=2)
    one.gate.end(turn=2)
    seen = await watching
    assert_sound(seen)
    errors = [chunk["code"] for chunk in seen if chunk["type"] == "error"]
    assert errors == ["RUNNER_LOST"]
    assert text_of(seen) == "seen after"
    assert (await other.result(queued))["status"] == "success"
    assert (await other.result(lost))["status"] == "failed"


@pytest.mark.parametrize("nodes", [1, 2], indirect=True)
async def test_a_node_that_was_only_paused_writes_nothing_more(nodes: Open) -> None:
    one, other = await two(nodes)
    ref = await one.execute("x", agent="gate")
    one.gate.say("before ")
    await other.until_head(ref.session_id, 2)
    for part in one.log.parts:
        await part.nodes.close()  # its beat stands still; the rest goes on
    await until(lambda: other.log.is_alone)
    one.gate.say("never")
    one.gate.end()
    result = await other.result(ref)
    assert result["status"] == "failed"
    assert result["error"]["code"] == "RUNNER_LOST"
    chunks = await other.chunks(ref.session_id)
    assert_sound(chunks)
    assert text_of(chunks) == "before "
    assert kinds(chunks).count("done") == 1
    await until(lambda: any(part.is_broken for part in one.log.parts))  # it has found out, and ends


@pytest.mark.parametrize("rounds", [30])
async def test_two_nodes_that_start_a_turn_at_once_have_one_winner(
    nodes: Open, rounds: int
) -> None:
    one, other = await two(nodes)
    for _ in range(rounds):
        session = await one.create("gate")
        started = await asyncio.gather(
            *(node.execute("x", agent=None, session=session) for node in (one, other)),
            return_exceptions=True,
        )
        winners = [each for each in started if not isinstance(each, BaseException)]
        losers = [each for each in started if isinstance(each, BaseException)]
        assert [type(each) for each in losers] == [SessionBusy]
        assert [each.turn for each in winners] == [1]
        one.gate.say("x")
        one.gate.end()
        async with asyncio.timeout(PATIENCE):
            # Its end is tried again when the other node was in between.
            while (result := await other.result(winners[0]))["status"] == "running":
                pass
        assert (result["status"], result["output"]) == ("success", "x")
        assert_sound(await one.chunks(session))


def before_looking(node: Rig, act: Callable[[], Awaitable[object]], *, look: int) -> None:
    """Let this happen before the node asks for the so many-th time who runs a session."""
    looked = 0
    runner = node.log.runner

    async def act_and_look(stream: str) -> Runner | None:
        nonlocal looked
        looked += 1
        if looked == look:
            await act()
        return await runner(stream)

    node.log.runner = act_and_look


async def test_a_node_that_asks_as_a_turn_ends_does_not_run_it_again(nodes: Open) -> None:
    one, other = await two(nodes)
    first = await one.execute("x", agent="gate")
    await one.gate.begun()

    async def end() -> None:
        one.gate.end()
        assert (await one.result(first))["status"] == "success"

    before_looking(other, end, look=1)
    second = await other.execute("y", agent=None, session=first.session_id)
    one.gate.end(turn=2)
    assert (await other.result(second))["status"] == "success"
    assert [turn.turn for turn in one.gate.turns] == [1, 2]
    assert_sound(await one.chunks(first.session_id))


async def test_a_session_is_not_taken_by_a_node_that_read_it_too_early(nodes: Open) -> None:
    one, other = await two(nodes)
    ref = await one.execute("x", agent="gate")
    control, owner = control_stream(ref.session_id), other.supervisor._ownership
    with pytest.raises(Elsewhere):
        await owner.take(control, 3)
    one.gate.end()
    assert (await one.result(ref))["status"] == "success"
    assert await owner.take(control, 3) is None
    taken = await owner.take(control, 4)
    assert taken == (owner.fence, False)


@pytest.mark.parametrize("dies", [False, True])
@pytest.mark.parametrize("look", [2, 3])
async def test_a_loser_does_not_run_the_winners_turn_as_its_own(
    nodes: Open, dies: bool, look: int
) -> None:
    one, other = await two(nodes)
    session = await one.create("gate")

    async def win() -> None:
        await one.execute("x", agent=None, session=session)
        one.gate.say("seen ")
        await one.until_head(session, 2)

    async def end_or_die() -> None:
        if dies:
            await kill(one)
            await until(lambda: other.log.is_alone)
            return
        one.gate.end()
        await one.until_head(session, 3)

    lose = other.supervisor.session

    @asynccontextmanager
    async def after_a_loss(name: str, new: bool = False) -> AsyncIterator[Session]:
        async with lose(name, new) as opened:
            if not one.gate.turns:
                await win()
            yield opened

    other.service._starter._open = after_a_loss
    before_looking(other, end_or_die, look=look)
    result = await other.execute("y", agent=None, session=session, if_busy="enqueue")
    one.gate.end(turn=2)
    assert (await other.result(result))["status"] == "success"
    assert [(turn.turn, turn.goal) for turn in one.gate.turns] == [(1, "x"), (2, "y")]
    chunks = await other.chunks(session)
    assert_sound(chunks)
    errors = [chunk["code"] for chunk in chunks if chunk["type"] == "error"]
    assert errors == ["RUNNER_LOST"] * dies


@pytest.mark.parametrize("rounds", [30])
async def test_one_idempotency_key_at_two_nodes_names_one_turn(nodes: Open, rounds: int) -> None:
    one, other = await two(nodes)
    for number in range(rounds):
        refs = await asyncio.gather(
            *(node.execute("a b", key=f"k{number}") for node in (one, other))
        )
        assert len({(ref.session_id, ref.turn) for ref in refs}) == 1
        assert sorted(ref.joined for ref in refs) == [False, True]
        session = refs[0].session_id
        again = await asyncio.gather(
            *(
                node.execute("c", agent=None, session=session, key=f"n{number}", if_busy="enqueue")
                for node in (one, other)
            )
        )
        assert {ref.turn for ref in again} == {2}
        await one.result(again[0])
        assert len((await one.state(session)).turns) == 2
        assert_sound(await one.chunks(session))


@pytest.mark.parametrize("nodes", [1, 2], indirect=True)
async def test_a_session_is_deleted_from_another_node(nodes: Open) -> None:
    one, other = await two(nodes)
    ref = await one.execute("x", agent="gate")
    await one.gate.begun()
    one.gate.say("a")
    watching = asyncio.create_task(one.watch(ref.session_id, ReadFrom(after=0, follow=True)))
    await other.until_head(ref.session_id, 2)
    await other.service.delete(ME, ref.session_id)
    assert_sound(await watching)
    for node in (one, other):
        with pytest.raises(NotFound):
            await node.get(ref.session_id)


async def test_a_viewer_at_another_node_keeps_a_turn_that_ends_without_viewers(
    nodes: Open,
) -> None:
    one, other = await two(nodes, disconnect_grace=1)
    ask, answers = one.supervisor.is_viewed_elsewhere, []

    async def asked(session_id: str, seconds: float) -> bool:
        answers.append(await ask(session_id, seconds))
        return bool(answers[-1])

    one.supervisor.is_viewed_elsewhere = asked
    ref = await one.execute("x", agent="gate", on_disconnect="cancel")
    watching = asyncio.create_task(other.watch(ref.session_id))
    await until(lambda: len(answers) > 1)
    assert all(answers)
    assert one.gate.cancelled == []
    watching.cancel()
    await until(lambda: one.gate.cancelled)
    assert (await other.result(ref))["status"] == "cancelled"
