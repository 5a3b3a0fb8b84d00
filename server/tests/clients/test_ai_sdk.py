"""The frames of the AI SDK: one sequence for a turn, and one that clients take whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.clients.ai_sdk.encode import END, UiMessageFrames
from resonantgenesis_server.clients.ai_sdk.messages import UiMessageFold
from resonantgenesis_server.clients.ai_sdk.routes import ChatMessage
from resonantgenesis_server.clients.frames import FramesEncoder
from resonantgenesis_server.codec.sse import aside_entry
from resonantgenesis_server.http.serving.stream_connection import chunked
from resonantgenesis_server.log.base import Entry

from .turns import TURNS, WAITING_TURNS, chunk, entries


def fold() -> UiMessageFrames:
    return UiMessageFrames("sess_1", 1)


def whole(turn: list[Entry]) -> list[bytes]:
    return list(FramesEncoder(fold()).encode(turn))


@given(TURNS | WAITING_TURNS, st.data())
def test_the_frames_of_a_turn_are_one_sequence(turn: list[Entry], data: st.DataObject) -> None:
    """Read at once, in parts, by one that leaves the group in between, and from any frame on."""
    expected = whole(turn)
    split = data.draw(st.integers(0, len(turn)))
    encoder = FramesEncoder(fold())
    before = list(encoder.encode(turn[:split]))
    left = encoder.copy()
    assert before + list(encoder.encode(turn[split:])) == expected
    assert before + list(left.encode(turn[split:])) == expected
    skip = data.draw(st.integers(0, len(expected)))
    assert list(FramesEncoder(fold(), skip).encode(turn)) == expected[skip:]


@given(TURNS)
def test_what_is_broadcast_is_what_is_read(turn: list[Entry]) -> None:
    encoder = FramesEncoder(fold())
    live = [entry for entry in turn if entry.kind not in {"done", "waiting"}]
    for entry in live:
        written = encoder.live([entry])
        assert written is not None  # else every reader would take the entry again
        frames = b"".join(whole(turn[: entry.position])[len(whole(turn[: entry.position - 1])) :])
        assert written == (chunked(frames) if frames else b"")
    assert all(encoder.live([entry]) is None for entry in turn if entry not in live)


class Reader:
    """The rules of the SDK's own reader, and what it shows at the end."""

    def __init__(self) -> None:
        self.open: dict[str, str] = {}
        self.calls: dict[str, str] = {}
        self.text = ""
        self.in_step = self.over = False

    def take(self, frame: dict[str, Any]) -> None:
        kind = frame["type"]
        if frame["type"] == "start":
            self.over = False
        assert not self.over
        part, _, what = kind.rpartition("-")
        handle: dict[str, Callable[[], None]] = {
            "start": lambda: self.open.__setitem__(frame["id"], part),
            "end": lambda: self._end(part, frame["id"]),
            "delta": lambda: self._delta(part, frame),
        }
        if part in {"text", "reasoning"}:
            handle[what]()
        elif kind == "finish-step":
            assert not self.open
        elif kind == "tool-input-available":
            self.calls[frame["toolCallId"]] = frame["toolName"]
        elif kind.startswith(("tool-output-", "tool-approval-")):
            assert frame["toolCallId"] in self.calls
        elif kind == "finish":
            assert not self.open
            self.over = True

    def _delta(self, part: str, frame: dict[str, Any]) -> None:
        assert self.open[frame["id"]] == part
        if part == "text":
            self.text += frame["delta"]

    def _end(self, part: str, part_id: str) -> None:
        assert self.open.pop(part_id) == part


@given(TURNS | WAITING_TURNS)
def test_a_client_takes_every_frame_and_has_the_whole_text(turn: list[Entry]) -> None:
    reader = Reader()
    frames = whole(turn)
    for frame in frames:
        assert frame.startswith(b"data: ") and frame.endswith(b"\n\n")
        assert frame.count(b"\n") == 2 and len(frame.decode().splitlines()) == 2
        if frame != END:
            reader.take(orjson.loads(frame[6:]))
    ended = bool(turn) and turn[-1].kind in {"done", "waiting"}
    assert (bool(frames) and frames[-1] == END) == ended
    said = [orjson.loads(entry.body)["content"] for entry in turn if entry.kind == "message"]
    assert reader.text == "".join(said)


