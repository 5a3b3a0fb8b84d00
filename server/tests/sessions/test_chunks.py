"""Chunk encoding: numbering, pairs of calls, sizes, splits, the output."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resonantgenesis_server.model.chunks import (
    AgentChunk,
    Data,
    File,
    Reasoning,
    Source,
    Step,
    Text,
    ToolCall,
    ToolResult,
    Usage,
)
from resonantgenesis_server.model.errors import AgentError
from resonantgenesis_server.model.limits import Limits
from resonantgenesis_server.sessions.chunks import ChunkMaker, TurnOutput, encoded_size

SMALL = Limits(chunk=1_024, output=2_000)


def maker(limits: Limits = SMALL, max_steps: int = 10) -> ChunkMaker:
    return ChunkMaker("sess_1", 2, "agent", max_steps, limits)


def encode(made: ChunkMaker, *chunks: AgentChunk) -> list[dict[str, Any]]:
    return [orjson.loads(e.body) for chunk in chunks for e in made.encode(chunk)]


def text_of(chunks: Iterable[dict[str, Any]]) -> str:
    return "".join(c["content"] for c in chunks if c["type"] == "text")


any_text = st.text(
    st.one_of(st.characters(), st.sampled_from('\x00\x01"\\\x85\u2028\U0001f600\ud800\udc00')),
    max_size=3_000,
)


def as_characters(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@settings(max_examples=150)
@given(st.lists(any_text, max_size=4))
def test_text_comes_out_whole_in_chunks_that_fit(texts: list[str]) -> None:
    made = maker()
    entries = [e for text in texts for e in made.encode(text)]
    chunks = [orjson.loads(e.body) for e in entries]
    said = "".join(as_characters(text) for text in texts)
    assert text_of(chunks) == said
    assert all(len(e.body) <= SMALL.chunk for e in entries)
    assert all(c["content"] for c in chunks if c["type"] == "text")
    assert said.startswith(made.output)
    done = orjson.loads(made.done("success", made.usage()).body)
    assert done["output"] == made.output
    if encoded_size(said) <= SMALL.output:
        assert made.output == said
        assert "output_truncated" not in done
    else:
        assert done["output_truncated"] is True
        assert encoded_size(made.output) <= SMALL.output
        # One character more would not have fitted.
        assert encoded_size(said[: len(made.output) + 1]) > SMALL.output


def test_a_half_of_a_pair_is_one_replacement_character_and_a_pair_is_its_character() -> None:
    assert text_of(encode(maker(), "a\ud83d\ude00b\ud83dc\ude00")) == "a\U0001f600b\ufffdc\ufffd"


def test_what_follows_a_cut_is_left_out_even_if_it_would_fit() -> None:
    output = TurnOutput(replace(SMALL, output=10))
    for piece in ("12345678", "\u00e9\u00e9", "x", ""):
        output.add(piece)
    assert (output.text, output.truncated) == ("12345678\u00e9", True)


def test_a_cut_through_one_long_piece_takes_what_fits() -> None:
    for room, expected in ((0, ""), (5, ""), (6, "\x01"), (12, "\x01\x01"), (17, "\x01\x01")):
        output = TurnOutput(replace(SMALL, output=room))
        output.add("\x01" * 50)
        assert (output.text, output.truncated) == (expected, True)
    output = TurnOutput(replace(SMALL, output=6))
    output.add("\x01")
    assert (output.text, output.truncated) == ("\x01", False)


def test_a_step_is_implied_before_anything_else_is_said() -> None:
    for first in ("word", ToolCall("t"), ToolResult("t", 1)):
        implied, said = encode(maker(), first)
        assert implied == {
            "type": "step", "step": 1, "name": "answer", "status": "started",
            "session_id": "sess_1", "turn": 2, "agent_id": "agent",
        }  # fmt: skip
        assert said["type"] != "step"
    assert encode(maker(), Usage(1, 2)) == []
    assert encode(maker(), "", Text("")) == []


def test_steps_are_numbered_and_completed_by_name() -> None:
    made = maker()
    chunks = encode(
        made, Step("a"), Step("b"), Step("b"), Step("b", "completed"), Step("a", "completed")
    )
    assert [(c["step"], c["name"], c["status"]) for c in chunks] == [
        (1, "a", "started"), (2, "b", "started"), (3, "b", "started"),
        (3, "b", "completed"), (1, "a", "completed"),
    ]  # fmt: skip
    assert "session_id" in chunks[0]
    assert "session_id" not in chunks[1]
    assert all(c["duration_ms"] >= 0 for c in chunks[3:])
    (left,) = made.close_steps("success")
    told = orjson.loads(left.body)
    assert (told["step"], told["status"]) == (2, "completed")
    assert "finish_reason" not in told
    assert left.step is not None
    assert left.step[:2] == (2, "b")
    assert list(made.close_steps("success")) == []
    assert made.usage()["steps"] == 3


def test_a_step_tells_how_it_gets_on_and_why_it_ended() -> None:
    made = maker()
    chunks = encode(
        made,
        Step("a", detail="begins"),
        Step("b"),
        Step("a", "progress", detail="half \ud83d"),
        Step("a", "completed", finish_reason="stop"),
    )
    assert chunks[0]["detail"] == "begins"
    assert "detail" not in chunks[1] and "finish_reason" not in chunks[1]
    assert chunks[2] == {
        "type": "step", "step": 1, "name": "a", "status": "progress", "detail": "half \ufffd",
    }  # fmt: skip
    assert (chunks[3]["step"], chunks[3]["finish_reason"]) == (1, "stop")
    assert made.steps == 2
    with pytest.raises(TypeError, match="was progress but never started"):
        encode(made, Step("a", "progress"))


def test_a_step_too_many_is_refused_and_not_counted() -> None:
    made = maker(max_steps=2)
    encode(made, Step("a"), Step("b"))
    with pytest.raises(AgentError) as refused:
        encode(made, Step("c"))
    assert refused.value.code == "MAX_STEPS"
    assert made.steps == 2


def test_calls_are_paired_with_their_results() -> None:
    chunks = encode(
        maker(),
        ToolCall("a"),
        ToolResult("a", 1),
        ToolCall("b", call_id="mine"),
        ToolResult("b", 2),
        ToolCall("c"),
        ToolResult("b", 3, call_id="mine", is_error=True),
    )
    assert [c.get("call_id") for c in chunks[1:]] == [
        "call_1", "call_1", "mine", "mine", "call_3", "mine",
    ]  # fmt: skip
    assert chunks[-1]["is_error"] is True


def _pairs(*said: str) -> list[str]:
    """The ids of calls (`a`) and results (`=a`) of tools, some with an id of the agent's own
    (`a:mine`)."""
    chunks: list[AgentChunk] = []
    for word in said:
        tool, _, given = word.removeprefix("=").partition(":")
        result = word.startswith("=")
        chunks.append(ToolResult(tool, 1, given) if result else ToolCall(tool, {}, given))
    return [c["call_id"] for c in encode(maker(), *chunks) if c["type"] != "step"]


@pytest.mark.parametrize(
    ("said", "ids"),
    [
        # Calls side by side: a result is of the oldest call of its tool that has none.
        ("a a =a =a", "call_1 call_2 call_1 call_2"),
        ("a b =a =b", "call_1 call_2 call_1 call_2"),
        ("a b =b =a", "call_1 call_2 call_2 call_1"),
        ("a b a =a =b =a", "call_1 call_2 call_3 call_1 call_2 call_3"),
        ("a a =a a =a =a", "call_1 call_2 call_1 call_3 call_2 call_3"),
        # An id of the agent's own takes its call out of those that wait, others stay.
        ("a a =a:call_2 =a", "call_1 call_2 call_2 call_1"),
        ("a:x a =a =a", "x call_2 x call_2"),
        ("a:x a:y =a:y =a", "x y y x"),
        ("a a =a:unknown =a =a", "call_1 call_2 unknown call_1 call_2"),
        ("a:x b =b:x =b =a", "x call_2 x call_2 call_3"),
        # A result without a call is nobody's.
        ("=a", "call_1"),
        ("a =b =a", "call_1 call_2 call_1"),
        ("a =a =a", "call_1 call_1 call_2"),
        ("a =a =a a", "call_1 call_1 call_2 call_3"),
        # A new id is never one that the agent has given.
        ("a:call_2 a =a =a", "call_2 call_3 call_2 call_3"),
        ("a:call_7 a:x a", "call_7 x call_9"),
        ("a:call_x a", "call_x call_2"),
    ],
)
def test_a_result_without_an_id_is_of_the_oldest_call_of_its_tool(said: str, ids: str) -> None:
    assert _pairs(*said.split()) == ids.split()


def test_ten_thousand_calls_without_a_result_cost_each_other_nothing() -> None:
    made = maker()
    for _ in range(10_000):
        encode(made, ToolCall("a"))
    found = [encode(made, ToolResult("a", n))[0]["call_id"] for n in range(10_000)]
    assert found == [f"call_{n}" for n in range(1, 10_001)]


@pytest.mark.parametrize(
    "chunk",
    [
        ToolCall("t", {"x": "y" * 2_000}),
        ToolResult("t", "y" * 2_000),
        Step("n" * 2_000),
        Step("n", detail="d" * 2_000),
    ],
)
def test_what_is_too_large_and_cannot_be_split_is_refused(chunk: AgentChunk) -> None:
    with pytest.raises(AgentError) as refused:
        encode(maker(), chunk)
    assert refused.value.code == "PAYLOAD_TOO_LARGE"


def test_the_end_of_a_step_fits_too_and_the_step_stays_open_until_it_does() -> None:
    made = maker()
    encode(made, Step("a"))
    with pytest.raises(AgentError):
        encode(made, Step("a", "completed", detail="d" * 2_000))
    assert len(list(made.close_steps("failed"))) == 1


@pytest.mark.parametrize("value", [{1}, 2**70, object(), {1: 2}])
def test_what_has_no_json_form_is_refused_by_name(value: object) -> None:
    with pytest.raises(TypeError, match="tool_result"):
        encode(maker(), ToolResult("t", value))


def nested(levels: int) -> Any:
    value: Any = "inmost"
    for _ in range(levels):
        value = {"in": [value]} if levels % 2 else [value]
    return value


@pytest.mark.parametrize("levels", [200, 260, 5_000])
def test_what_nests_too_deep_is_the_agents_failure(levels: int) -> None:
    encode(maker(Limits()), Data("d", nested(150)))
    with pytest.raises(AgentError, match="a data chunk nests deeper than 200 levels"):
        encode(maker(Limits()), Data("d", nested(levels)))


def test_usage_adds_up() -> None:
    made = maker()
    encode(made, Usage(1, 2), "x", Usage(10, 20))
    usage = made.usage()
    assert (usage["input_tokens"], usage["output_tokens"], usage["steps"]) == (11, 22, 1)


def test_what_belongs_to_an_answer_beside_its_text() -> None:
    made = maker()
    step, *others = encode(
        made,
        Reasoning("hm"),
        Source("https://a.example", "A"),
        Source("https://b.example"),
        File("file_1", "a.csv", "text/csv", 3),
        Data("chart", {"x": [1]}, id="c"),
        Data("note", None),
    )
    assert (step["type"], step["name"]) == ("step", "answer")
    assert others == [
        {"type": "reasoning", "content": "hm"},
        {"type": "source", "url": "https://a.example", "title": "A"},
        {"type": "source", "url": "https://b.example"},
        {
            "type": "file",
            "file_id": "file_1",
            "name": "a.csv",
            "content_type": "text/csv",
            "size": 3,
        },
        {"type": "data", "name": "chart", "id": "c", "data": {"x": [1]}},
        {"type": "data", "name": "note", "data": None},
    ]
    assert made.output == ""


def test_long_reasoning_comes_in_chunks_that_fit_also_of_a_sub_agent() -> None:
    made = maker()
    thought = "\x01so " * 1_000
    entries = [*made.encode(Reasoning(thought, agent_id="a" * 300, parent="b" * 300))][1:]
    assert all(len(entry.body) <= SMALL.chunk for entry in entries)
    chunks = [orjson.loads(entry.body) for entry in entries]
    assert "".join(chunk["content"] for chunk in chunks) == thought
    assert {(chunk["agent_id"], chunk["parent"]) for chunk in chunks} == {("a" * 300, "b" * 300)}


def test_a_sub_agents_chunks_name_it_and_its_call() -> None:
    made = maker()
    of = {"agent_id": "weather", "parent": "call_1"}
    chunks = encode(
        made,
        ToolCall("ask", {}, "call_1"),
        Step("look", **of),
        Step("look"),
        ToolCall("http", {}, **of),
        ToolCall("http", {}),
        ToolResult("http", 1, **of),
        ToolResult("http", 2),
        Text("Four.", **of),
        Step("look", "completed", **of),
        "Cold.",
    )
    first, _, looks, own_looks, asks, _, answer, own_answer, said, looked, _ = chunks
    assert (first["name"], first["agent_id"], first["turn"]) == ("answer", "agent", 2)
    assert looks == {"type": "step", "step": 2, "name": "look", "status": "started", **of}
    assert "agent_id" not in own_looks
    # Without ids, calls and results of the two agents do not mix.
    assert answer["call_id"] == asks["call_id"] != own_answer["call_id"]
    assert said == {"type": "text", "content": "Four.", **of}
    assert (looked["step"], looked["agent_id"]) == (2, "weather")
    assert made.output == "Cold."


def test_an_open_step_of_a_sub_agent_ends_as_its_own() -> None:
    made = maker()
    encode(made, Step("look", agent_id="weather"))
    ends = [orjson.loads(entry.body) for entry in made.close_steps("cancelled")]
    assert [(end["name"], end.get("agent_id")) for end in ends] == [
        ("look", "weather"),
        ("answer", None),
    ]


def test_names_of_a_sub_agent_are_bounded_and_a_parent_alone_is_a_mistake() -> None:
    with pytest.raises(AgentError) as refused:
        encode(maker(), Text("x", agent_id="a" * 600))
    assert refused.value.code == "PAYLOAD_TOO_LARGE"
    with pytest.raises(TypeError):
        encode(maker(), Text("x", parent="call_1"))
