"""The language-neutral cases of `protocol/`, as far as they concern a client."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis import errors
from resonantgenesis._core.actions import (
    Action,
    Answered,
    Emit,
    Ended,
    Fetch,
    Finish,
    Lost,
    Open,
    Opened,
    Read,
    Received,
    Silent,
    Wait,
    Waited,
)
from resonantgenesis._core.messages import REPEATED, Answer, error_from_answer, error_from_chunk
from resonantgenesis._core.progress import ResumePoint
from resonantgenesis._core.retry import Backoff
from resonantgenesis._core.session_stream import SessionStreamMachine
from resonantgenesis._core.settings import Settings, Timeouts
from resonantgenesis._core.sse import Frame, FrameTooLarge, SSEDecoder
from resonantgenesis._core.stream_plan import StreamPlan

from ..conftest import load_cases

SSE = load_cases("sse.yaml")["cases"]
RESUME = load_cases("resume.yaml")["cases"]
ERRORS = load_cases("errors.yaml")
BACKOFF = load_cases("backoff.yaml")["cases"]
PATTERNS = load_cases("patterns.yaml")


def names(cases: list[dict[str, Any]]) -> list[str]:
    return [case["name"] for case in cases]


@pytest.mark.parametrize("cases", [SSE, RESUME, ERRORS["cases"], BACKOFF, PATTERNS["cases"]])
def test_case_names_are_unique(cases: list[dict[str, Any]]) -> None:
    assert len(set(names(cases))) == len(cases)


# -- SSE ----------------------------------------------------------------------------------------


def piece_bytes(piece: dict[str, str]) -> bytes:
    return piece["text"].encode() if "text" in piece else base64.b64decode(piece["base64"])


def decoder_for(case: dict[str, Any]) -> SSEDecoder:
    limits = case.get("limits")
    if limits is None:
        return SSEDecoder()
    return SSEDecoder(max_line=limits["line"], max_event=limits["event"])


def check_sse(case: dict[str, Any], pieces: list[bytes]) -> None:
    decoder = decoder_for(case)
    if case.get("error"):
        with pytest.raises(FrameTooLarge):
            for piece in pieces:
                decoder.feed(piece)
        return
    frames = [frame for piece in pieces for frame in decoder.feed(piece)]
    got = [{"event": f.event, "data": f.data, "id": f.id} for f in frames]
    assert got == [{"id": "", **event} for event in case["events"]]
    assert decoder.last_event_id == case.get("last_event_id", "")
    assert decoder.retry == case.get("retry")


@pytest.mark.parametrize("case", SSE, ids=names(SSE))
def test_sse(case: dict[str, Any]) -> None:
    pieces = [piece_bytes(piece) for piece in case["pieces"]]
    check_sse(case, pieces)
    if case.get("any_split", True):
        whole = b"".join(pieces)
        check_sse(case, [whole])
        check_sse(case, [whole[i : i + 1] for i in range(len(whole))])
        for cut in range(len(whole)):
            check_sse(case, [whole[:cut], whole[cut:]])


PARTS = [b"data", b"event", b"id", b"retry", b":", b" ", b"\r", b"\n", b"\r\n", b"\n\n"]
PARTS += [b"\xef\xbb\xbf", b"\xe2\x82\xac", b"\xff", b"\0", b"x", b"12", b"\xe2\x80\xa8"]
STREAMS = st.lists(st.sampled_from(PARTS), max_size=60).map(b"".join) | st.binary(max_size=80)


def run(pieces: list[bytes]) -> tuple[list[Frame], str, float | None]:
    decoder = SSEDecoder()
    frames = [frame for piece in pieces for frame in decoder.feed(piece)]
    return frames, decoder.last_event_id, decoder.retry


@given(STREAMS, st.lists(st.integers(0, 400), max_size=12))
def test_any_split_of_the_bytes_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]
    assert run(pieces) == run([stream]) == run([bytes([byte]) for byte in stream])


@given(STREAMS)
def test_the_decoder_does_what_the_standard_writes(stream: bytes) -> None:
    assert [(f.event, f.data, f.id) for f in run([stream])[0]] == by_the_standard(stream)


def by_the_standard(stream: bytes) -> list[tuple[str, str, str]]:
    """The standard's own steps over the whole text, slow and plain."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    events = []
    event = data = identity = ""
    for line in text.split("\n")[:-1]:
        if line == "":
            if data:
                events.append((event or "message", data[:-1], identity))
            event = data = ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data += value + "\n"
        elif name == "event":
            event = value
        elif name == "id" and "\0" not in value:
            identity = value
    return events


# -- errors and back-off ------------------------------------------------------------------------


def answer_of(given: dict[str, Any]) -> Answer:
    body = (
        given["text"] if "text" in given else json.dumps(given["json"]) if "json" in given else ""
    )
    return Answer(given["status"], given.get("headers", {}), body.encode())