def test_encoders_are_equal_where_their_frames_are() -> None:
    assert FramesEncoder(fold()) == FramesEncoder(fold())
    assert hash(FramesEncoder(fold())) == hash(FramesEncoder(fold()))
    assert FramesEncoder(fold()) != FramesEncoder(UiMessageFrames("sess_1", 2))
    assert FramesEncoder(fold()) != FramesEncoder(UiMessageFrames("sess_2", 1))
    assert FramesEncoder(fold(), 3) != FramesEncoder(fold(), 3)


def test_what_is_not_stored_is_no_frame() -> None:
    """Else one who counts the frames of a live answer would leave out others when it comes back."""
    encoder = FramesEncoder(fold())
    aside = aside_entry(b'{"type":"data","name":"n","data":1,"transient":true}', "sess_1")
    assert list(encoder.encode([aside])) == []
    assert encoder.live([aside]) == b""


def test_one_who_does_not_count_sees_what_is_not_stored() -> None:
    """But nothing before `start`, and nothing that changes the frames after it."""
    seen = FramesEncoder(UiMessageFrames("sess_1", 1, counted=False))
    aside = aside_entry(b'{"type":"data","name":"n","data":1,"transient":true}', "sess_1")
    assert list(seen.encode([aside])) == []
    turn = entries([chunk("message", content="a"), chunk("message", content="b")])
    frames = list(seen.encode([turn[0], aside, turn[1]]))
    shown = b'data: {"type":"data-n","data":1,"transient":true}\n\n'
    assert frames.count(shown) == 1
    frames.remove(shown)
    assert frames == whole(turn)


def test_one_who_skips_frames_is_written_nothing_for_them() -> None:
    encoder = FramesEncoder(fold(), 4)
    first, second = entries([chunk("message", content="a"), chunk("message", content="b")])
    assert encoder.live([first]) == b""
    assert encoder.live([second]) == b""
    assert FramesEncoder(fold(), 3).live([first, second]) == chunked(whole([first, second])[3])


@given(TURNS | WAITING_TURNS)
def test_a_loaded_answer_has_what_the_stream_had(turn: list[Entry]) -> None:
    fold = UiMessageFold("sess_1", 1)
    for entry in turn:
        fold.add(
            {**orjson.loads(entry.body), "type": "text" if entry.kind == "message" else entry.kind}
        )
    message = fold.message()
    said = [orjson.loads(entry.body)["content"] for entry in turn if entry.kind == "message"]
    shown = [part["text"] for part in message["parts"] if part["type"] == "text"]
    ended = bool(turn) and turn[-1].kind in {"done", "waiting"}
    assert "".join(shown) == "".join(said) or not ended  # a text that is open is no part yet
    assert (message["status"] == "running") == (not turn or turn[-1].kind != "done")


def test_a_loaded_answer_is_bounded() -> None:
    fold = UiMessageFold("sess_1", 1)
    for number in range(6_000):
        fold.add({"type": "data", "name": "n", "data": "x" * 300, "id": str(number)})
    fold.add({"type": "text", "content": "late"})
    fold.add({"type": "done", "status": "success"})
    message = fold.message()
    assert message["metadata"]["truncated"] and message["status"] == "success"
    assert len(message["parts"]) < 5_000


@given(TURNS | WAITING_TURNS)
def test_a_client_that_has_the_results_gets_all_but_them(turn: list[Entry]) -> None:
    called = {orjson.loads(each.body)["call_id"] for each in turn if each.kind == "tool_result"}
    kept = UiMessageFrames("sess_1", 1, settled=frozenset(called))
    written = list(FramesEncoder(kept).encode(turn))
    assert all(b'"tool-output-' not in frame for frame in written)
    assert [frame for frame in written if b'"tool-' not in frame] == [
        frame for frame in whole(turn) if b'"tool-' not in frame
    ]


def test_an_approval_is_read_in_the_form_of_its_client() -> None:
    """A call without a result is approved for assistant-ui; a tool of the AI SDK may be named so
    that its parts look like that."""
    part = {"type": "tool-call", "toolCallId": "c", "state": "approval-requested"}
    said = [
        list(ChatMessage.model_validate({"role": "assistant", form: [part]}).answers())
        for form in ("content", "parts")
    ]
    assert [[each.approved for each in answers] for answers in said] == [[True], []]
