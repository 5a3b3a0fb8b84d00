"""Runs the language-neutral cases of `protocol/` against the machines."""

from __future__ import annotations

import json
from typing import Any

import pytest
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
from resonantgenesis._core.messages import Answer
from resonantgenesis._core.progress import ResumePoint
from resonantgenesis._core.retry import Backoff
from resonantgenesis._core.session_stream import SessionStreamMachine
from resonantgenesis._core.settings import Settings, Timeouts
from resonantgenesis._core.stream_plan import StreamPlan


def names(cases: list[dict[str, Any]]) -> list[str]:
    """The cases' names, as ids of a parametrized test."""
    return [case["name"] for case in cases]


def answer_of(given: dict[str, Any]) -> Answer:
    body = (
        given["text"] if "text" in given else json.dumps(given["json"]) if "json" in given else ""
    )
    return Answer(given["status"], given.get("headers", {}), body.encode())


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
