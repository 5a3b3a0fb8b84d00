"""The events of AG-UI: one sequence for a turn, and runs that its clients accept."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.clients.ag_ui.encode import RunFrames, ThreadFrames
from resonantgenesis_server.clients.frames import FramesEncoder
from resonantgenesis_server.log.base import Entry

from .turns import CHUNKS, ENDS, TURNS, WAITING_TURNS, chunk, entries

AGENTS = st.sampled_from(
    [
        {},
        {"agent_id": "writer", "parent": "call_1"},
        {"agent_id": "editor", "parent": "call_2"},
        {"agent_id": "helper", "parent": "call_2"},
        {"agent_id": "whisperer"},
    ]
)
BY_AGENTS = st.builds(lambda made, of: (made[0], {**made[1], **of}), CHUNKS, AGENTS)
#: Turns with sub-agents, which may wait on their way.
TEAM_TURNS = st.builds(
    lambda chunks, end: entries([*chunks, *end]),
    st.lists(BY_AGENTS | st.just(chunk("waiting", calls=["call_1"])), max_size=40),
    ENDS,
)
ANY_TURNS = TURNS | WAITING_TURNS | TEAM_TURNS


def fold() -> RunFrames:
    return RunFrames("sess_1", 1, "thread")


def events_of(frames: list[bytes]) -> list[dict[str, Any]]:
    assert all(frame.startswith(b"data: ") and frame.count(b"\n") == 2 for frame in frames)
    return [orjson.loads(frame[6:]) for frame in frames]


@given(ANY_TURNS, st.data())
def test_the_events_of_a_turn_are_one_sequence(turn: list[Entry], data: st.DataObject) -> None:
    expected = list(FramesEncoder(fold()).encode(turn))
    split = data.draw(st.integers(0, len(turn)))
    encoder = FramesEncoder(fold())
    before = list(encoder.encode(turn[:split]))
    left = encoder.copy()
    assert before + list(encoder.encode(turn[split:])) == expected
    assert before + list(left.encode(turn[split:])) == expected


@given(ANY_TURNS)
def test_runs_are_well_formed(turn: list[Entry]) -> None:
    """By the rules of the client's verifier."""
    is_open, parts, steps = False, dict[str, str](), set[tuple[str, str]]()
    running, over = set[str](), set[str]()
    for event in events_of(list(FramesEncoder(fold()).encode(turn))):
        kind = event["type"]
        assert None not in event.values()
        if kind == "RUN_STARTED":
            assert not is_open
            is_open = True
            continue
        assert is_open
        sub = event.get("subagentRunId", "")
        if kind == "SUBAGENT_STARTED":
            assert sub not in running | over and event["name"]
            assert event.get("parentSubagentRunId", "") in {"", *running}
            running.add(sub)
        elif kind in {"SUBAGENT_FINISHED", "SUBAGENT_ERROR"}:
            assert sub not in parts and not any(step[0] == sub for step in steps)
            running.remove(sub)
            over.add(sub)
        elif kind.endswith("_MESSAGE_START"):
            assert sub not in parts and sub in {"", *running}
            parts[sub] = event["messageId"]
        elif kind.endswith("_MESSAGE_CONTENT"):
            assert event["messageId"] == parts[sub] and event["delta"]
        elif kind.endswith("_MESSAGE_END"):
            assert event["messageId"] == parts.pop(sub)
        elif kind == "STEP_STARTED":
            assert (sub, event["stepName"]) not in steps
            steps.add((sub, event["stepName"]))
        elif kind == "STEP_FINISHED":
            steps.remove((sub, event["stepName"]))
        elif kind in {"RUN_FINISHED", "RUN_ERROR"}:
            assert kind == "RUN_ERROR" or not (parts or steps or running)
            is_open = False
            for each in (parts, steps, running, over):
                each.clear()


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


def test_a_team_shows_who_works_for_whom() -> None:
    """Each member is a sub-agent, once per task; one that waits goes on in the next run."""
    member = {"agent_id": "writer", "parent": "c1"}
    log = entries(
        [
            chunk("tool_call", call_id="c1", tool="delegate", args={"agent": "writer"}),
            chunk("message", content="a draft", **member),
            chunk("tool_call", call_id="c1.ask", tool="ask_helper", args={}, **member),
            chunk("message", content="hm", agent_id="helper", parent="c1.ask"),
            chunk("tool_result", call_id="c1.ask", tool="ask_helper", result="ok", **member),
            chunk("input_required", call_id="c1.q", kind="input", message="?", **member),
            chunk("waiting", calls=["c1.q"]),
            chunk("message", content="done", **member),
            chunk("tool_result", call_id="c1", tool="delegate", result="no", is_error=True),
            chunk("done", status="failed", turn=1),
        ]
    )
    events = events_of(list(FramesEncoder(fold()).encode(log)))
    subs = [
        (event["type"], event["subagentRunId"][-1])
        for event in events
        if event["type"].startswith("SUBAGENT")
    ]
    assert subs == [
        ("SUBAGENT_STARTED", "1"),
        ("SUBAGENT_STARTED", "2"),
        ("SUBAGENT_FINISHED", "2"),
        ("SUBAGENT_FINISHED", "1"),
        ("SUBAGENT_STARTED", "1"),
        ("SUBAGENT_ERROR", "1"),
    ]
    helper = next(event for event in events if event.get("name") == "helper")
    assert helper["parentToolCallId"] == "c1.ask" and helper["parentSubagentRunId"][-1] == "1"
    asked = next(event["outcome"] for event in events if event["type"] == "RUN_FINISHED")
    assert asked["interrupts"][0]["subagentRunId"] == helper["parentSubagentRunId"]
