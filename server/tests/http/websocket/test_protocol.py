"""The message machine and its table: plain classes, fed with anything."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.http.limits import SocketLimits
from resonantgenesis_server.http.websocket.messages import (
    Action,
    Authenticate,
    Cancel,
    Close,
    Execute,
    Reply,
    SubscribeEvents,
    SubscribeSession,
    Unsubscribe,
)
from resonantgenesis_server.http.websocket.protocol import SocketMachine
from resonantgenesis_server.http.websocket.subscriptions import ChannelTable
from resonantgenesis_server.model.errors import NotFound, Unauthenticated, Unavailable
from ws_harness import check_from_server

LIMITS = SocketLimits()
FREE = replace(LIMITS, errors=10**6, messages_per_second=1e9)


def machine(limits: SocketLimits = FREE, *, authenticated: bool = True) -> SocketMachine:
    return SocketMachine(limits, 0.0, authenticated=authenticated)


def say(found: SocketMachine, message: object, now: float = 0.0) -> Action:
    (action,) = found.text(json.dumps(message), now)
    return action


def answer(action: Action) -> dict[str, Any]:
    assert isinstance(action, Reply)
    message: dict[str, Any] = json.loads(action.message)
    check_from_server(message)
    return message


def test_each_message_becomes_its_action() -> None:
    found = machine()
    assert answer(say(found, {"type": "ping", "id": 1})) == {"type": "pong", "id": 1}
    action = say(found, {"type": "subscribe", "channels": ["app", "teams", "app"]})
    assert isinstance(action, SubscribeEvents)
    assert action.channels == ("app", "teams")
    action = say(found, {"type": "subscribe", "channels": ["session:sess_1"], "resume_from": 3})
    assert isinstance(action, SubscribeSession)
    assert (action.session_id, action.message.resume_from) == ("sess_1", 3)
    action = say(found, {"type": "unsubscribe", "channels": ["app", "session:x"]})
    assert isinstance(action, Unsubscribe)
    assert isinstance(say(found, {"type": "execute", "agent_id": "a", "goal": "g"}), Execute)
    assert isinstance(say(found, {"type": "cancel", "session_id": "s"}), Cancel)
    assert say(found, {"type": "auth", "token": "t", "id": "i"}) == Authenticate("t", "i")


def test_the_credential_comes_first_and_in_time() -> None:
    found = machine(authenticated=False)
    assert answer(say(found, {"type": "ping"}))["code"] == "UNAUTHENTICATED"
    assert say(found, {"type": "auth", "token": "t"}) == Authenticate("t", None)
    assert found.auth_overdue() == []  # it came in time, its check is under way
    found.authenticated()
    assert answer(say(found, {"type": "ping"}))["type"] == "pong"
    late = machine(authenticated=False)
    (closing,) = late.auth_overdue()
    assert isinstance(closing, Close) and closing.code == 4408
    assert late.text('{"type":"ping"}', 1) == late.binary(1) == []


def test_of_an_unauthenticated_message_only_the_credential_is_read() -> None:
    found = machine(authenticated=False)
    for wrong in ({"type": "subscribe", "events": list(range(2_000))}, {"type": 5}, {"a": "b"}, []):
        message = answer(say(found, wrong))
        assert message["code"] in {"UNAUTHENTICATED", "INVALID_REQUEST"}
        assert len(json.dumps(message)) < 300
    large = answer(say(found, {"type": "auth", "token": "t", "x": "x" * 16 * 1024}))
    assert large["code"] == "PAYLOAD_TOO_LARGE"
    with_more = {"type": "auth", "token": "t" * 8_192, "id": 7, "channels": [1] * 2_000}
    assert say(found, with_more) == Authenticate("t" * 8_192, 7)
    found.authenticated()
    assert answer(say(found, {"type": "ping", "x": "x" * 16 * 1024}))["type"] == "pong"


def test_many_values_are_refused_before_they_are_parsed() -> None:
    message = answer(say(machine(), {"type": "ping", "x": [1] * 20_000}))
    assert message["code"] == "PAYLOAD_TOO_LARGE"
    assert message["details"] == {"values": 20_000}


def test_a_check_that_could_not_be_made_may_be_tried_again_within_the_time() -> None:
    found = machine(authenticated=False)
    say(found, {"type": "auth", "token": "t"})
    (reply,) = found.failed(Unavailable("away"), None, 0)
    assert answer(reply)["retry_after"] == 1.0
    say(found, {"type": "auth", "token": "t"})
    assert found.auth_overdue() == []
    _, closing = found.failed(Unavailable("away"), None, 0)
    assert isinstance(closing, Close) and closing.code == 4408


def test_a_refused_credential_ends_it_whenever_it_comes() -> None:
    for authenticated in (False, True):
        found = machine(authenticated=authenticated)
        reply, closing = found.refused(Unauthenticated("no"), 5)
        assert answer(reply)["id"] == 5
        assert isinstance(closing, Close) and closing.code == 4401
        assert found.refused(Unauthenticated("no"), None) == []
        found.authenticated()
        assert found.state == "closed"


def test_twenty_mistakes_within_ten_seconds() -> None:
    found = machine(LIMITS)
    for n in range(19):
        assert len(found.text("x", n * 0.1)) == 1
    assert len(found.failed(NotFound("no session"), None, 2)) == 1  # no mistake of the message
    reply, closing = found.text("x", 9.9)
    assert answer(reply)["code"] == "INVALID_JSON"
    assert isinstance(closing, Close) and closing.code == 4400


def test_slower_mistakes_are_borne_for_ever() -> None:
    found = machine(LIMITS)
    for n in range(200):
        assert len(found.binary(n * 0.53)) == 1


@given(st.lists(st.floats(0, 0.02), min_size=1, max_size=900))
def test_the_rate_is_that_of_a_bucket(pauses: list[float]) -> None:
    found = machine(LIMITS)
    now, allowance, before = 0.0, 200.0, 0.0
    for pause in pauses:
        now += pause
        allowance = min(200.0, allowance + (now - before) * 100)
        before = now
        (action,) = found.text('{"type":"ping"}', now)
        if isinstance(action, Close):
            assert action.code == 4429
            assert allowance < 1 + 1e-6
            return
        assert allowance > 1 - 1e-6
        allowance -= 1


def test_a_hundred_a_second_is_borne_for_ever() -> None:
    found = machine(LIMITS)
    for n in range(2_000):
        assert answer(found.text('{"type":"ping"}', n / 100)[0])["type"] == "pong"


def test_a_clock_that_stands_or_jumps_back_gives_no_allowance() -> None:
    found = machine(LIMITS)
    actions = [found.text('{"type":"ping"}', 100.0 - n)[0] for n in range(201)]
    assert isinstance(actions[-1], Close)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
KEYS = st.sampled_from(
    ["type", "id", "channels", "events", "filters", "since", "format", "token", "agent_id",
     "goal", "session_id", "turn", "resume_from", "compact", "metadata", "tools"]
) | st.text()  # fmt: skip
TYPES = st.sampled_from(
    ["auth", "subscribe", "unsubscribe", "execute", "cancel", "ping", "session:x", "app", "flat"]
)
VALUES = st.recursive(
    SCALARS | TYPES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)
MESSAGES = st.dictionaries(KEYS, VALUES, max_size=8) | st.fixed_dictionaries(
    {"type": TYPES}, optional={"channels": VALUES, "id": VALUES, "goal": VALUES, "token": VALUES}
)


def check(found: SocketMachine, actions: list[Action]) -> None:
    for action in actions:
        if isinstance(action, Reply):
            answer(action)
    assert (found.state == "closed") == any(isinstance(action, Close) for action in actions)


@given(st.text() | st.binary().map(lambda b: b.decode("utf-8", "surrogateescape")))
def test_any_text_is_answered(text: str) -> None:
    for authenticated in (False, True):
        found = machine(authenticated=authenticated)
        actions = found.text(text, 0)
        assert actions
        check(found, actions)


@given(MESSAGES | VALUES)
def test_any_json_is_answered_with_its_id(value: object) -> None:
    found = machine()
    actions = found.text(json.dumps(value), 0)
    assert len(actions) == 1
    check(found, actions)
    if isinstance(value, dict) and isinstance(actions[0], Reply):
        given_id = value.get("id")
        back = answer(actions[0]).get("id")
        assert back is None or (back == given_id and type(back) is type(given_id))


@given(st.lists(st.tuples(st.floats(0, 3), MESSAGES | st.text() | st.binary()), max_size=60))
def test_any_sequence_is_borne_or_ended(said: list[tuple[float, object]]) -> None:
    found = machine(LIMITS, authenticated=False)
    now = 0.0
    for pause, value in said:
        now += pause
        before = found.state
        if isinstance(value, bytes):
            actions = found.binary(now)
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            actions = found.text(text, now)
        assert bool(actions) == (before != "closed")
        if any(isinstance(action, Authenticate) for action in actions):
            found.authenticated()


@pytest.mark.parametrize("size", [256 * 1024, 256 * 1024 + 1])
def test_the_size_is_looked_at_under_servers_that_do_not(size: int) -> None:
    text = json.dumps({"type": "ping", "x": ""})
    text = text[:-2] + "x" * (size - len(text)) + '"}'
    reply = answer(machine().text(text, 0)[0])
    assert reply["type"] == ("pong" if size == 256 * 1024 else "error")


CHANNEL = st.sampled_from("abcdef")


@given(st.lists(st.tuples(st.booleans(), st.sets(CHANNEL, min_size=1)), max_size=40))
def test_a_channel_has_one_holder(steps: list[tuple[bool, set[str]]]) -> None:
    table: ChannelTable[object] = ChannelTable()
    model: dict[str, object] = {}
    for puts, channels in steps:
        before = {id(held): held for held in model.values()}
        if puts:
            new = object()
            expected = table.size_with(channels)
            changes = table.put(channels, new)
            model |= dict.fromkeys(channels, new)
            assert len(table) == expected
        else:
            changes = table.take(channels)
            model = {c: held for c, held in model.items() if c not in channels}
        assert {c: table.get(c) for c in "abcdef"} == {c: model.get(c) for c in "abcdef"}
        assert len(table) == len({id(held) for held in model.values()})
        for change in changes:
            assert id(change.subscription) in before
            left = {c for c, held in model.items() if held is change.subscription}
            assert change.left == left
        gone = set(before) - {id(held) for held in model.values()}
        assert gone == {id(c.subscription) for c in changes if not c.left}
