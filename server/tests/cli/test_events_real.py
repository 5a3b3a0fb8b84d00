"""`events …` against the server itself, as processes, through its restarts."""

from __future__ import annotations

import json
import signal
from typing import Any

import httpx
import pytest
from cli_process import Cli, Process, RealServer
from resonantgenesis._core import event_plan


def publish(server: RealServer, *numbers: int, kind: str = "app.count") -> None:
    headers = {"Authorization": f"Bearer {server.key}"}
    with httpx.Client(base_url=server.url, headers=headers, trust_env=False) as http:
        for number in numbers:
            body = {"type": kind, "data": {"n": number, "parity": number % 2}}
            http.post("/v1/events", json=body).raise_for_status()


def seen(out: str) -> list[dict[str, Any]]:
    """The events among what was written, notices aside."""
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def numbers(out: str) -> list[int]:
    return [event["data"]["n"] for event in seen(out)]


@pytest.fixture
def named(real: RealServer, monkeypatch: pytest.MonkeyPatch) -> RealServer:
    """The server that commands called in process find."""
    for name, value in real.environment.items():
        monkeypatch.setenv(name, value)
    return real


def test_a_tail_outlives_crashes_of_the_server(own: RealServer) -> None:
    publish(own, *range(5))
    arguments = ["events", "tail", "app.*", "--since", "1h"]
    with Process(*arguments, **own.environment) as tail:
        tail.wait_for('"n": 4,')
        for round_ in (1, 2):
            first = round_ * 10
            publish(own, *range(first, first + 5))
            own.kill()  # whether the tail has them or not
            own.start()
            publish(own, *range(first + 5, first + 10))  # whether the tail is back or not
            tail.wait_for(f'"n": {first + 9},')
        tail.signal(signal.SIGINT)
        assert tail.wait() == 0
    assert numbers(tail.out) == [*range(5), *range(10, 30)]


def test_a_tail_that_has_seen_nothing_yet_loses_nothing(own: RealServer) -> None:
    publish(own, 1)
    with Process("events", "tail", "app.*", terminal=True, **own.environment) as tail:
        tail.wait_for("as they happen; Ctrl-C ends")
        own.kill()
        own.start()
        publish(own, 2)
        tail.wait_for("n=\x1b[0m2 ")
        tail.signal(signal.SIGINT)
        assert tail.wait() == 0
    assert tail.out.count("app.count") == 1
    assert "go on with: --since c_" in tail.out


def test_in_a_pipe_it_is_json_lines_as_they_happen(named: RealServer, cli: Cli) -> None:
    arguments = ["session.completed", "*.usage.*", "--filter", "turn=1", "--since", "1h"]
    with Process("events", "tail", *arguments, **named.environment) as tail:
        with httpx.Client(base_url=named.url, trust_env=False) as http:
            done = http.post(
                "/v1/sessions/execute",
                json={"agent_id": "guide", "goal": "What is 6 * 7?"},
                headers={"Authorization": f"Bearer {named.key}"},
                timeout=30,
            ).json()
        tail.wait_for("billing.usage.recorded")
        tail.signal(signal.SIGINT)
        assert tail.wait() == 0
    completed, usage = seen(tail.out)
    assert (completed["type"], completed["data"]["session_id"]) == (
        "session.completed",
        done["session_id"],
    )
    assert usage["type"] == "billing.usage.recorded"
    assert set(completed) == {"id", "type", "channel", "created_at", "cursor", "data", "metadata"}


def test_on_a_terminal_it_is_lines_in_colour(named: RealServer) -> None:
    publish(named, 71, kind="app.terminal")
    arguments = ["events", "replay", "app.terminal", "--since", "1h"]
    with Process(*arguments, terminal=True, **named.environment) as replay:
        assert replay.wait() == 0
    assert "\x1b[95mapp.terminal" in replay.out.replace("  app", "app")
    assert "71" in replay.out and "{" not in replay.out
    assert "(1 event)" in replay.out


def test_replay_pages_filters_and_goes_on_where_it_stopped(
    named: RealServer, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_plan, "_PAGE", 3)
    publish(named, *range(20), kind="app.paged")
    everything = ["events", "replay", "app.paged", "--since", "1h"]
    assert numbers(cli(*everything).out) == list(range(20))
    odd = [*everything, "--filter", "parity=1"]
    assert numbers(cli(*odd).out) == list(range(1, 20, 2))
    some = [*everything, "--filter", "n=3", "--filter", "n=5", "--filter", "n=7"]
    assert numbers(cli(*some).out) == [3, 5, 7]
    assert numbers(cli(*everything, "--filter", "parity=text").out) == []
    first = cli(*odd, "--limit", "4")
    assert numbers(first.out) == [1, 3, 5, 7]
    place = first.err.rpartition("--since ")[2].rstrip(")\n")
    assert numbers(cli(*odd[:3], "--since", place, *odd[5:]).out) == list(range(9, 20, 2))
    until = seen(cli(*everything).out)[4]["cursor"]
    assert numbers(cli(*everything, "--until", until).out) == list(range(5))


def test_publish_writes_once_under_a_key(named: RealServer, cli: Cli) -> None:
    order = ["events", "publish", "app.order.paid", '{"order": 7}', "--idempotency-key", "order-7"]
    first, again = cli(*order), cli(*order)
    assert first.code == again.code == 0
    assert json.loads(first.out)["id"] == json.loads(again.out)["id"]
    assert json.loads(first.out)["data"] == {"order": 7}
    order[3] = '{"order": 8}'
    other = cli(*order)
    assert other.code == 1
    assert "another event; choose another --idempotency-key" in other.err
    replayed = cli("events", "replay", "app.order.*", "--since", "1h")
    assert [event["data"] for event in seen(replayed.out)] == [{"order": 7}]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["tail", "session..x"], 2, "'session..x' is not a type or a pattern like session.*"),
        (["replay", "a b", "--since", "1h"], 2, "'a b' is not a type or a pattern"),
        (["tail", "--since", "c_wrong"], 2, "take one from an event of this server"),
        (["publish", "order"], 2, "type: is not a type like app.order.paid"),
        (["publish", "session.started"], 3, "only the server writes session.started; publish app."),
    ],
)
def test_what_the_server_refuses_is_said_well(
    named: RealServer, cli: Cli, arguments: list[str], code: int, says: str
) -> None:
    got = cli("events", *arguments)
    assert (got.code, got.out) == (code, "")
    assert says in got.err
    assert got.err.startswith("resonantgenesis: ") and got.err.count("\n") == 1


def test_a_wrong_key_and_no_server(named: RealServer, cli: Cli, monkeypatch: Any) -> None:
    assert cli("events", "tail", "--url", "http://127.0.0.1:1").code == 4
    monkeypatch.setenv("RESONANTGENESIS_API_KEY", "rg_live_wrong")
    assert cli("events", "tail").code == 3
    assert cli("events", "publish", "app.x").code == 3
