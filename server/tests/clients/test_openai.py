"""The events of OpenAI's API: one sequence for a turn, and one that its clients can add up."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.clients.frames import FramesEncoder
from resonantgenesis_server.clients.openai.completions import CompletionFrames, call_of
from resonantgenesis_server.clients.openai.responses import ResponseFrames, ResponseInfo
from resonantgenesis_server.log.base import Entry
from resonantgenesis_server.sessions.request import TurnRef

from .turns import TURNS, WAITING_TURNS


def fold() -> ResponseFrames:
    return ResponseFrames(ResponseInfo("sess_1", 1, "a", 1_700_000_000))


def events_of(frames: list[bytes]) -> list[dict[str, Any]]:
    events = []
    for frame in frames:
        name, data, *rest = frame.decode().splitlines()
        assert rest == [""]
        event = orjson.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


@given(TURNS, st.data())
def test_the_events_of_a_turn_are_one_sequence(turn: list[Entry], data: st.DataObject) -> None:
    expected = list(FramesEncoder(fold()).encode(turn))
    split = data.draw(st.integers(0, len(turn)))
    encoder = FramesEncoder(fold())
    before = list(encoder.encode(turn[:split]))
    left = encoder.copy()
    assert before + list(encoder.encode(turn[split:])) == expected
    assert before + list(left.encode(turn[split:])) == expected
    after = data.draw(st.integers(0, len(expected)))
    assert list(FramesEncoder(fold(), after).encode(turn)) == expected[after:]
    numbers = [event["sequence_number"] for event in events_of(expected)]
    assert numbers == list(range(len(expected)))


@given(TURNS)
def test_the_events_add_up_to_the_response(turn: list[Entry]) -> None:
    """By the rules of the SDKs' accumulators."""
    items: list[dict[str, Any]] = []
    texts: dict[int, str] = {}
    open_items: set[int] = set()
    events = events_of(list(FramesEncoder(fold()).encode(turn)))
    if not events:
        return
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    for event in events[2:]:
        kind, index = event["type"], event.get("output_index")
        if kind == "response.output_item.added":
            assert index == len(items)
            items.append(event["item"])
            open_items.add(index)
        elif kind == "response.output_item.done":
            assert event["item"]["id"] == items[index]["id"]
            items[index] = event["item"]
            open_items.remove(index)
        elif index is not None:
            assert index in open_items and event["item_id"] == items[index]["id"]
            if kind.endswith("text.delta"):
                texts[index] = texts.get(index, "") + event["delta"]
            elif kind.endswith("text.done"):
                assert event["text"] == texts[index]
        elif "response" in event:
            assert not open_items and event is events[-1]
            assert event["response"]["output"] == items
    folded = fold()
    for entry in turn:
        folded.frames(entry.kind, orjson.loads(entry.body))
    if turn[-1].kind in {"done", "waiting"}:
        assert folded.response() == events[-1]["response"]
    said = [orjson.loads(entry.body)["content"] for entry in turn if entry.kind == "message"]
    messages = [text for index, text in sorted(texts.items()) if items[index]["type"] == "message"]
    assert "".join(messages) == "".join(said)


@given(WAITING_TURNS, st.data())
def test_each_part_of_a_turn_that_waits_is_a_response(
    turn: list[Entry], data: st.DataObject
) -> None:
    waits = sum(entry.kind == "waiting" for entry in turn)
    part = data.draw(st.integers(0, waits))
    info = ResponseInfo("sess_1", 1, "a", 1_700_000_000, part=part)
    frames = list(FramesEncoder(ResponseFrames(info)).encode(turn))
    split = data.draw(st.integers(0, len(turn)))
    encoder = FramesEncoder(ResponseFrames(info))
    assert [*encoder.encode(turn[:split]), *encoder.encode(turn[split:])] == frames
    events = events_of(frames)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    kinds = [event["type"] for event in events]
    assert kinds.count("response.created") == bool(kinds)
    if part < waits:
        added = kinds.count("response.output_item.added")
        assert kinds[-1] == "response.completed"
        assert added == kinds.count("response.output_item.done")
        assert added == len(events[-1]["response"]["output"])


@given(WAITING_TURNS, st.data())
def test_each_part_of_a_turn_is_one_chat_completion(turn: list[Entry], data: st.DataObject) -> None:
    waits = sum(entry.kind == "waiting" for entry in turn)
    part = data.draw(st.integers(0, waits))

    def encoder() -> FramesEncoder:
        ref = TurnRef("sess_1", 1)
        return FramesEncoder(CompletionFrames(ref, part, "m", 1_700_000_000, with_usage=True))

    frames = list(encoder().encode(turn))
    split = data.draw(st.integers(0, len(turn)))
    cut = encoder()
    before = list(cut.encode(turn[:split]))
    left = cut.copy()
    assert before + list(cut.encode(turn[split:])) == frames
    assert before + list(left.encode(turn[split:])) == frames
    if part < waits:
        assert frames[-1] == b"data: [DONE]\n\n"
    ends = [frame for frame in frames if b'"finish_reason":"' in frame]
    assert len(ends) <= 1
    for frame in frames:
        chunk = orjson.loads(frame.removeprefix(b"data: ")) if b"[DONE]" not in frame else {}
        for choice in chunk.get("choices", ()):
            for call in choice["delta"].get("tool_calls", ()):
                named = call_of(call["id"])
                assert named is not None and named[0] == TurnRef("sess_1", 1)
                assert b'"tool_calls"}' in ends[0]


def test_the_id_of_a_call_names_its_turn() -> None:
    assert call_of("call_sess_a1.3.x.y") == (TurnRef("sess_a1", 3), "x.y")
    for wrong in ("", "call_1", "call_sess_a1.3", "call_sess_a1.0.x", "call_other_a1.1.x"):
        assert call_of(wrong) is None
