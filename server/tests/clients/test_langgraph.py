"""The events of LangGraph's runs: one sequence for a turn, whatever modes a client asks for."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.clients.frames import FramesEncoder
from resonantgenesis_server.clients.langgraph.encode import SHOWN, RunInfo, RunStreamFrames
from resonantgenesis_server.clients.langgraph.messages import human_message
from resonantgenesis_server.clients.langgraph.requests import ThreadRunBody, answers_of, goal_of
from resonantgenesis_server.clients.langgraph.threads import run_id, turn_of
from resonantgenesis_server.log.base import Entry
from resonantgenesis_server.model.errors import InvalidRequest, NotFound

from .turns import TURNS, WAITING_TURNS, chunk, entries

ALL = frozenset(SHOWN)
MODES = st.sets(st.sampled_from(SHOWN)).map(frozenset)


def fold(modes: frozenset[str] = ALL, first: int = 1, turn: int = 1) -> RunStreamFrames:
    said = enumerate(["one", "two"], 1)
    goals = {of: human_message(f"msg_sess_1.{of}.goal", text) for of, text in said}
    info = RunInfo("sess_1", turn, "r", "a", "t", first, goals=goals)
    return RunStreamFrames(info, modes, subgraphs=True)


def events_of(frames: list[bytes]) -> list[tuple[str, str, Any]]:
    found = []
    for frame in frames:
        place, name, data, *rest = frame.decode().splitlines()
        assert rest == [""]
        value = orjson.loads(data.removeprefix("data: "))
        found.append((place.removeprefix("id: "), name.removeprefix("event: "), value))
    return found


@given(TURNS | WAITING_TURNS, MODES, st.data())
def test_the_events_of_a_turn_are_one_sequence(
    turn: list[Entry], modes: frozenset[str], data: st.DataObject
) -> None:
    expected = list(FramesEncoder(fold(modes)).encode(turn))
    split = data.draw(st.integers(0, len(turn)))
    encoder = FramesEncoder(fold(modes))
    before = list(encoder.encode(turn[:split]))
    left = encoder.copy()
    assert before + list(encoder.encode(turn[split:])) == expected
    assert before + list(left.encode(turn[split:])) == expected
    after = data.draw(st.integers(0, len(expected)))
    assert list(FramesEncoder(fold(modes), after).encode(turn)) == expected[after:]
    # Ids are those of the same events in all modes.
    every = {place: (name, value) for place, name, value in events_of(_all(turn))}
    found = events_of(expected)
    assert all(every[place] == (name, value) for place, name, value in found)
    assert len({place for place, _, _ in found}) == len(found)


@given(TURNS | WAITING_TURNS)
def test_pieces_add_up_to_the_values(turn: list[Entry]) -> None:
    """As clients add them: by the id of the message."""
    texts: dict[str, str] = {}
    calls: dict[str, list[str]] = {}
    values: Any = {"messages": []}
    for _, name, value in events_of(_all(turn)):
        if name == "messages":
            message = value[0]
            texts[message["id"]] = texts.get(message["id"], "") + message["content"]
            pieces = message.get("tool_call_chunks", [])
            calls.setdefault(message["id"], []).extend(piece["id"] for piece in pieces)
        elif name == "values":
            values = value
    if turn and turn[-1].kind in {"waiting", "done"}:
        said = {each["id"]: each["content"] for each in values["messages"][1:]}
        assert said == texts
        for message in values["messages"]:
            if message["type"] == "ai":
                assert [each["id"] for each in message["tool_calls"]] == calls[message["id"]]


def test_a_turn_that_was_queued_has_the_answers_before_it() -> None:
    done = chunk("done", turn=1, status="success", usage={})
    turns = entries([chunk("message", content="1"), done, chunk("message", content="2"), done])
    late, early = fold(first=2, turn=2), fold(first=1, turn=2)
    late._before = [
        human_message("msg_sess_1.1.goal", "one"),
        *fold()._answers(),
    ]
    found = events_of(list(FramesEncoder(early).encode(turns)))
    values = [value for _, name, value in found if name == "values"]
    assert [each["content"] for each in values[-1]["messages"]] == ["one", "1", "two", "2"]
    assert found[0][1] == "metadata" and found[0][0] == "1-0"


def test_the_older_messages_grow_and_do_not_flood() -> None:
    words = [chunk("message", content="word ") for _ in range(2_000)]
    turn = entries([*words, chunk("done", turn=1, status="success", usage={})])
    frames = list(FramesEncoder(fold(frozenset({"messages"}))).encode(turn))
    assert sum(map(len, frames)) < 40 * 32 * sum(len(entry.body) for entry in turn) / 32
    assert events_of(frames)[-1][2][0]["content"] == "word " * 2_000


@pytest.mark.parametrize(
    ("given_input", "goal"),
    [
        ({"messages": [{"type": "human", "content": "a"}]}, "a"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}, "a"),
        ({"messages": [["user", "a"]]}, "a"),
        ({"messages": "a"}, "a"),
        (
            {"messages": [{"role": "user", "content": "x"}, {"role": "ai", "content": "y"}, "a"]},
            "a",
        ),
        (
            {"messages": [{"lc": 1, "id": ["m", "HumanMessage"], "kwargs": {"content": "a"}}]},
            "a",
        ),
        ("a", "a"),
    ],
)
def test_the_last_words_of_the_user_are_the_goal(given_input: Any, goal: str) -> None:
    assert goal_of(given_input) == (goal, {})


@pytest.mark.parametrize("nothing", [None, {}, {"messages": []}, {"messages": [{"type": "ai"}]}, 1])
def test_a_run_needs_words_of_the_user(nothing: Any) -> None:
    with pytest.raises(InvalidRequest):
        goal_of(nothing)


ASK = {"call_id": "c", "kind": "approval", "tool": "t"}


@pytest.mark.parametrize(
    ("resume", "approved"),
    [
        (True, True),
        ({"c": False}, False),
        ({"approved": True}, True),
        ({"decisions": [{"type": "approve"}]}, True),
        ({"decisions": [{"type": "reject", "message": "no"}]}, False),
        ({"c": {"type": "accept"}}, True),
    ],
)
def test_decisions(resume: Any, approved: bool) -> None:
    assert [each.approved for each in answers_of(resume, [ASK])] == [approved]


@pytest.mark.parametrize(
    "resume",
    ["yes", 1, None, {}, [], {"approved": "yes"}, {"decisions": []}, {"decisions": ["approve"]},
     {"decisions": [{"type": "edit"}]}, {"decisions": [{"type": "approve"}] * 2}, {"type": []},
     {"decisions": [{"type": {}}]}],
)  # fmt: skip
def test_only_a_decision_approves(resume: Any) -> None:
    with pytest.raises(InvalidRequest):
        answers_of(resume, [ASK])


def test_several_interrupts_are_answered_by_id() -> None:
    asks = [ASK, {"call_id": "q", "kind": "input"}, {"call_id": "h", "kind": "tool"}]
    found = answers_of({"c": True, "q": None, "h": {"h": 5}}, asks)
    assert [(each.call_id, each.payload) for each in found] == [("c", None), ("q", None), ("h", 5)]
    with pytest.raises(InvalidRequest):
        answers_of(True, asks)


def test_the_id_of_a_run_has_its_turn() -> None:
    name = run_id("sess_1", 7)
    assert turn_of(name, "sess_1") == 7 and turn_of(name.upper(), "sess_1") == 7
    for wrong in ("", "7", name[:-1], run_id("sess_2", 7), f"00000000{name[8:]}"):
        with pytest.raises(NotFound):
            turn_of(wrong, "sess_1")


@pytest.mark.parametrize(
    "more",
    [{"interrupt_before": "*"}, {"after_seconds": 5}, {"webhook": "u"}, {"command": {"goto": "n"}}],
)
def test_what_would_not_be_done_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        ThreadRunBody.model_validate({"assistant_id": "a", **more}).check()


def _all(turn: list[Entry]) -> list[bytes]:
    return list(FramesEncoder(fold()).encode(turn))
