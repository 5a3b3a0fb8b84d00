"""What the engine makes of a model's answers: steps, tools, usage, ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest
from resonantgenesis_server.agents.base import Turn
from resonantgenesis_server.model.chunks import Reasoning, Source, Step, ToolCall, ToolResult
from resonantgenesis_server.model.errors import AgentError
from support.models import Call, FakeProvider, Reply

from .llm_agents import Broken, Crashing, Echo, Hanging, Talk, text_of, usage_of, without_usage
from .llm_quirks import faults_of

pytestmark = pytest.mark.anyio
MakeTurn = Callable[..., Turn]
MakeTalk = Callable[..., Talk]
FINISHED = Step("model", "completed", finish_reason="stop")
CALLED = Step("model", "completed", finish_reason="tool_calls")


@pytest.fixture
async def make_talk(provider: FakeProvider) -> AsyncIterator[MakeTalk]:
    made: list[Talk] = []

    def make(*tools: Any, **settings: Any) -> Talk:
        made.append(Talk(provider, *tools, **settings))
        return made[-1]

    yield make
    for talk in made:
        await talk.engine.close()


@pytest.mark.parametrize("model", ["local:m", "anthropic:m"])
async def test_a_turn_with_tools(
    provider: FakeProvider, make_talk: MakeTalk, make_turn: MakeTurn, model: str
) -> None:
    calls = [Call("echo", {"say": "a"}, "x"), Call("echo", {"say": "b"}, "y")]
    provider.answer(
        "m", Reply.saying("Let me see.", calls=calls), Reply.saying("It is done.", usage=(5, 3))
    )
    chunks = await make_talk().run(make_turn("do it", turn=3, history=[]), model)
    first, second = (
        ToolCall("echo", {"say": "a"}, "call_3_1"),
        ToolCall("echo", {"say": "b"}, "call_3_2"),
    )
    told = without_usage(chunks)
    assert told[:4] == [told[0], "Let me see.", first, second]
    assert {(r.call_id, r.result["args"]["say"], r.result["session"]) for r in told[4:6]} == {
        ("call_3_1", "a", "sess_1"),
        ("call_3_2", "b", "sess_1"),
    }
    assert told[6:] == [CALLED, Step("model"), "It is done.", FINISHED]
    assert usage_of(chunks) == (16, 10)
    said = str(provider.seen[1].body["messages"])
    assert said.index("'x'") < said.index("'y'")  # in the order asked, whatever ran faster


async def test_tools_that_fail_are_told_to_the_model(
    provider: FakeProvider, make_talk: MakeTalk, make_turn: MakeTurn
) -> None:
    calls = [
        Call("broken"),
        Call("crashing"),
        Call("hanging"),
        Call("unknown"),
        Call("echo", raw='{"say": '),
        Call("echo", raw="[1]"),
        Call("echo", raw=""),
    ]
    provider.answer("m", Reply(calls=calls), Reply.saying("I did what I could."))
    hanging = Hanging()
    talk = make_talk(Broken(), Crashing(), hanging, tool_timeout=0.05)
    chunks = await talk.run(make_turn())
    assert text_of(chunks) == "I did what I could."
    results = sorted(
        (c for c in chunks if isinstance(c, ToolResult)), key=lambda r: int(r.call_id[7:])
    )
    said = [str(result.result) for result in results]
    assert [result.is_error for result in results] == [True] * 6 + [False]
    assert said[:3] == [
        "it is out of order",
        "crashing failed",
        "hanging gave no result within 0.05 s",
    ]
    assert "there is no tool 'unknown' here; there are: echo" in said[3]
    assert said[4].startswith("the arguments are no JSON")
    assert said[5] == "the arguments must be a JSON object"
    assert hanging.cancelled.is_set()
    told = [m["content"] for m in provider.seen[1].body["messages"] if m["role"] == "tool"]
    assert [content.startswith("Error: ") for content in told] == [True] * 6 + [False]
    assert "secret" not in str(told)


@pytest.mark.parametrize("model", ["local:m", "anthropic:m"])
async def test_a_badly_written_call_goes_back_as_it_was_understood(
    provider: FakeProvider, make_talk: MakeTalk, make_turn: MakeTurn, model: str
) -> None:
    calls = [
        Call("echo", raw='{"say": ', call_id="a"),
        Call("echo", raw="[1]", call_id="a"),
        Call("my tool!", {"say": "x"}, ""),
        Call("e" * 99, {"say": "x"}, "d"),
        Call("echo", {"say": "x"}, "e"),
    ]
    provider.answer("m", Reply(calls=calls), Reply(calls=calls), Reply.saying("So."))
    chunks = await make_talk().run(make_turn(), model)
    assert text_of(chunks) == "So."
    results = [chunk for chunk in chunks if isinstance(chunk, ToolResult)]
    assert sum(not result.is_error for result in results) == 2
    said = provider.seen[-1].body["messages"]
    assert sum(message["role"] == "assistant" for message in said) == 2
    if model.startswith("local"):
        assert faults_of(provider.seen[-1].body) == []
        inputs = [json.loads(c["function"]["arguments"]) for c in said[1]["tool_calls"]]
        names = [call["function"]["name"] for call in said[1]["tool_calls"]]
    else:
        used = [part for m in said for part in m["content"] if part["type"] == "tool_use"]
        given = [part for m in said for part in m["content"] if part["type"] == "tool_result"]
        ids = [part["id"] for part in used]
        assert len(set(ids)) == 10 and ids == [part["tool_use_id"] for part in given]
        inputs = [part["input"] for part in used[:5]]
        names = [part["name"] for part in used[:5]]
    assert inputs == [{}, {}, {"say": "x"}, {"say": "x"}, {"say": "x"}]
    assert names == ["echo", "echo", "my_tool_", "e" * 64, "echo"]


async def test_a_turn_gets_only_the_tools_it_names(
    provider: FakeProvider, make_talk: MakeTalk, make_turn: MakeTurn
) -> None:
    provider.answer("m", Reply.saying("x"))
    talk = make_talk(Broken())
    await talk.run(make_turn(tools=["broken"]))
    await talk.run(make_turn(tools=[]))
    first, second = (seen.body for seen in provider.seen)
    assert [tool["function"]["name"] for tool in first["tools"]] == ["broken"]
    assert "tools" not in second


async def test_steps_are_bounded_and_no_tool_runs_whose_result_nobody_reads(
    provider: FakeProvider, make_talk: MakeTalk, make_turn: MakeTurn
) -> None:
    provider.answer("m", Reply.saying("again", calls=[Call("echo")]))
    chunks: list[Any] = []
    with pytest.raises(AgentError, match="more than 2 steps") as ended:
        async for chunk in make_talk().agent().run(make_turn(max_steps=2)):
            chunks.append(chunk)
    assert ended.value.code == "MAX_STEPS"
    assert len(provider.seen) == 2
    assert sum(isinstance(chunk, ToolCall) for chunk in chunks) == 1
    assert sum(chunk == Step("model") for chunk in chunks) == 2


@pytest.mark.parametrize("shown", [True, False])
async def test_reasoning_is_progress_of_the_step_where_the_agent_says_so(
    provider: FakeProvider, make_talk: MakeTalk, make_turn: MakeTurn, shown: bool
) -> None:
    thoughts = [f"thought {n} " * 5 for n in range(8)]
    provider.answer("m", Reply.saying("So.", reasoning=thoughts))
    chunks = without_usage(await make_talk().run(make_turn(), show_reasoning=shown))
    progress = [c for c in chunks if isinstance(c, Step) and c.status == "progress"]
    assert "".join(step.detail for step in progress) == ("".join(thoughts) if shown else "")
    assert len(progress) < len(thoughts)
    assert chunks == [Step("model"), *progress, "So.", FINISHED]


async def test_reasoning_is_chunks_of_its_own_where_the_agent_says_so(
    provider: FakeProvider, make_talk: MakeTalk, make_turn: MakeTurn
) -> None:
    provider.answer("m", Reply.saying("So.", reasoning=["It must", " be so."]))
    chunks = without_usage(await make_talk().run(make_turn(), show_reasoning="chunks"))
    thoughts = [chunk for chunk in chunks if isinstance(chunk, Reasoning)]
    assert "".join(thought.content for thought in thoughts) == "It must be so."
    assert chunks == [Step("model"), *thoughts, "So.", FINISHED]


async def test_sources_are_shown(
    provider: FakeProvider, make_talk: MakeTalk, make_turn: MakeTurn
) -> None:
    provider.answer("m", Reply.saying("So.", sources=["https://a.example"]))
    chunks = without_usage(await make_talk().run(make_turn()))
    assert chunks == [Step("model"), "So.", Source("https://a.example", "a title"), FINISHED]


@pytest.mark.parametrize(
    ("reply", "reason", "fails"),
    [
        (Reply.saying("cut off", finish="length"), "length", ""),
        (Reply(), "stop", ""),
        (Reply.saying("I must", finish="content_filter"), "", "content filter of local stopped"),
        (Reply(calls=[Call("echo")], finish="length"), "", "in the middle of a tool call"),
    ],
)
async def test_how_answers_end(
    provider: FakeProvider,
    make_talk: MakeTalk,
    make_turn: MakeTurn,
    reply: Reply,
    reason: str,
    fails: str,
) -> None:
    provider.answer("m", reply)
    if not fails:
        chunks = without_usage(await make_talk().run(make_turn()))
        assert chunks[-1] == Step("model", "completed", finish_reason=reason)
        return
    with pytest.raises(AgentError, match=fails) as failed:
        await make_talk().run(make_turn())
    assert (failed.value.code, failed.value.retryable) == ("AGENT_FAILED", False)


async def test_usage_is_estimated_until_the_provider_tells_it_or_for_good(
    provider: FakeProvider, make_talk: MakeTalk, make_turn: MakeTurn
) -> None:
    goal, words = "g" * 400, "word " * 200
    provider.answer("m", Reply.saying(words, usage=None), Reply.saying(words, usage=(7, 9)))
    talk = make_talk()
    read, written = usage_of(await talk.run(make_turn(goal, tools=[])))
    assert (read, written) == (100, 250)  # a token for four characters
    assert usage_of(await talk.run(make_turn(goal, tools=[]))) == (7, 9)


async def test_a_cancelled_turn_has_told_what_it_used(
    provider: FakeProvider, make_talk: MakeTalk, make_turn: MakeTurn
) -> None:
    provider.answer("m", Reply.saying("word " * 200, break_at=150, break_how="stall"))
    chunks: list[Any] = []
    async with asyncio.timeout(10), aclosing(make_talk().agent().run(make_turn())) as running:
        async for chunk in running:
            chunks.append(chunk)
            if len(text_of(chunks)) == 150 * 5:
                break
    read, written = usage_of(chunks)
    assert read > 0
    assert 150 * 5 // 4 - 50 <= written <= 150 * 5 // 4 + 1
    assert await asyncio.to_thread(provider.seen[0].wait_left)


async def test_a_cancel_reaches_the_tools(
    provider: FakeProvider, make_talk: MakeTalk, make_turn: MakeTurn
) -> None:
    provider.answer("m", Reply(calls=[Call("hanging"), Call("hanging")]))
    hanging = Hanging()
    turn = asyncio.create_task(make_talk(hanging).run(make_turn()))
    async with asyncio.timeout(10):
        await hanging.begun.wait()
        turn.cancel()
        await asyncio.wait({turn})
        await hanging.cancelled.wait()
    assert turn.cancelled()


@pytest.mark.parametrize("model", ["local:m", "anthropic:m"])
async def test_a_provider_that_is_overloaded_is_asked_again_before_its_answer_begins(
    provider: FakeProvider, make_talk: MakeTalk, make_turn: MakeTurn, model: str
) -> None:
    busy = Reply.refusing(529, "overloaded_error", "Overloaded")
    provider.answer("m", busy, busy, Reply.saying("At last."))
    chunks = await make_talk(retries=2).run(make_turn(), model)
    assert text_of(chunks) == "At last."
    assert len(provider.seen) == 3
    provider.answer("m", busy)
    with pytest.raises(AgentError) as failed:
        await make_talk(retries=1).run(make_turn(), model)
    assert (failed.value.code, failed.value.retryable) == ("MODEL_UNAVAILABLE", True)
    assert len(provider.seen) == 5


@pytest.mark.parametrize(
    "reply",
    [
        Reply.saying("a b c", break_at=2, break_how="cut"),
        Reply.saying("a b c", break_at=2, error=("overloaded_error", "", "Overloaded")),
        Reply.refusing(429, "rate_limit_error", "slow down", retry_after="3"),
        Reply.refusing(503, "server_error", "in a minute", retry_after="60"),
    ],
)
async def test_what_is_not_tried_again(
    provider: FakeProvider, make_talk: MakeTalk, make_turn: MakeTurn, reply: Reply
) -> None:
    provider.answer("m", reply)
    chunks: list[Any] = []
    with pytest.raises(AgentError) as failed:
        async for chunk in make_talk(retries=5).agent().run(make_turn()):
            chunks.append(chunk)
    assert len(provider.seen) == 1
    assert text_of(chunks) == ("" if reply.status != 200 else "a b ")
    wanted = {429: ("RATE_LIMITED", 3.0), 503: ("MODEL_UNAVAILABLE", 60.0)}
    expected = wanted.get(reply.status, ("MODEL_UNAVAILABLE", None))
    assert (failed.value.code, failed.value.retry_after) == expected


def _many(count: int) -> list[Echo]:
    """So many tools, with the one that every talk has."""
    made = [Echo() for _ in range(count - 1)]
    for number, tool in enumerate(made):
        tool.name = f"echo_{number}"
    return made


async def test_more_tools_than_the_provider_takes(
    provider: FakeProvider, make_talk: MakeTalk, make_turn: MakeTurn
) -> None:
    provider.answer("m", Reply.saying("So."))
    urls = dict.fromkeys(("openai", "local"), provider.url)
    keys = {"openai": "k"}
    talk = make_talk(*_many(129), base_urls=urls, api_keys=keys)
    with pytest.raises(AgentError) as refused:
        await talk.run(make_turn(), "openai:m")
    assert refused.value.code == "AGENT_FAILED" and not refused.value.retryable
    assert refused.value.message == (
        "the turn has 129 tools, openai takes at most 128: name fewer in the agent's `tools`"
    )
    assert not provider.seen
    assert text_of(await talk.run(make_turn(tools=["echo", "echo_7"]), "openai:m")) == "So."
    # Of others nothing is known, and nothing is left out.
    assert text_of(await talk.run(make_turn(), "local:m")) == "So."
    assert len(provider.seen[-1].body["tools"]) == 129
    exactly = make_talk(*_many(128), base_urls=urls, api_keys=keys)
    assert text_of(await exactly.run(make_turn(), "openai:m")) == "So."


@pytest.mark.parametrize("model", ["local:m", "anthropic:m"])
async def test_a_provider_that_says_how_many_tools_it_takes(
    provider: FakeProvider, make_talk: MakeTalk, make_turn: MakeTurn, model: str
) -> None:
    words = "Invalid 'tools': array too long. Expected an array with maximum length 64"
    provider.answer("m", Reply.refusing(400, "invalid_request_error", words))
    with pytest.raises(
        AgentError, match=r"^the turn has 70 tools, \w+ takes at most 64: name"
    ) as e:
        await make_talk(*_many(70)).run(make_turn(), model)
    assert e.value.code == "AGENT_FAILED"
    provider.answer("m", Reply.refusing(400, "invalid_request_error", "Too many tools."))
    with pytest.raises(AgentError, match=r"^the turn has 70 tools, \w+ takes fewer: name fewer"):
        await make_talk(*_many(70)).run(make_turn(), model)
