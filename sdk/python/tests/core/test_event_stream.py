"""Subscriptions to events without a network: the cases of `protocol/events.yaml`, properties."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resonantgenesis._core.actions import (
    Action,
    Answered,
    Emit,
    Ended,
    Fetch,
    Lost,
    Open,
    Opened,
    Outcome,
    Read,
    Received,
    Silent,
    Wait,
    Waited,
)
from resonantgenesis._core.event_plan import event_plan
from resonantgenesis._core.event_stream import EventStreamMachine
from resonantgenesis._core.messages import Answer, Request, place_of
from resonantgenesis._core.retry import Backoff
from resonantgenesis._core.settings import Settings, Timeouts

from ..conftest import load_cases
from ..support.script import Script, names

CASES = load_cases("events.yaml")["cases"]


def frame(cursor: str) -> bytes:
    number = cursor.removeprefix("c_")
    raw = {"id": f"evt_{number}", "type": "app.x", "channel": "app", "cursor": cursor, "data": {}}
    return f"id: {cursor}\nevent: app.x\ndata: {json.dumps(raw)}\n\n".encode()


class EventScript(Script):
    """Runs a case of events.yaml against the machine."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.now = 1000.0
        given = {"max_retries": 8, "random": 0.5} | case.get("settings", {})
        self.machine: Any = EventStreamMachine(
            event_plan(
                **{
                    "events": None,
                    "filters": None,
                    "since": None,
                    "on_expired": "raise",
                    **case["subscribe"],
                }
            ),
            Settings("http://h", "k", Timeouts(silence=8), given["max_retries"], Backoff(0.5, 8)),
            clock=lambda: self.now,
            rng=lambda: given["random"],
        )

    def step(self, name: str, value: Any) -> None:
        if name == "emit":
            for cursor in value:
                action = self.machine.next()
                assert isinstance(action, Emit), action
                assert action.item.cursor == cursor
                assert (action.item.type == "gap") is (not action.item.id)
        elif name == "cursor":
            assert self.machine.cursor == value
        else:
            super().step(name, value)

    def wants_request(self, kind: type[Open] | type[Fetch], expected: dict[str, Any]) -> None:
        action: Action[Any] = self.machine.next()
        assert isinstance(action, kind), action
        request, wanted = action.request, dict(expected)
        for name, value in wanted.pop("query", {}).items():
            assert request.params.get(name) == value, name
        got = {
            "method": request.method,
            "path": request.path,
            "accept": request.headers.get("Accept"),
            "last_event_id": request.headers.get("Last-Event-ID"),
        }
        assert {name: got[name] for name in wanted} == wanted

    def outcome(self, name: str, value: Any) -> Any:
        if name == "events":
            return Received(b"".join(frame(cursor) for cursor in value))
        return super().outcome(name, value)


@pytest.mark.parametrize("case", CASES, ids=names(CASES))
def test_event_cases(case: dict[str, Any]) -> None:
    script = EventScript(case)
    for step in case["script"]:
        ((name, value),) = step.items()
        script.step(name, value)


def test_event_case_names_are_unique() -> None:
    assert len(set(names(CASES))) == len(CASES)


# -- whatever the network does -------------------------------------------------------------------

FAULTS = ["cut", "end", "silent", "refuse", "garble", "split", "repeat", "none"]


