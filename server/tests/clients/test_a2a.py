"""The events of A2A: one sequence for a turn, and a task at any place that fits what follows."""

from __future__ import annotations

import contextlib
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.clients.a2a.encode import TaskFrames, TaskInfo
from resonantgenesis_server.clients.a2a.old_rest import old_params
from resonantgenesis_server.clients.a2a.requests import OldSetPushBody, SendBody, TaskBody
from resonantgenesis_server.clients.frames import FramesEncoder
from resonantgenesis_server.http.api.session_models import validated
from resonantgenesis_server.log.base import Entry
from resonantgenesis_server.model.errors import ApiError

from .turns import TURNS, WAITING_TURNS

ENDED = {"COMPLETED", "FAILED", "CANCELED"}


#: 1.0; 0.3; and 0.3 in the JSON of Protocol Buffers.
FORMS = st.sampled_from([(False, False), (True, False), (True, True)])


def fold(form: tuple[bool, bool] = (False, False)) -> TaskFrames:
    return TaskFrames(TaskInfo("sess_1", 1, "mine", "go", *form), 7)


def events_of(frames: list[bytes]) -> list[dict[str, Any]]:
    """The events in the words of 0.3."""
    found = []
    for frame in frames:
        assert frame.startswith(b"data: ") and frame.count(b"\n") == 2
        answer = orjson.loads(frame[6:])
        assert (answer["jsonrpc"], answer["id"]) == ("2.0", 7)
        result = answer["result"]
        if "kind" not in result:
            [(name, event)] = result.items()
            result = {"kind": name, **event}
        assert result.get("contextId") == "mine"
        found.append(result)
    return found


def state_of(event: dict[str, Any]) -> str:
    state: str = event["status"]["state"].removeprefix("TASK_STATE_").upper().replace("-", "_")
    return state.replace("CANCELLED", "CANCELED")


@given(TURNS | WAITING_TURNS, FORMS, st.data())
def test_the_events_of_a_turn_are_one_sequence(
    turn: list[Entry], form: tuple[bool, bool], data: st.DataObject
) -> None:
    expected = list(FramesEncoder(fold(form)).encode(turn))
    split = data.draw(st.integers(0, len(turn)))
    encoder = FramesEncoder(fold(form))
    before = list(encoder.encode(turn[:split]))
    left = encoder.copy()
    assert before + list(encoder.encode(turn[split:])) == expected
    assert before + list(left.encode(turn[split:])) == expected


@given(TURNS | WAITING_TURNS, FORMS)
def test_tasks_are_well_formed(turn: list[Entry], form: tuple[bool, bool]) -> None:
    events = events_of(list(FramesEncoder(fold(form)).encode(turn)))
    assert [event["kind"] for event in events].count("task") == (1 if turn else 0)
    assert not events or events[0]["kind"] == "task"
    states = [state_of(event) for event in events if "status" in event]
    assert not ENDED & set(states[:-1])
    if turn and turn[-1].kind == "done":
        assert states[-1] in ENDED


@given(TURNS | WAITING_TURNS, FORMS, st.data())
def test_a_task_and_what_follows_are_the_whole_answer(
    turn: list[Entry], form: tuple[bool, bool], data: st.DataObject
) -> None:
    """A client that comes back at any place."""
    split = data.draw(st.integers(0, len(turn)))
    so_far = fold(form)
    skip = sum(len(so_far.frames(each.kind, orjson.loads(each.body))) for each in turn[:split])
    rest = FramesEncoder(fold(form), skip)
    [task, *events] = events_of([so_far.snapshot(), *rest.encode(turn)])
    whole = fold(form)
    for each in turn:
        whole.frames(each.kind, orjson.loads(each.body))
    text, state = text_of(task), state_of(task)
    for event in events:
        if "artifact" in event:
            assert event["append"] == bool(text)
            text += event["artifact"]["parts"][0]["text"]
        if "status" in event:
            state = state_of(event)
    assert (text, state) == (text_of(whole.task()), whole.state)


_NAMES = st.sampled_from(
    ["request", "message", "content", "config", "config_id", "configuration", "data", "text", "id",
     "push_notification", "pushNotificationConfig", "push_notification_config", "history_length"]
)  # fmt: skip
_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(_NAMES, _JSON, max_size=5))
def test_any_parameters_of_protocol_buffers_are_read_or_refused(given: dict[str, Any]) -> None:
    before = orjson.dumps(given)
    params = old_params(given)
    assert orjson.dumps(given) == before
    for body in (SendBody, OldSetPushBody, TaskBody):
        with contextlib.suppress(ApiError):
            validated(body, params, lenient=True)


def text_of(task: dict[str, Any]) -> str:
    return "".join(part["text"] for each in task.get("artifacts", ()) for part in each["parts"])
