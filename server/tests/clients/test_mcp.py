"""The messages of an MCP call: one sequence for a turn, with places to go on from."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.clients.forms import answer_of, elicitation
from resonantgenesis_server.clients.frames import FramesEncoder
from resonantgenesis_server.clients.mcp.encode import CallFrames, ToolCallInfo, place_of
from resonantgenesis_server.log.base import Entry
from resonantgenesis_server.model.errors import InvalidRequest
from resonantgenesis_server.sessions.answers import InputRequest

from .turns import TURNS, WAITING_TURNS

IDS = st.integers(0, 2**31) | st.text(min_size=1, max_size=20)
OF_CALLS = st.builds(ToolCallInfo, IDS, st.none() | IDS, st.booleans(), st.booleans())
OF_TASKS = st.builds(ToolCallInfo, IDS, st.none() | IDS, st.booleans(), is_task=st.just(True))
INFOS = OF_CALLS | OF_TASKS


def messages_of(frames: list[bytes]) -> list[dict[str, Any]]:
    found = []
    for frame in frames:
        place, _, data = frame.rpartition(b"data: ")
        assert data.endswith(b"\n\n") and data.count(b"\n") == 2 and place.count(b"\n") <= 1
        found.append(orjson.loads(data))
    return found


@given(TURNS | WAITING_TURNS, INFOS, st.data())
def test_the_messages_of_a_call_are_one_sequence(
    turn: list[Entry], info: ToolCallInfo, data: st.DataObject
) -> None:
    expected = list(FramesEncoder(CallFrames("sess_1", 1, info)).encode(turn))
    split = data.draw(st.integers(0, len(turn)))
    encoder = FramesEncoder(CallFrames("sess_1", 1, info))
    before = list(encoder.encode(turn[:split]))
    left = encoder.copy()
    assert before + list(encoder.encode(turn[split:])) == expected
    assert before + list(left.encode(turn[split:])) == expected
    skip = data.draw(st.integers(0, len(expected)))
    rest = FramesEncoder(CallFrames("sess_1", 1, info), skip)
    assert list(rest.encode(turn)) == expected[skip:]


@given(TURNS | WAITING_TURNS, INFOS)
def test_calls_are_well_formed(turn: list[Entry], info: ToolCallInfo) -> None:
    frames = list(FramesEncoder(CallFrames("sess_1", 1, info)).encode(turn))
    progress = 0
    for number, message in enumerate(messages_of(frames), 1):
        assert message["jsonrpc"] == "2.0"
        about = (message.get("params") or message.get("result"))["_meta"] if info.is_task else None
        assert about in (None, {"io.modelcontextprotocol/related-task": {"taskId": "sess_1.1"}})
        if message.get("method") == "notifications/progress":
            assert message["params"]["progressToken"] == info.token is not None
            assert message["params"]["progress"] > progress
            progress = message["params"]["progress"]
        elif message.get("method") == "elicitation/create":
            assert info.elicits and not info.is_modern
        else:
            assert message["id"] == info.rpc_id
            assert ("resultType" in message["result"]) == info.is_modern
        if not info.is_modern:
            name = frames[number - 1].partition(b"\n")[0].removeprefix(b"id: ").decode()
            place = place_of(name)
            assert place is not None
            assert (place.session_id, place.turn, place.count) == ("sess_1", 1, number)
            assert place.info == info
    if turn and turn[-1].kind == "done":
        assert "result" in messages_of(frames)[-1]


@pytest.mark.parametrize(
    ("schema", "filled", "payload"),
    [
        (None, {"value": "x"}, "x"),
        ({"type": "integer"}, {"value": 3}, 3),
        ({"type": "array"}, {"value": "[1]"}, [1]),
        ({"type": "array"}, {"value": "no JSON"}, "no JSON"),
        (
            {"type": "object", "properties": {"a": {"type": "string"}}},
            {"a": "x"},
            {"a": "x"},
        ),
        (
            {"type": "object", "properties": {"a": {"type": "object"}}},
            {"value": '{"a": {}}'},
            {"a": {}},
        ),
        ({"type": ["integer", "null"]}, {"value": "1"}, 1),
        (
            {"type": "object", "properties": {"a": {"type": ["string", "null"]}}},
            {"value": '{"a": null}'},
            {"a": None},
        ),
    ],
)
def test_questions_are_forms(schema: object, filled: dict[str, Any], payload: object) -> None:
    ask = {"call_id": "c", "kind": "input", "schema": schema}
    form = elicitation(ask)["params"]["requestedSchema"]
    assert form["type"] == "object" and set(filled) <= set(form["properties"])
    assert all(each["type"] not in {"object", "array"} for each in form["properties"].values())
    answer = answer_of(ask, {"action": "accept", "content": filled})
    assert answer == InputRequest("c", payload=payload, has_payload=True)


def test_only_a_boolean_approves() -> None:
    ask = {"call_id": "c", "kind": "approval"}
    for content in ({"approved": "no"}, {"approved": 1}):
        with pytest.raises(InvalidRequest):
            answer_of(ask, {"action": "accept", "content": content})
    for result in (
        None,
        {"action": "decline"},
        {"action": "cancel", "content": {"approved": True}},
    ):
        assert answer_of(ask, result) == InputRequest("c", approved=False)
    empty = answer_of(ask, {"action": "accept"})
    assert (empty.approved, empty.has_payload) == (None, False)  # which a session refuses
