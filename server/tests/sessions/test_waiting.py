"""Turns that ask and wait: the stop, the answers, and what becomes of both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from resonantgenesis_server.agents.base import NotAnswered, Turn
from resonantgenesis_server.agents.declared import agent as declare
from resonantgenesis_server.agents.engines.python import PythonAgent
from resonantgenesis_server.model.chunks import AgentChunk, Ask, Keep, Step, ToolCall, ToolResult
from resonantgenesis_server.model.errors import Conflict, InvalidRequest, NotFound, SessionBusy
from resonantgenesis_server.sessions import agent_run, asks
from resonantgenesis_server.sessions.range import ReadFrom
from resonantgenesis_server.sessions.turn_limit import TurnLimit

from .agents import Scripted
from .rig import ME, Rig, assert_sound, kinds, text_of

pytestmark = pytest.mark.anyio


class Refunds:
    """Asks before it pays. `paid` are the refunds that were made."""

    restartable = True

    def __init__(self) -> None:
        self.paid: list[int] = []
        self.runs = 0

    async def run(self, turn: Turn) -> AsyncIterator[AgentChunk]:
        self.runs += 1
        yield "Looking. "
        call = ToolCall("refund", {"order": 7}, "call_refund")
        yield call
        decided = await turn.approve(call, "Pay back order 7?")
        if decided:
            self.paid.append(7)
            yield ToolResult("refund", "paid", "call_refund")
            yield "Paid."
        else:
            yield ToolResult("refund", decided.refusal, "call_refund", is_error=True)
            yield "Not paid."


@pytest.fixture
def refunds(rig: Rig) -> Refunds:
    agent = rig.agents["refunds"] = Refunds()
    return agent


@pytest.fixture
def let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """No turn that waits is held by its process."""
    monkeypatch.setattr(agent_run, "HOLD_SECONDS", 0.0)


async def until_rests(rig: Rig, session: str) -> None:
    async with asyncio.timeout(10):
        while not (await rig.state(session)).rests or rig.supervisor._active:
            await asyncio.sleep(0.005)


async def test_an_approval_is_asked_for_and_the_same_turn_goes_on(
    rig: Rig, refunds: Refunds
) -> None:
    ref = await rig.execute(agent="refunds")
    session = ref.session_id
    seen = await rig.watch(session)
    assert kinds(seen) == ["step", "text", "tool_call", "input_required", "waiting"]
    asked, waiting = seen[-2:]
    assert asked == {
        "type": "input_required", "call_id": "call_refund", "kind": "approval", "tool": "refund",
        "args": {"order": 7}, "message": "Pay back order 7?",
        "expires_at": asked["expires_at"], "position": 4,
    }  # fmt: skip
    assert waiting == {
        "type": "waiting", "session_id": session, "turn": 1, "calls": ["call_refund"],
        "position": 5,
    }  # fmt: skip
    result = await rig.result(ref)
    assert (result["status"], result["output"], result["position"]) == ("waiting", "Looking. ", 5)
    assert [ask["call_id"] for ask in result["waiting"]] == ["call_refund"]
    described = await rig.get(session)
    assert described["status"] == "waiting"
    assert described["waiting"] == result["waiting"]
    given = await rig.input(session, "call_refund", approved=True)
    assert given == {
        "session_id": session, "turn": 1, "call_id": "call_refund", "status": "running",
    }  # fmt: skip
    rest = await rig.watch(session, ReadFrom(after=5))
    assert kinds(rest) == ["input", "tool_result", "text", "step", "done"]
    assert rest[0] == {
        "type": "input", "call_id": "call_refund", "status": "answered", "approved": True,
        "position": 6,
    }  # fmt: skip
    assert (rest[-1]["output"], rest[-1]["usage"]["steps"]) == ("Looking. Paid.", 1)
    assert_sound(await rig.chunks(session))
    assert (refunds.paid, refunds.runs) == ([7], 1)
    assert "waiting" not in await rig.get(session)
    assert await rig.watch(session, ReadFrom(after=0)) == [*seen, *rest]


@pytest.mark.usefixtures("let_go")
async def test_a_viewer_that_waits_sees_the_turn_to_its_end(rig: Rig, refunds: Refunds) -> None:
    ref = await rig.execute(agent="refunds")
    session, place = ref.session_id, ReadFrom(turn=1, waits=True)
    before = asyncio.create_task(rig.watch(session, place))
    await until_rests(rig, session)
    behind = asyncio.create_task(rig.watch(session, place))
    await asyncio.sleep(0)
    assert not before.done() and not behind.done()
    await rig.input(session, "call_refund", approved=True)
    assert await before == await behind == await rig.chunks(session)
    assert refunds.paid == [7]


async def test_it_survives_a_crash_and_the_tool_runs_once(rig: Rig, refunds: Refunds) -> None:
    ref = await rig.execute(agent="refunds")
    session = ref.session_id
    first = await rig.watch(session)
    await rig.crash()
    assert await rig.open() == (0, 0)
    await until_rests(rig, session)
    assert await rig.watch(session, ReadFrom(after=0)) == first
    assert await rig.log.pending() == []
    await rig.input(session, "call_refund", approved=True)
    assert (await rig.result(ref))["output"] == "Looking. Paid."
    chunks = await rig.chunks(session)
    assert_sound(chunks)
    assert kinds(chunks).count("tool_call") == 1
    assert text_of(chunks) == "Looking. Paid."
    assert (refunds.paid, refunds.runs) == ([7], 2)


@pytest.mark.usefixtures("let_go")
async def test_nobody_holds_it_after_a_while(rig: Rig, refunds: Refunds) -> None:
    ref = await rig.execute(agent="refunds")
    session = ref.session_id
    await until_rests(rig, session)
    assert rig.supervisor.running == 0
    await rig.input(session, "call_refund", approved=False, reason="too late")
    result = await rig.result(ref)
    assert (result["status"], result["output"]) == ("success", "Looking. Not paid.")
    chunks = await rig.chunks(session)
    denied = next(chunk for chunk in chunks if chunk["type"] == "tool_result")
    assert (denied["is_error"], denied["result"]) == (True, "denied: too late")
    assert refunds.paid == []


async def test_the_first_answer_stands(rig: Rig, refunds: Refunds) -> None:
    ref = await rig.execute(agent="refunds")
    session = ref.session_id
    await rig.watch(session)
    with pytest.raises(NotFound):
        await rig.input(session, "call_2", approved=True)
    with pytest.raises(InvalidRequest):
        await rig.input(session, "call_refund")
    with pytest.raises(InvalidRequest):
        await rig.input(session, "call_refund", approved=True, payload=1)
    await rig.input(session, "call_refund", approved=True)
    assert (await rig.result(ref))["status"] == "success"
    again = await rig.input(session, "call_refund", approved=True, reason="once more")
    assert again["status"] == "completed"
    with pytest.raises(Conflict):
        await rig.input(session, "call_refund", approved=False)
    assert kinds(await rig.chunks(session)).count("input") == 1


async def three(turn: Turn) -> AsyncIterator[AgentChunk]:
    yield "Three things. "
    said = await asyncio.gather(
        turn.ask("Your name?", {"type": "string", "minLength": 1}, call_id="name"),
        turn.ask("Your age?", {"type": "integer"}, call_id="age"),
        turn.approve(ToolCall("write", {"to": "disk"}), expires_in=50),
    )
    yield f"{said[0]} {said[1]} {bool(said[2])}"


@pytest.mark.parametrize("crashes", [False, True])
async def test_several_asks_answered_in_reverse(rig: Rig, crashes: bool) -> None:
    rig.agents["three"] = Scripted(three)
    ref = await rig.execute(agent="three")
    session = ref.session_id
    seen = await rig.watch(session)
    asks = [chunk for chunk in seen if chunk["type"] == "input_required"]
    assert [ask["call_id"] for ask in asks] == ["name", "age", "call_1"]
    assert seen[-1]["calls"] == ["name", "age", "call_1"]
    if crashes:
        await rig.crash()
        await rig.open()
    with pytest.raises(InvalidRequest) as caught:
        await rig.input(session, "age", payload="old")
    assert list(caught.value.details["fields"]) == ["payload"]
    await rig.input(session, "call_1", approved=True)
    assert await rig.watch(session, ReadFrom(after=seen[-1]["position"])) != []
    assert (await rig.input(session, "age", payload=7))["status"] == "waiting"
    assert [a["call_id"] for a in (await rig.get(session))["waiting"]] == ["name"]
    assert (await rig.input(session, "name", payload="Ada"))["status"] == "running"
    assert (await rig.result(ref))["output"] == "Three things. Ada 7 True"
    chunks = await rig.chunks(session)
    assert_sound(chunks)
    assert [c["call_id"] for c in chunks if c["type"] == "input"] == ["call_1", "age", "name"]
    assert kinds(chunks).count("waiting") == 1


async def declined(turn: Turn) -> AsyncIterator[AgentChunk]:
    try:
        yield str(await turn.ask("Where to?", expires_in=30))
    except NotAnswered as error:
        yield f"({error.answer.status}: {error.message})"


async def test_a_person_declines(rig: Rig) -> None:
    rig.agents["asks"] = Scripted(declined)
    ref = await rig.execute(agent="asks")
    await rig.watch(ref.session_id)
    await rig.input(ref.session_id, "ask_1_1", approved=False, reason="no")
    assert (await rig.result(ref))["output"] == "(answered: denied: no)"


@pytest.mark.parametrize("crashes", [False, True])
async def test_an_ask_expires_over_a_restart(rig: Rig, crashes: bool) -> None:
    rig.agents["asks"] = Scripted(declined)
    ref = await rig.execute(agent="asks")
    session = ref.session_id
    await rig.watch(session)
    await rig.expire()
    assert (await rig.state(session)).status == "waiting"
    if crashes:
        await rig.crash()
        await rig.open()
    rig.ahead = 31.0
    await rig.expire()
    result = await rig.result(ref)
    assert result["output"] == "(expired: nobody answered in time)"
    chunks = await rig.chunks(session)
    assert_sound(chunks)
    assert [(c["call_id"], c["status"]) for c in chunks if c["type"] == "input"] == [
        ("ask_1_1", "expired")
    ]
    with pytest.raises(Conflict):
        await rig.input(session, "ask_1_1", payload="late")


async def test_a_late_answer_is_refused_before_the_timer_looks(rig: Rig) -> None:
    rig.agents["asks"] = Scripted(declined)
    ref = await rig.execute(agent="asks")
    await rig.watch(ref.session_id)
    rig.ahead = 31.0
    with pytest.raises(Conflict):
        await rig.input(ref.session_id, "ask_1_1", payload="late")
    assert (await rig.result(ref))["output"] == "(expired: nobody answered in time)"


@pytest.mark.parametrize("held", [True, False])
async def test_a_turn_that_waits_is_cancelled(
    rig: Rig, refunds: Refunds, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_run, "HOLD_SECONDS", 60.0 if held else 0.0)
    ref = await rig.execute(agent="refunds")
    session = ref.session_id
    await rig.watch(session)
    if not held:
        await until_rests(rig, session)
    assert (await rig.cancel(session))["cancelled"] == [1]
    result = await rig.result(ref)
    while result["status"] == "waiting":
        result = await rig.result(ref)
    assert (result["status"], result["output"]) == ("cancelled", "Looking. ")
    chunks = await rig.chunks(session)
    assert_sound(chunks)
    assert kinds(chunks[5:]) == ["input", "step", "done"]
    assert chunks[5]["status"] == "cancelled"
    with pytest.raises(Conflict):
        await rig.input(session, "call_refund", approved=True)
    assert refunds.paid == []


async def test_other_turns_behind_one_that_waits(rig: Rig, refunds: Refunds) -> None:
    ref = await rig.execute(agent="refunds")
    session = ref.session_id
    await rig.watch(session)
    with pytest.raises(SessionBusy):
        await rig.execute("next", session=session, agent="refunds")
    behind = await rig.execute("next", session=session, agent="refunds", if_busy="enqueue")
    await rig.crash()
    assert await rig.open() == (0, 1)
    await until_rests(rig, session)
    assert await rig.log.pending() == []
    await rig.input(session, "call_refund", approved=True)
    assert (await rig.result(ref))["status"] == "success"
    await rig.until_status(session, "waiting")
    assert (await rig.result(behind))["status"] == "waiting"
    third = await rig.execute("third", session=session, agent="refunds", if_busy="interrupt")
    assert (await rig.result(third))["status"] == "waiting"
    chunks = await rig.chunks(session)
    assert_sound(chunks)
    assert [c["status"] for c in chunks if c["type"] == "done"] == ["success", "cancelled"]
    await rig.service.delete(ME, session)
    with pytest.raises(NotFound):
        await rig.get(session)


class Continues:
    """Asks by yielding, and goes on where it was with what it kept."""

    async def run(self, turn: Turn) -> AsyncIterator[AgentChunk]:
        asked = len(turn.answers)
        if not asked:
            yield Step("work")
        else:
            yield f"{turn.kept['said']}={turn.answers[f'q{asked}'].payload} "
        if asked < 3:
            yield Keep({"said": asked + 1})
            yield Ask("input", f"Question {asked + 1}", call_id=f"q{asked + 1}")
        else:
            yield Step("work", "completed")


async def test_an_agent_that_returns_is_started_again_with_the_answers(rig: Rig) -> None:
    rig.agents["continues"] = Continues()
    ref = await rig.execute(agent="continues")
    session = ref.session_id
    for number in (1, 2, 3):
        await until_rests(rig, session)
        if number == 2:
            await rig.crash()
            assert await rig.open() == (0, 0)
        await rig.input(session, f"q{number}", payload=number * 10)
        if number < 3:
            async with asyncio.timeout(10):
                while f"q{number + 1}" not in {
                    a.call_id for a in (await rig.state(session)).turns[0].asks
                }:
                    await asyncio.sleep(0.005)
    result = await rig.result(ref)
    assert result["output"] == "1=10 2=20 3=30 "
    assert result["usage"]["steps"] == 1
    chunks = await rig.chunks(session)
    assert_sound(chunks)
    assert kinds(chunks).count("step") == 2


async def test_an_agent_that_cannot_be_started_again_is_lost(rig: Rig, refunds: Refunds) -> None:
    refunds.restartable = False
    ref = await rig.execute(agent="refunds")
    session = ref.session_id
    await rig.watch(session)
    await rig.crash()
    assert await rig.open() == (0, 0)
    result = await rig.result(ref)
    while result["status"] == "waiting":
        result = await rig.result(ref)
    assert (result["status"], result["error"]["code"]) == ("failed", "RUNNER_LOST")
    chunks = await rig.chunks(session)
    assert_sound(chunks)
    assert kinds(chunks[5:]) == ["input", "step", "error", "done"]


async def slow(turn: Turn) -> AsyncIterator[AgentChunk]:
    await asyncio.sleep(0.15)
    await turn.ask("Go on?", call_id="one")
    await asyncio.sleep(0.15)
    yield "there"
    await asyncio.sleep(30)


async def test_only_running_counts_against_the_time(rig: Rig) -> None:
    rig.agents["slow"] = Scripted(slow)
    ref = await rig.execute(agent="slow", timeout_seconds=0.6)
    await rig.watch(ref.session_id)
    await asyncio.sleep(0.7)
    assert (await rig.state(ref.session_id)).status == "waiting"
    await rig.input(ref.session_id, "one", payload=None)
    result = await rig.result(ref)
    assert (result["status"], result["output"]) == ("timeout", "there")
    assert 550 <= result["usage"]["duration_ms"] < 900


async def withdraws(turn: Turn) -> AsyncIterator[AgentChunk]:
    try:
        async with asyncio.timeout(0.1):
            await turn.ask("Quick!", call_id="quick")
    except TimeoutError:
        yield "never mind"


async def test_an_agent_waits_no_more(rig: Rig) -> None:
    rig.agents["withdraws"] = Scripted(withdraws)
    ref = await rig.execute(agent="withdraws")
    session = ref.session_id
    await rig.until_status(session, "completed")
    chunks = await rig.chunks(session)
    assert_sound(chunks)
    assert kinds(chunks) == [
        "input_required", "waiting", "input", "step", "text", "step", "done",
    ]  # fmt: skip
    assert chunks[2]["status"] == "cancelled"
    assert (await rig.result(ref))["output"] == "never mind"


async def test_drain_lets_go_of_turns_that_wait(rig: Rig, refunds: Refunds) -> None:
    ref = await rig.execute(agent="refunds")
    session = ref.session_id
    await rig.watch(session)
    async with asyncio.timeout(5):
        await rig.supervisor.drain(20)
    assert (await rig.state(session)).rests
    await rig.close()
    assert await rig.open() == (0, 0)
    await rig.input(session, "call_refund", approved=True)
    assert (await rig.result(ref))["output"] == "Looking. Paid."
    assert refunds.paid == [7]


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (Ask("approval"), "names a tool"),
        (Ask("input", schema={"type": 7}), "schema"),
        (Ask("input", schema={"$ref": "https://example.com/a"}), "leads out"),
        (Ask("input", "x" * 5_000), "characters"),
        (Ask("input", expires_in=0), "expires_in"),
        (Ask("tool", tool="t", args={"a": "x" * 300_000}), "too large"),
    ],
)
async def test_asks_that_cannot_be_made(rig: Rig, ask: Ask, words: str) -> None:
    async def script(turn: Turn) -> AsyncIterator[AgentChunk]:
        yield ask

    rig.agents["bad"] = Scripted(script)
    result = await rig.run(agent="bad")
    assert result["status"] == "failed"
    assert words in result["error"]["message"]


async def test_a_replay_that_asks_for_nothing_fails(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_run, "HOLD_SECONDS", 0.0)
    runs: list[int] = []

    async def script(turn: Turn) -> AsyncIterator[AgentChunk]:
        runs.append(1)
        yield "hello"
        if len(runs) == 1:
            await turn.ask("?", call_id="once")

    rig.agents["fickle"] = Scripted(script)
    ref = await rig.execute(agent="fickle")
    await until_rests(rig, ref.session_id)
    await rig.input(ref.session_id, "once", payload=1)
    result = await rig.result(ref)
    assert "did not ask" in result["error"]["message"]
    assert text_of(await rig.chunks(ref.session_id)) == "hello"


async def test_on_disconnect_looks_away_while_the_turn_waits(rig: Rig, refunds: Refunds) -> None:
    ref = await rig.execute(agent="refunds", on_disconnect="cancel")
    session = ref.session_id
    await rig.until_status(session, "waiting")
    await asyncio.sleep(3 * rig.limits.disconnect_grace)
    assert (await rig.state(session)).status == "waiting"
    await rig.input(session, "call_refund", approved=True)
    assert (await rig.result(ref))["status"] == "success"


async def test_the_list_shows_what_is_asked(rig: Rig, refunds: Refunds) -> None:
    ref = await rig.execute(agent="refunds")
    await rig.watch(ref.session_id)
    page = await rig.service.list_sessions(
        ME, agent_id=None, status="waiting", limit=10, cursor=None
    )
    asks = [item["waiting"] for item in page.items]
    assert [(ask["call_id"], ask["kind"], ask["tool"]) for (ask,) in asks] == [
        ("call_refund", "approval", "refund")
    ]


async def test_a_turn_that_waits_is_none_of_the_running_ones(rig: Rig, refunds: Refunds) -> None:
    turns = TurnLimit(1)
    ref = await rig.execute(agent="refunds")
    running = await rig.state(ref.session_id)
    await rig.until_status(ref.session_id, "waiting")
    turns.changed(running)
    assert turns.count("key") == 0
    await rig.input(ref.session_id, "call_refund", approved=True)
    turns.changed(await rig.state(ref.session_id))
    await rig.result(ref)
    turns.changed(await rig.state(ref.session_id))
    assert turns.count("key") == 0


@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize("hold", [0.0, 60.0])
async def test_an_agent_on_a_loop_of_its_own(
    rig: Rig, isolated: bool, hold: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_run, "HOLD_SECONDS", hold)
    # On a busy machine a thread asks three times over more than the usual 10 ms.
    monkeypatch.setattr(asks, "_GATHER", 0.5)
    agent = PythonAgent("tests:three", three)
    agent.is_isolated = isolated
    rig.agents["three"] = agent
    ref = await rig.execute(agent="three")
    session = ref.session_id
    seen = await rig.watch(session)
    assert sorted(seen[-1]["calls"]) == ["age", "call_1", "name"]
    if not hold:
        await until_rests(rig, session)
    await rig.input(session, "name", payload="Ada")
    await rig.input(session, "age", payload=7)
    await rig.input(session, "call_1", approved=True)
    assert (await rig.result(ref))["output"] == "Three things. Ada 7 True"
    chunks = await rig.chunks(session)
    assert_sound(chunks)
    assert kinds(chunks).count("waiting") == 1
    assert kinds(chunks).count("tool_call") == 1


def test_an_agent_says_that_it_cannot_be_started_again() -> None:
    assert PythonAgent("tests:three", three).restartable

    @declare(restartable=False)
    async def once(turn: Turn) -> AsyncIterator[AgentChunk]:
        yield turn.goal

    assert not PythonAgent("tests:once", once).restartable
