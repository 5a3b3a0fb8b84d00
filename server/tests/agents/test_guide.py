from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.agents.base import PastTurn, Turn
from resonantgenesis_server.agents.engines.guide import GuideAgent, build
from resonantgenesis_server.agents.tools.base import JsonValue, ToolContext, ToolError, ToolRegistry
from resonantgenesis_server.agents.tools.calculator import Calculator
from resonantgenesis_server.model.chunks import Step, Text, ToolCall, ToolResult, Usage
from resonantgenesis_server.model.errors import InvalidRequest

pytestmark = pytest.mark.anyio

Collect = Callable[..., Awaitable[list[Any]]]


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk for chunk in chunks if isinstance(chunk, str))


def of(kind: type, chunks: list[Any]) -> list[Any]:
    return [chunk for chunk in chunks if isinstance(chunk, kind)]


async def test_it_computes_with_its_tool_and_shows_every_step(collect: Collect) -> None:
    chunks = await collect(GuideAgent(), "What is 12% of 250?")
    assert [chunk for chunk in chunks if not isinstance(chunk, str)] == [
        Usage(input_tokens=5),
        Step("calculate", "started"),
        ToolCall("calculator", {"expression": "12 * 250 / 100"}, "call_1_1"),
        ToolResult("calculator", {"expression": "12 * 250 / 100", "result": 30}, "call_1_1"),
        Step("calculate", "completed"),
        Step("answer", "started"),
        Step("answer", "completed"),
        Usage(output_tokens=len(of(str, chunks))),
    ]
    assert "12 * 250 / 100 = 30" in text_of(chunks)


async def test_it_answers_from_the_documentation(collect: Collect) -> None:
    chunks = await collect(GuideAgent(), "How do I resume a stream after a lost connection?")
    [call], [result] = of(ToolCall, chunks), of(ToolResult, chunks)
    assert call.tool == "docs_search"
    assert call.call_id == result.call_id
    assert result.result[0]["page"] == "streaming"
    answer = text_of(chunks)
    assert "streaming.md" in answer
    assert "`resume_from=N` means" in answer
    assert "Read next:" in answer
    # What is quoted stands in the passage, word for word.
    quoted = [line[2:] for line in answer.splitlines() if line.startswith("> ")]
    passages = "\n".join(passage["text"] for passage in result.result)
    assert quoted and all(line in passages for line in quoted)


async def test_it_does_both_at_once(collect: Collect) -> None:
    chunks = await collect(GuideAgent(), "2 to the power of 10, and how do I cancel a turn?")
    assert [call.tool for call in of(ToolCall, chunks)] == ["calculator", "docs_search"]
    assert len({call.call_id for call in of(ToolCall, chunks)}) == 2
    answer = text_of(chunks)
    assert "2 ** 10 = 1024" in answer
    assert "Cancel a turn" in answer


async def test_the_text_comes_word_by_word(collect: Collect) -> None:
    chunks = await collect(GuideAgent(), "How do I cancel a turn?")
    words = of(str, chunks)
    assert len(words) > 50
    assert all(re.fullmatch(r"\s*\S+\s*", word) for word in words)
    assert sum(usage.output_tokens for usage in of(Usage, chunks)) == len(words)
    assert chunks == await collect(GuideAgent(), "How do I cancel a turn?")


async def test_what_it_cannot_do_it_says(collect: Collect) -> None:
    refused = await collect(GuideAgent(), "calculate __import__('os').remove('x')")
    [result] = of(ToolResult, refused)
    assert result.is_error
    assert "I could not compute" in text_of(refused)
    assert "names and calls are refused" in text_of(refused)
    for goal in ("2 ** 99999999", "1/0"):
        assert of(ToolResult, await collect(GuideAgent(), goal))[0].is_error
    nothing = text_of(await collect(GuideAgent(), "xyzzy frobnicate"))
    assert "I found nothing about “xyzzy frobnicate”" in nothing
    assert "I answer questions" in nothing
    hello = await collect(GuideAgent(), "hello")
    assert of(ToolCall, hello) == []
    assert text_of(hello).startswith("I answer questions")