@pytest.mark.parametrize("case", ERRORS["cases"], ids=names(ERRORS["cases"]))
def test_errors(case: dict[str, Any]) -> None:
    if "answer" in case:
        error = error_from_answer(answer_of(case["answer"]))
        assert (case["answer"]["status"] in REPEATED) is case["repeated"]
    else:
        error = error_from_chunk(case["chunk"], session_id="s", position=4)
    properties = {**vars(error), "family": type(error).__name__}
    assert {name: properties[name] for name in case["error"]} == case["error"]


def test_the_table_of_codes_is_the_sdks() -> None:
    table = {
        code: (getattr(errors, row["family"]), row["retryable"])
        for code, row in ERRORS["codes"].items()
    }
    assert table == dict(errors.CODES)
    statuses = {code: row["status"] for code, row in ERRORS["codes"].items() if row["status"]}
    for code, status in statuses.items():
        body = json.dumps({"error": {"code": code, "message": "m"}}).encode()
        assert error_from_answer(Answer(status, {}, body)).code == code


@pytest.mark.parametrize("case", BACKOFF, ids=names(BACKOFF))
def test_backoff(case: dict[str, Any]) -> None:
    backoff = Backoff(case["base"], case["cap"])
    delay = backoff.delay(case["failures"], floor=case["floor"], rng=lambda: case["random"])
    assert delay == pytest.approx(case["delay"])


# -- resume -------------------------------------------------------------------------------------


class Script:
    """Runs a case of resume.yaml against the machine."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.now = 1000.0
        given = {"max_retries": 8, "base": 0.5, "cap": 8, "silence": 8, "random": 0.5}
        given |= {"max_event": 8 * 1024 * 1024} | case.get("settings", {})
        settings = Settings(
            base_url="http://h",
            api_key="k",
            timeouts=Timeouts(silence=given["silence"]),
            max_retries=given["max_retries"],
            backoff=Backoff(given["base"], given["cap"]),
            max_event=given["max_event"],
        )
        self.machine = SessionStreamMachine(
            plan_of(case["stream"]), settings, clock=lambda: self.now, rng=lambda: given["random"]
        )

    def step(self, name: str, value: Any) -> None:
        if name in ("open", "fetch"):
            self.wants_request(Open if name == "open" else Fetch, value)
        elif name in ("read", "wait", "end", "raise"):
            self.wants(name, value)
        elif name == "emit":
            for position in value:
                action = self.machine.next()
                assert isinstance(action, Emit), action
                assert action.item.position == position
        elif name == "later":
            self.now += value
        else:
            self.machine.give(self.outcome(name, value))

    def wants(self, name: str, value: Any) -> None:
        action = self.machine.next()
        if name == "read":
            assert action == Read(value)
        elif name == "wait":
            assert isinstance(action, Wait), action
            assert action.seconds == pytest.approx(value, abs=0.001)
        elif name == "end":
            assert action == Finish()
        else:
            assert isinstance(action, Finish), action
            assert {key: getattr(action.error, key) for key in value} == value

    def wants_request(self, kind: type[Open] | type[Fetch], expected: dict[str, Any]) -> None:
        action: Action = self.machine.next()
        assert isinstance(action, kind), action
        request = action.request
        got = {
            "method": request.method,
            "path": request.path,
            "query": dict(request.params),
            "body": request.body,
            "key": request.headers.get("Idempotency-Key"),
            "accept": request.headers.get("Accept"),
            "prefer": request.headers.get("Prefer"),
        }
        assert {name: got[name] for name in expected} == expected

    def outcome(self, name: str, value: Any) -> Any:
        simple = {"ended": Ended(), "lost": Lost("cut"), "silent": Silent(), "waited": Waited()}
        if name in simple:
            return simple[name]
        if name == "opened":
            return Opened(value)
        if name == "answer":
            return Answered(answer_of(value))
        if name == "frames":
            return Received(value.encode())
        assert name == "chunks", name
        return Received(b"".join(frame_of(chunk) for chunk in value))


def frame_of(chunk: dict[str, Any]) -> bytes:
    event = "message" if chunk["type"] == "text" else chunk["type"]
    return f"id: {chunk['position']}\nevent: {event}\ndata: {json.dumps(chunk)}\n\n".encode()


def plan_of(stream: dict[str, Any]) -> StreamPlan:
    given = dict(stream)
    body, session = given.pop("execute", None), given.pop("join", None)
    recalled = given.pop("recalled", None)
    resume_point = ResumePoint(idempotency_key=given.pop("key", "k"), session_id=session)
    if body is not None:
        resume_point.session_id = body.get("session_id")
    for name, value in (recalled or {}).items():
        setattr(resume_point, name, value)
    resume_point.position = given.get("resume_from") or 0
    return StreamPlan(body=body, resume_point=resume_point, recalled=bool(recalled), **given)


@pytest.mark.parametrize("case", RESUME, ids=names(RESUME))
def test_resume(case: dict[str, Any]) -> None:
    script = Script(case)
    for step in case["script"]:
        ((name, value),) = step.items()
        script.step(name, value)
