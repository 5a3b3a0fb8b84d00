"""How a turn ends, whatever ends it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial

import pytest
from resonantgenesis_server.agents.base import Agent, Turn
from resonantgenesis_server.agents.engines.python import PythonAgent
from resonantgenesis_server.model.chunks import AgentChunk, Step, Text, ToolCall, ToolResult, Usage
from resonantgenesis_server.model.errors import STREAM_CODES, AgentError
from structlog.testing import capture_logs

from .agents import Gate, Script, Scripted
from .rig import Rig, assert_sound, kinds, text_of

pytestmark = pytest.mark.anyio


async def test_success_says_all_of_it_and_ends_with_one_done(rig: Rig) -> None:
    ref = await rig.execute("one two three")
    result = await rig.result(ref)
    chunks = await rig.chunks(ref.session_id)
    assert_sound(chunks)
    assert kinds(chunks) == ["step", "text", "text", "text", "step", "done"]
    assert chunks[0] | {"name": "answer", "session_id": ref.session_id, "turn": 1} == chunks[0]
    assert chunks[0]["agent_id"] == "echo"
    assert result["status"] == "success"
    assert result["output"] == text_of(chunks) == "onetwothree"
    assert result["position"] == 6
    assert result["usage"]["steps"] == 1
    assert "error" not in result


async def test_every_kind_of_chunk_reaches_the_log(rig: Rig) -> None:
    async def script(_turn: Turn) -> AsyncIterator[AgentChunk]:
        yield Step("think")
        yield ToolCall("search", {"q": 1})
        yield ToolResult("search", {"found": []})
        yield Step("think", "completed")
        yield Usage(3, 4)
        yield Text("so")
        yield Usage(1, 1)

    rig.agents["all"] = Scripted(script)
    ref = await rig.execute(agent="all")
    result = await rig.result(ref)
    chunks = await rig.chunks(ref.session_id)
    assert kinds(chunks) == ["step", "tool_call", "tool_result", "step", "text", "done"]
    assert chunks[1]["call_id"] == chunks[2]["call_id"] == "call_1"
    assert result["usage"] | {"input_tokens": 4, "output_tokens": 5} == result["usage"]


async def test_the_agent_sees_the_turn(rig: Rig) -> None:
    echo = Scripted(lambda turn: _said("yes"))
    rig.agents["echo"] = echo
    session = await rig.create(context={"a": 1, "b": 1}, metadata={"m": 1})
    await rig.run("first", session=session, context={"b": 2})
    await rig.run("second", session=session, metadata={"n": 2}, tools=["t"], max_steps=3)
    first, second = echo.turns
    assert (first.goal, first.turn, first.history) == ("first", 1, [])
    assert first.context == {"a": 1, "b": 2}
    assert (second.turn, second.max_steps, second.tools) == (2, 3, ["t"])
    assert [(p.goal, p.output, p.status) for p in second.history] == [("first", "yes", "success")]
    assert second.metadata == {"m": 1, "n": 2}
    assert (second.model, second.instructions) == ("a-model", "be kind")


async def test_the_agent_sees_the_tools_that_earlier_turns_called(rig: Rig) -> None:
    said = Scripted(lambda turn: _said(*(worked if turn.turn == 1 else ["yes"])))
    worked: list[AgentChunk] = [
        "Let me ",
        "see. ",
        ToolCall("search", {"for": "a"}, "1"),
        ToolCall("search", {"for": "b"}, "2"),
        ToolResult("search", {"found": ["B"]}, "2"),
        ToolResult("search", "x" * 9_000, "1", is_error=True),
        ToolCall("sum", {"of": "y" * 9_000}),
        "So.",
        ToolCall("sum"),
        ToolResult("sum", 3),
        "Done.",
    ]
    rig.agents["echo"] = said
    session = await rig.create()
    await rig.run("first", session=session)
    for forgotten in (False, True):
        if forgotten:
            rig.supervisor.history._known.clear()
        await rig.run("second", session=session)
        past = said.turns[-1].history[0]
        assert past.output == "Let me see. So.Done."
        first, second, third = past.steps
        assert (first.text, second.text, third.text) == ("Let me see. ", "", "So.")
        one, two = first.calls
        assert (one.tool, one.args, one.is_error) == ("search", {"for": "a"}, True)
        assert len(one.result) < 4_100 and "characters left out" in one.result
        assert (two.args, two.result) == ({"for": "b"}, '{"found":["B"]}')
        assert [call.tool for call in (*second.calls, *third.calls)] == ["sum", "sum"]
        assert {call.result for call in (*second.calls, *third.calls)} == {"3", None}
        assert "left_out" in second.calls[0].args
    assert said.turns[-1].history[1].steps == ()


async def test_a_turn_of_very_many_calls_is_remembered_within_bounds(rig: Rig) -> None:
    worked: list[AgentChunk] = []
    for n in range(150):
        worked += [ToolCall("t", {"n": n}, f"{n}"), ToolResult("t", "x" * 9_000, f"{n}")]
    said = Scripted(lambda turn: _said(*(worked if turn.turn == 1 else ["yes"])))
    rig.agents["echo"] = said
    session = await rig.create()
    await rig.run("first", session=session)
    await rig.run("second", session=session)
    [past] = said.turns[-1].history
    calls = [call for step in past.steps for call in step.calls]
    assert [call.args["n"] for call in calls] == list(range(50, 150))
    assert sum(len(call.result or "") for call in calls) < 100_000


async def _said(*words: AgentChunk) -> AsyncIterator[AgentChunk]:
    for word in words:
        yield word


@pytest.mark.parametrize("code", [*STREAM_CODES, "RATE_LIMITED", "PAYLOAD_TOO_LARGE"])
async def test_an_agents_own_error_is_told(rig: Rig, gate: Gate, code: str) -> None:
    gate.say("some", AgentError("the words", code, retry_after=7 if code == "TIMEOUT" else None))
    ref = await rig.execute(agent="gate")
    result = await rig.result(ref)
    chunks = await rig.chunks(ref.session_id)
    assert kinds(chunks)[-3:] == ["step", "error", "done"]
    assert (chunks[-3]["status"], chunks[-3]["finish_reason"]) == ("completed", "failed")
    error = chunks[-2]
    assert (error["code"], error["message"]) == (code, "the words")
    assert error["retryable"] is (STREAM_CODES | {"RATE_LIMITED": True}).get(code, False)
    assert error.get("retry_after") == {"RATE_LIMITED": 1.0, "TIMEOUT": 7}.get(code)
    assert (result["status"], result["output"]) == ("failed", "some")
    assert result["error"]["code"] == code


@pytest.mark.parametrize("error", [RuntimeError("secret"), KeyError("secret"), GeneratorExit()])
async def test_what_other_exceptions_say_is_for_the_log_only(
    rig: Rig, error: BaseException
) -> None:
    async def script(_turn: Turn) -> AsyncIterator[AgentChunk]:
        yield "some"
        raise error

    rig.agents["broken"] = Scripted(script)
    with capture_logs() as logs:
        ref = await rig.execute(agent="broken")
        result = await rig.result(ref)
    assert result["error"] == {
        "code": "AGENT_FAILED",
        "message": "the agent failed",
        "retryable": False,
        "request_id": "req_1",
    }
    assert "secret" not in str(await rig.chunks(ref.session_id))
    told = [entry for entry in logs if entry["event"] == "agent failed"]
    assert told
    assert told[0]["exc_info"] is error
    assert (told[0]["request_id"], told[0]["agent"]) == ("req_1", "broken")
    ended = [entry for entry in logs if entry["event"] == "turn ended"]
    assert [entry["agent"] for entry in ended] == ["broken"]


async def exits(turn: Turn) -> AsyncIterator[AgentChunk]:
    yield "some"
    sys.exit(3)


async def interrupts(turn: Turn) -> AsyncIterator[AgentChunk]:
    yield "some"
    raise KeyboardInterrupt


async def exits_in_a_worker(turn: Turn) -> AsyncIterator[AgentChunk]:
    yield "some"
    await asyncio.to_thread(sys.exit, 3)


async def interrupts_when_cancelled(turn: Turn) -> AsyncIterator[AgentChunk]:
    yield "some"
    try:
        await asyncio.sleep(3600)
    finally:
        raise KeyboardInterrupt


def exits_in_a_thread(turn: Turn) -> Iterator[AgentChunk]:
    yield "some"
    sys.exit(3)


def interrupts_in_a_thread(turn: Turn) -> Iterator[AgentChunk]:
    yield "some"
    raise KeyboardInterrupt


@pytest.mark.parametrize("engine", [Scripted, partial(PythonAgent, "m:a")])
@pytest.mark.parametrize("script", [exits, interrupts, exits_in_a_worker])
async def test_what_would_end_the_process_ends_the_turn(
    rig: Rig, script: Script, engine: Callable[[Script], Agent]
) -> None:
    rig.agents["exits"] = engine(script)
    result = await rig.run(agent="exits")
    assert (result["status"], result["error"]["code"]) == ("failed", "AGENT_FAILED")
    assert (await rig.run("and on"))["output"] == "andon"


@pytest.mark.parametrize("script", [exits_in_a_thread, interrupts_in_a_thread])
async def test_nor_does_it_from_a_thread(rig: Rig, script: Callable[[Turn], object]) -> None:
    rig.agents["exits"] = PythonAgent("m:a", script)
    result = await rig.run(agent="exits")
    assert (result["status"], result["error"]["code"]) == ("failed", "AGENT_FAILED")
    assert result["output"] == "some"


async def test_nor_in_answer_to_a_cancellation(rig: Rig) -> None:
    rig.agents["exits"] = Scripted(interrupts_when_cancelled)
    ref = await rig.execute(agent="exits")
    await rig.until_head(ref.session_id, 2)
    await rig.cancel(ref.session_id)
    assert (await rig.result(ref))["status"] == "cancelled"
    assert (await rig.run("and on"))["output"] == "andon"


@pytest.mark.parametrize(
    "bad", [3, b"x", ToolCall("t", {"x": {1, 2}}), Step("never", "completed")], ids=repr
)
async def test_what_is_no_chunk_fails_the_turn(rig: Rig, bad: AgentChunk) -> None:
    rig.agents["bad"] = Scripted(lambda _turn: _said("some", bad))
    result = await rig.run(agent="bad")
    assert (result["status"], result["error"]["code"]) == ("failed", "AGENT_FAILED")
    assert result["output"] == "some"


async def test_an_agent_that_cancels_itself_has_failed(rig: Rig) -> None:
    async def script(_turn: Turn) -> AsyncIterator[AgentChunk]:
        yield "some"
        raise asyncio.CancelledError

    rig.agents["self"] = Scripted(script)
    result = await rig.run(agent="self")
    assert (result["status"], result["error"]["code"]) == ("failed", "AGENT_FAILED")


async def test_an_agent_that_cannot_even_be_asked_has_failed(rig: Rig) -> None:
    def run(_turn: Turn) -> AsyncIterator[AgentChunk]:
        raise RuntimeError("at once")

    rig.agents["at-once"] = Scripted(run)
    rig.agents["no-iterator"] = Scripted(lambda _turn: None)  # type: ignore[arg-type,return-value]
    for agent in ("at-once", "no-iterator"):
        result = await rig.run(agent=agent)
        assert (result["status"], result["error"]["code"]) == ("failed", "AGENT_FAILED")


async def test_timeout_keeps_what_was_said(rig: Rig, gate: Gate) -> None:
    gate.say("partial")
    ref = await rig.execute(agent="gate", timeout_seconds=0.05)
    result = await rig.result(ref)
    chunks = await rig.chunks(ref.session_id)
    assert kinds(chunks) == ["step", "text", "step", "error", "done"]
    assert chunks[2]["finish_reason"] == "timeout"
    assert chunks[3]["code"] == "TIMEOUT"
    assert (result["status"], result["output"]) == ("timeout", "partial")
    assert (await rig.get(ref.session_id))["status"] == "timeout"
    assert gate.cancelled == [1]


async def test_a_call_that_was_not_answered_stays_without_a_result(rig: Rig, gate: Gate) -> None:
    done_step = Step("ask", "completed", finish_reason="tool_calls")
    gate.say(Step("ask"), ToolCall("slow", {"n": 1}), done_step, Step("wait"))
    ref = await rig.execute(agent="gate")
    await rig.until_head(ref.session_id, 4)
    await rig.cancel(ref.session_id)
    await rig.result(ref)
    chunks = await rig.chunks(ref.session_id)
    assert kinds(chunks) == ["step", "tool_call", "step", "step", "step", "done"]
    # What the agent completed keeps its own words.
    assert [c.get("finish_reason") for c in chunks if c["type"] == "step"] == [
        None, "tool_calls", None, "cancelled",
    ]  # fmt: skip


async def test_max_steps(rig: Rig) -> None:
    rig.agents["steps"] = Scripted(lambda _turn: _said(*[Step(f"s{n}") for n in range(4)]))
    ref = await rig.execute(agent="steps", max_steps=3)
    result = await rig.result(ref)
    chunks = await rig.chunks(ref.session_id)
    assert (result["status"], result["error"]["code"]) == ("failed", "MAX_STEPS")
    assert [c["step"] for c in chunks if c["type"] == "step"] == [1, 2, 3, 3, 2, 1]
    assert result["steps"] == 3


async def test_a_turn_has_a_bound_of_chunks(rig: Rig) -> None:
    async def script(_turn: Turn) -> AsyncIterator[AgentChunk]:
        while True:
            yield "x"

    rig.limits = rig.supervisor.limits = type(rig.limits)(chunks_per_session=100)
    rig.agents["endless"] = Scripted(script)
    result = await rig.run(agent="endless")
    assert (result["status"], result["error"]["code"]) == ("failed", "PAYLOAD_TOO_LARGE")


async def test_an_agent_deleted_before_its_turn_fails_the_turn(rig: Rig, gate: Gate) -> None:
    session = await rig.create("gate")
    await rig.execute("first", session=session)
    queued = await rig.execute("second", session=session, if_busy="enqueue")
    del rig.agents["gate"]
    gate.end()
    result = await rig.result(queued)
    assert (result["status"], result["error"]["code"]) == ("failed", "AGENT_NOT_FOUND")


@pytest.mark.parametrize("filler", ["\x01", "\U0001f600", "\u2028", "x"])
async def test_an_output_of_any_characters_fits_into_done(rig: Rig, filler: str) -> None:
    """Counted in characters it would be up to six times too long for one append."""
    said = filler * 1_100_000
    rig.agents["long"] = Scripted(lambda _turn: _said(said))
    ref = await rig.execute(agent="long")
    result = await rig.result(ref)
    chunks = await rig.chunks(ref.session_id)
    assert result["status"] == "success"
    assert text_of(chunks) == said
    assert chunks[-1]["output_truncated"] is True
    assert said.startswith(result["output"])
    assert result["output"]
    got = await rig.get(ref.session_id)
    assert (got["output"], got["output_truncated"]) == (result["output"], True)
    assert result["output_truncated"] is True


async def test_huge_words_of_an_error_and_many_open_steps_still_end_the_turn(rig: Rig) -> None:
    rig.supervisor.limits = rig.limits
    steps = [Step("\x01" * 84 + str(n)) for n in range(1_000)]

    async def script(_turn: Turn) -> AsyncIterator[AgentChunk]:
        for step in steps:
            yield step
        yield "x" * 1_100_000
        raise AgentError("e" * 5_000_000)

    rig.agents["huge"] = Scripted(script)
    result = await rig.run(agent="huge", max_steps=1_000)
    assert (result["status"], result["error"]["code"]) == ("failed", "AGENT_FAILED")
    assert len(result["error"]["message"]) == 4_000


async def test_a_steps_name_has_a_bound(rig: Rig) -> None:
    rig.agents["name"] = Scripted(lambda _turn: _said(Step("n" * 600)))
    result = await rig.run(agent="name")
    assert result["error"]["code"] == "PAYLOAD_TOO_LARGE"


async def test_an_ending_that_cannot_be_stored_is_replaced(
    rig: Rig, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever we do wrong in an ending, the session does not stay running."""
    session_end = "resonantgenesis_server.sessions.session_log.SessionLog.end"
    from_there = __import__(
        "resonantgenesis_server.sessions.session_log", fromlist=["SessionLog"]
    ).SessionLog.end

    async def end(self: object, turn: object, ending: object) -> None:
        if ending.status == "success":  # type: ignore[attr-defined]
            raise ValueError("an append of 5000000 bytes")
        await from_there(self, turn, ending)

    monkeypatch.setattr(session_end, end)
    gate.say("some")
    gate.end()
    ref = await rig.execute(agent="gate")
    result = await rig.result(ref)
    assert (result["status"], result["error"]["code"]) == ("failed", "INTERNAL")
    assert (await rig.run(session=ref.session_id, agent="gate", timeout_seconds=0.05))["turn"] == 2


async def test_a_step_whose_chunk_was_refused_is_seen_before_the_agent_has_cleaned_up(
    rig: Rig,
) -> None:
    cleaned = asyncio.Event()

    async def agent(turn: Turn) -> AsyncIterator[AgentChunk]:
        try:
            yield ToolCall("t", {"a": "x" * rig.limits.chunk})
        finally:
            await cleaned.wait()

    rig.agents["large"] = PythonAgent("test:agent", agent)
    ref = await rig.execute(agent="large")
    await rig.until_head(ref.session_id, 1)
    cleaned.set()
    assert (await rig.result(ref))["status"] == "failed"
    assert kinds(await rig.chunks(ref.session_id)) == ["step", "step", "error", "done"]