async def test_it_greets_by_name_once(collect: Collect) -> None:
    named = {"user_name": "  Alice\nB\u2028 "}
    first = await collect(GuideAgent(), "1 + 1", context=named)
    assert text_of(first).startswith("Hello Alice B. ")
    later = await collect(
        GuideAgent(), "1 + 1", context=named, history=[PastTurn("hi", "x", "success")]
    )
    assert "Alice" not in text_of(later)
    for odd in ({"user_name": 5}, {"user_name": "\n"}, {"text": "free"}):
        assert text_of(await collect(GuideAgent(), "1 + 1", context=odd)).startswith("I have")


async def test_follow_ups_go_on_from_the_session(collect: Collect) -> None:
    history: list[PastTurn] = []

    async def say(goal: str) -> str:
        chunks = await collect(GuideAgent(), goal, history=list(history), turn=len(history) + 1)
        history.append(PastTurn(goal, text_of(chunks), "success"))
        return text_of(chunks)

    assert "17 * 23 = 391" in await say("what is 17 * 23?")
    assert "391 * 3 = 1173" in await say("and times 3?")
    assert "1173 - 173 = 1000" in await say("minus 173")
    assert "12 * 1000 / 100 = 120" in await say("12% of that")
    first = await say("How do I resume a stream?")
    second = await say("more")
    third = await say("tell me more!")
    quotes = [
        {line for line in answer.splitlines() if re.match("> .*[a-z]{3} ", line)}
        for answer in (first, second, third)
    ]
    assert all(quotes)
    assert not quotes[0] & quotes[1] and not quotes[1] & quotes[2] and not quotes[0] & quotes[2]
    assert "Polling instead of streaming" in await say("and over polling?")
    assert "120 + 1 = 121" in await say("and plus 1")


async def test_more_comes_to_an_end(collect: Collect) -> None:
    history: list[PastTurn] = []
    goal = "RUNNER_LOST"
    while not history or "RUNNER" in history[-1].output:
        output = text_of(await collect(GuideAgent(), goal, history=history))
        history.append(PastTurn(goal, output, "success"))
        goal = "more"
    assert len(history) >= 3
    assert history[-1].output == "That is all the documentation says about “runner_lost”.\n"
    assert "I answer" in text_of(await collect(GuideAgent(), "more"))


@pytest.mark.parametrize("max_steps", [0, 1, 2, 3, 10])
async def test_it_never_takes_more_steps_than_allowed(max_steps: int, collect: Collect) -> None:
    goal = "What is 2 + 2, and how do I cancel a turn?"
    chunks = await collect(GuideAgent(), goal, max_steps=max_steps)
    steps = of(Step, chunks)
    assert len(steps) == 2 * min(max_steps, 3)
    open_step = None
    for step in steps:
        if step.status == "started":
            assert open_step is None
            open_step = step.name
        else:
            assert open_step == step.name
            open_step = None
    assert open_step is None
    assert len(of(ToolCall, chunks)) == 2
    assert text_of(chunks) == text_of(await collect(GuideAgent(), goal))


async def test_it_uses_only_the_tools_allowed(collect: Collect) -> None:
    goal = "What is 2 + 2, and how do I cancel a turn?"
    only = await collect(GuideAgent(), goal, tools=["calculator", "web_search"])
    assert [call.tool for call in of(ToolCall, only)] == ["calculator"]
    none = await collect(GuideAgent(), goal, tools=[])
    assert of(ToolCall, none) == []
    assert text_of(none)


async def test_a_failing_tool_does_not_stop_it(collect: Collect) -> None:
    class Broken:
        name = "docs_search"
        description = ""
        parameters: Mapping[str, Any] = {}

        async def call(self, args: Mapping[str, Any], context: ToolContext) -> JsonValue:
            raise ToolError("the index is gone")

    agent = GuideAgent(tools=ToolRegistry([Calculator(), Broken()]))
    chunks = await collect(agent, "What is 2 + 2, and how do I cancel a turn?")
    assert [result.is_error for result in of(ToolResult, chunks)] == [False, True]
    assert "2 + 2 = 4" in text_of(chunks)
    assert "I could not look it up: the index is gone." in text_of(chunks)


# Demonstrations


@pytest.mark.parametrize("goal", ["count to 1200", "Count to 1,200.", " count  to 1_200 "])
async def test_count(goal: str, collect: Collect) -> None:
    chunks = await collect(GuideAgent(), goal)
    assert of(str, chunks) == [*(f"{n} " for n in range(1, 1200)), "1200"]
    assert {type(chunk) for chunk in chunks} == {str, Usage}
    assert sum(usage.output_tokens for usage in of(Usage, chunks)) == 1200