class Network:
    """A log of events that grows while it is read, seen through a faulty network."""

    def __init__(self, wanted: list[bool], faults: list[str]) -> None:
        self.wanted = wanted
        self.faults = faults
        self.blocks: list[Outcome] = []

    def fault(self) -> str:
        return self.faults.pop() if self.faults else "none"

    def due(self, after: int) -> list[str]:
        numbers = range(after + 1, len(self.wanted) + 1)
        return [f"c_{n}" for n in numbers if self.wanted[n - 1]]

    def open(self, request: Request) -> Outcome:
        fault = self.fault()
        if fault == "refuse":
            return Answered(Answer(503, {}, b""))
        if fault == "cut":
            return Lost("cut")
        place = request.headers.get("Last-Event-ID") or request.params["since"]
        cursors = self.due(int(place.removeprefix("c_")))
        self.blocks = self.treat(fault, [frame(cursor) for cursor in cursors], place)
        return Opened({})

    def treat(self, fault: str, frames: list[bytes], place: str) -> list[Outcome]:
        half = len(frames) // 2
        heartbeat = Received(f"id: c_{len(self.wanted)}\n\n".encode())
        if fault == "silent":
            return [Silent()]
        if fault == "end":
            return [Received(b"".join(frames[:half])), Ended()]
        if fault == "garble" and frames:
            return [Received(b"".join(frames[:half]) + frames[half][:-6] + b"\n\n")]
        if fault == "split":
            whole = b"".join(frames)
            return [Received(whole[i : i + 7]) for i in range(0, len(whole) // 2, 7)] + [Lost("x")]
        if fault == "repeat":
            frames = [one for one in frames for _ in range(2)]
        return [*(Received(one) for one in frames), heartbeat]

    def fetch(self, request: Request) -> Outcome:
        fault = self.fault()
        if fault in ("cut", "silent"):
            return Lost("cut") if fault == "cut" else Silent()
        place = request.params.get("cursor") or request.params["since"]
        if place.startswith("9999"):
            return self.page([], 0)
        after = int(place.removeprefix("c_"))
        looked = min(after + 3, len(self.wanted))
        return self.page([c for c in self.due(after) if int(c[2:]) <= looked], looked)

    def page(self, cursors: list[str], looked: int) -> Outcome:
        raws = [{"id": f"evt_{c[2:]}", "type": "app.x", "cursor": c} for c in cursors]
        more = looked < len(self.wanted)
        body = {"events": raws, "next_cursor": f"c_{looked}", "has_more": more}
        return Answered(Answer(200, {}, json.dumps(body).encode()))


@settings(max_examples=300)
@given(
    st.lists(st.booleans(), max_size=25),
    st.lists(st.sampled_from(FAULTS), max_size=25),
    st.booleans(),
)
def test_no_fault_loses_doubles_or_reorders(
    wanted: list[bool], faults: list[str], from_now: bool
) -> None:
    network = Network(wanted, faults)
    plan = event_plan(None, None, None if from_now else "c_0", "raise")
    config = Settings(base_url="http://h", api_key="k", max_retries=200)
    machine = EventStreamMachine(plan, config, clock=lambda: 0.0, rng=lambda: 0.0)
    got = []
    for _ in range(3000):
        action = machine.next()
        if machine.cursor == f"c_{len(wanted)}" and not isinstance(action, Emit):
            break
        match action:
            case Emit(event):
                got.append(event.cursor)
            case Open(request):
                machine.give(network.open(request))
            case Read():
                machine.give(network.blocks.pop(0) if network.blocks else Lost("cut"))
            case Fetch(request):
                machine.give(network.fetch(request))
            case Wait():
                machine.give(Waited())
            case _:
                raise AssertionError(action)
    assert machine.cursor == f"c_{len(wanted)}"
    assert got == network.due(0)


def test_places() -> None:
    moment = datetime(2026, 2, 21, 1, 2, 3, 4, timezone(timedelta(hours=1)))
    assert place_of(moment) == "2026-02-21T00:02:03.000004Z"
    assert place_of("c_1") == "c_1" and place_of(None) is None
    with pytest.raises(ValueError, match="until: a datetime needs a time zone"):
        place_of(datetime.now(UTC).replace(tzinfo=None), "until")
    with pytest.raises(ValueError, match="at least one pattern"):
        event_plan([], None, None, "raise")
    with pytest.raises(ValueError, match="on_expired"):
        event_plan("*", None, None, "latest")  # type: ignore[arg-type]
    assert event_plan("session.*", None, None, "raise").event_filter.events == ("session.*",)
