"""The events of AG-UI: one sequence for a turn, and runs that its clients accept."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.clients.ag_ui.encode import RunFrames, ThreadFrames
from resonantgenesis_server.clients.frames import FramesEncoder
from resonantgenesis_server.log.base import Entry

from .turns import TURNS, WAITING_TURNS, entries


def fold() -> RunFrames:
    return RunFrames("sess_1", 1, "thread")


def events_of(frames: list[bytes]) -> list[dict[str, Any]]:
    assert all(frame.startswith(b"data: ") and frame.count(b"\n") == 2 for frame in frames)
    return [orjson.loads(frame[6:]) for frame in frames]


@given(TURNS | WAITING_TURNS, st.data())
def test_the_events_of_a_turn_are_one_sequence(turn: list[Entry], data: st.DataObject) -> None:
    expected = list(FramesEncoder(fold()).encode(turn))
    split = data.draw(st.integers(0, len(turn)))
    encoder = FramesEncoder(fold())
    before = list(encoder.encode(turn[:split]))
    left = encoder.copy()
    assert before + list(encoder.encode(turn[split:])) == expected
    assert before + list(left.encode(turn[split:])) == expected


@given(TURNS | WAITING_TURNS)
def test_runs_are_well_formed(turn: list[Entry]) -> None:
    """By the rules of the client's verifier."""
    is_open, parts, steps = False, set[str](), set[str]()
    for event in events_of(list(FramesEncoder(fold()).encode(turn))):
        kind = event["type"]
        assert None not in event.values()
        if kind == "RUN_STARTED":
            assert not is_open
            is_open = True
            continue
        assert is_open
        if kind.endswith("_MESSAGE_START"):
            assert not parts
            parts.add(event["messageId"])
        elif kind.endswith("_MESSAGE_CONTENT"):
            assert event["messageId"] in parts and event["delta"]
        elif kind.endswith("_MESSAGE_END"):
            parts.remove(event["messageId"])
        elif kind == "STEP_STARTED":
            assert event["stepName"] not in steps
            steps.add(event["stepName"])
        elif kind == "STEP_FINISHED":
            steps.remove(event["stepName"])
        elif kind in {"RUN_FINISHED", "RUN_ERROR"}:
            assert kind == "RUN_ERROR" or not (parts or steps)
            is_open = False
            parts.clear()
            steps.clear()


def test_a_thread_has_the_runs_of_all_turns() -> None:
    """Also of one that was cancelled before it began, which has no other chunk."""
    log = entries(
        [
            ("message", {"content": "one"}),
            ("done", {"status": "success", "turn": 1}),
            ("done", {"status": "cancelled", "turn": 2}),
            ("message", {"content": "three"}),
        ]
    )
    goals = {1: "first", 2: "second", 3: "third"}
    encoder = FramesEncoder(ThreadFrames("sess_1", "thread", 1, goals))
    events = events_of(list(encoder.encode(log)))
    begun = [
        event["input"]["messages"][0]["content"]
        for event in events
        if event["type"] == "RUN_STARTED"
    ]
    assert begun == ["first", "second", "third"]
    # CopilotKit's clients leave a stream that has an outcome they do not know.
    ends = [event.get("outcome") or event.get("code") for event in events]
    assert [end for end in ends if end] == [{"type": "success"}, "CANCELLED"]