async def test_lorem(collect: Collect) -> None:
    chunks = await collect(GuideAgent(), "lorem 100 words")
    assert len(of(str, chunks)) == len(text_of(chunks).split()) == 100
    assert text_of(chunks).startswith("lorem ipsum dolor")
    assert of(Text, chunks) == []


async def test_demonstrations_are_bounded(collect: Collect) -> None:
    for goal in ("count to 0", "count to 1,000,001", "lorem 0"):
        assert text_of(await collect(GuideAgent(), goal)) == (
            "Please give me a number from 1 to 1,000,000.\n"
        )


async def test_an_unpaced_stream_lets_others_run() -> None:
    ran = 0

    async def other() -> None:
        nonlocal ran
        while True:
            ran += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    async for _ in GuideAgent().run(Turn("count to 5000", "s", 1, "guide")):
        pass
    task.cancel()
    assert ran >= 5000 // 256


# Pace


class Clock:
    """The loop's time, moved by sleeping alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)
        monkeypatch.setattr(asyncio, "sleep", self._sleep)

    async def _sleep(self, delay: float) -> None:
        self.slept.append(delay)
        self.now += delay


async def test_the_pace_is_kept_without_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    began = clock.now
    seen = 0
    async for chunk in GuideAgent(words_per_second=20).run(Turn("count to 101", "s", 1, "g")):
        if isinstance(chunk, str):
            seen += 1
            clock.now += 0.03  # the reader's own time is part of the interval
    assert seen == 101
    assert clock.now - began == pytest.approx(100 / 20 + 0.03)


async def test_a_long_delay_is_not_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    seen = 0
    async for chunk in GuideAgent(words_per_second=10).run(Turn("count to 21", "s", 1, "g")):
        if isinstance(chunk, str):
            seen += 1
            if seen == 10:
                clock.now += 60
    assert sum(clock.slept) == pytest.approx(1.9)


@pytest.mark.parametrize(
    ("own", "context", "seconds"),
    [
        (None, {}, 0),
        (0, {}, 0),
        (10, {}, 1.0),
        (10, {"words_per_second": 0}, 0),
        (10, {"words_per_second": 20}, 0.5),
        (None, {"words_per_second": 2.5}, 4.0),
        (10, {"words_per_second": 10**9}, 0.01),
        (10, {"words_per_second": -5}, 0),
        (10, {"words_per_second": "fast"}, 1.0),
        (10, {"words_per_second": True}, 1.0),
        (10, {"words_per_second": float("nan")}, 1.0),
    ],
)
async def test_the_context_may_set_the_pace(
    own: float | None,
    context: dict[str, Any],
    seconds: float,
    monkeypatch: pytest.MonkeyPatch,
    collect: Collect,
) -> None:
    clock = Clock(monkeypatch)
    await collect(GuideAgent(own), "count to 11", context=context)
    assert sum(clock.slept) == pytest.approx(seconds)


@pytest.mark.parametrize("wrong", ["5", -1, 1001, True, float("nan"), [1]])
def test_a_bad_default_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        build({"words_per_second": wrong})
    assert list(caught.value.details["fields"]) == ["defaults.words_per_second"]


# Anything goes


sums = st.text(alphabet="0123456789+-*/%().^ andtimesof=that", max_size=60)
histories = st.lists(
    st.builds(PastTurn, st.one_of(st.text(max_size=40), sums), st.text(max_size=80), st.just("x")),
    max_size=3,
)
GUIDE = GuideAgent()


@given(st.one_of(st.text(max_size=300), sums), histories)
def test_any_goal_has_an_answer(goal: str, history: list[PastTurn]) -> None:
    async def run() -> list[Any]:
        if re.match(r"\s*(count|lorem)", goal, re.I):
            return ["x"]
        turn = Turn(goal, "s", 1, "guide", history=history, max_steps=2)
        return [chunk async for chunk in GUIDE.run(turn)]

    chunks = asyncio.run(run())
    assert text_of(chunks).strip()
    assert len([step for step in of(Step, chunks) if step.status == "started"]) <= 2
