"""A session's stream without a network: the cases of `protocol/resume.yaml`, properties."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from resonantgenesis._core.actions import (
    Answered,
    Emit,
    Ended,
    Fetch,
    Finish,
    Lost,
    Open,
    Opened,
    Outcome,
    Read,
    Received,
    Silent,
    Waited,
)
from resonantgenesis._core.messages import (
    Answer,
    Request,
)
from resonantgenesis._core.progress import ResumePoint
from resonantgenesis._core.session_stream import SessionStreamMachine
from resonantgenesis._core.settings import Settings
from resonantgenesis._core.stream_plan import StreamPlan

from ..conftest import load_cases
from ..support.script import Script, names

CASES = load_cases("resume.yaml")["cases"]


@pytest.mark.parametrize("case", CASES, ids=names(CASES))
def test_resume(case: dict[str, Any]) -> None:
    script = Script(case)
    for step in case["script"]:
        ((name, value),) = step.items()
        script.step(name, value)


HEADERS = {"x-session-id": "s", "x-turn": "2", "x-log-epoch": "e"}
FAULTS = ["cut", "end", "silent", "refuse", "gap", "repeat", "garble", "split", "merge", "none"]


class World:
    """A session of two turns, `start` chunks in the first, seen through a faulty network."""

    def __init__(self, start: int, length: int, faults: list[str]) -> None:
        self.start = start
        first = [{"type": "text", "content": "x", "position": n + 1} for n in range(start - 1)]
        first.append({"type": "done", "turn": 1, "position": start})
        second = [{"type": "text", "content": str(n)} for n in range(length - 1)]
        second.append({"type": "done", "turn": 2})
        later = [{**chunk, "position": start + n + 1} for n, chunk in enumerate(second)]
        self.log: list[dict[str, Any]] = first + later
        self.faults = faults
        self.blocks: list[Outcome] = []

    def fault(self) -> str:
        return self.faults.pop() if self.faults else "none"

    def open(self, request: Request) -> Outcome:
        fault = self.fault()
        if fault == "refuse":
            return Answered(Answer(503, {}, b""))
        if fault == "cut":
            return Lost("cut")
        after = int(request.params.get("resume_from", self.start))
        self.blocks = self.treat(fault, [frame(chunk) for chunk in self.log[after:]], after)
        return Opened(HEADERS)

    def treat(self, fault: str, frames: list[bytes], after: int) -> list[Outcome]:
        half = len(frames) // 2
        if fault == "silent":
            return [Silent()]
        if fault == "end":
            return [Received(b"".join(frames[:half])), Ended()]
        if fault == "gap":
            frames = frames[:half] + frames[half + 1 :]
        elif fault == "repeat":
            frames = [
                frame(chunk) for chunk in self.log[max(self.start, after - 2) : after]
            ] + frames
        elif fault == "garble":
            frames[half] = frames[half][:-6] + b"\n\n"
        elif fault == "merge" and half > 1:
            frames = [frame(merged(self.log[after : after + half])), *frames[half:]]
        elif fault == "split":
            whole = b"".join(frames)
            return [Received(whole[i : i + 7]) for i in range(0, len(whole) // 2, 7)] + [Lost("x")]
        return [*(Received(one) for one in frames), Ended()]

    def fetch(self, request: Request) -> Outcome:
        fault = self.fault()
        if fault in ("cut", "silent"):
            return Lost("cut") if fault == "cut" else Silent()
        if request.method == "POST":
            body: dict[str, Any] = {"session_id": "s", "turn": 2, "status": "running"}
        else:
            after = int(request.params["after"])
            events = self.log[after : after + 5]
            body = {"events": events[1:] if fault == "gap" else events, "done": False}
        return Answered(Answer(200, {}, json.dumps(body).encode()))


def frame(chunk: dict[str, Any]) -> bytes:
    return f"id: {chunk['position']}\nevent: message\ndata: {json.dumps(chunk)}\n\n".encode()


def merged(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    text = "".join(chunk["content"] for chunk in chunks)
    first, last = chunks[0]["position"], chunks[-1]["position"]
    return {"type": "text", "content": text, "from": first, "position": last}


@settings(max_examples=300)
@given(st.integers(1, 5), st.integers(1, 30), st.lists(st.sampled_from(FAULTS), max_size=25))
def test_no_fault_loses_doubles_or_reorders(start: int, length: int, faults: list[str]) -> None:
    note(f"{start}, {length}, {faults}")
    world = World(start, length, faults)
    body = {"agent_id": "a", "goal": "g", "session_id": "s"}
    plan = StreamPlan(body=body, resume_point=ResumePoint(idempotency_key="k", session_id="s"))
    config = Settings(base_url="http://h", api_key="k", max_retries=100)
    machine = SessionStreamMachine(plan, config, clock=lambda: 0.0, rng=lambda: 0.0)
    due, text = start + 1, ""
    for _ in range(3000):
        match machine.next():
            case Emit(chunk):
                assert (chunk.from_position or chunk.position) == due
                due, text = chunk.position + 1, text + chunk.content
            case Finish(error):
                assert error is None
                break
            case Open(request):
                machine.give(world.open(request))
            case Read():
                machine.give(world.blocks.pop(0))
            case Fetch(request):
                machine.give(world.fetch(request))
            case _:
                machine.give(Waited())
    assert due == len(world.log) + 1
    assert text == "".join(str(n) for n in range(length - 1))
    assert plan.resume_point.settled and not plan.resume_point.broken


def test_the_epoch_goes_with_every_request_for_more() -> None:
    """The server refuses a position of another store before it sends anything."""
    plan = StreamPlan(resume_point=ResumePoint(session_id="s", epoch="ep_1"), turn=1)
    assert plan.open(3).headers["X-Log-Epoch"] == "ep_1"
    assert plan.poll(3, wait=True).headers["X-Log-Epoch"] == "ep_1"
    unknown = StreamPlan(resume_point=ResumePoint(session_id="s"), turn=1)
    assert "X-Log-Epoch" not in unknown.open(None).headers
