"""`events …`: what is asked, what is written, with which code it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from cli_fake import FakeServer, Reply, Seen, as_json, failure, stream_of
from cli_process import Cli
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from resonantgenesis import SyncEventStream, SyncResonantGenesis
from resonantgenesis_server.cli.client import END, Notice, Patience, open_client, translated
from resonantgenesis_server.cli.commands import events as events_command
from resonantgenesis_server.cli.errors import AuthError, NetworkError
from resonantgenesis_server.cli.target import Target

Event = dict[str, Any]


def event(number: int) -> Event:
    return {
        "id": f"evt_{number}",
        "type": "app.x",
        "channel": "app",
        "created_at": "2026-02-21T00:00:00.000000Z",
        "cursor": f"c_{number}",
        "data": {"n": number, "text": "ü \u2028"},
        "metadata": {},
    }


def frames(*numbers: int) -> bytes:
    return b"".join(
        f"id: c_{number}\nevent: app.x\ndata: {json.dumps(event(number))}\n\n".encode()
        for number in numbers
    )


def page(*numbers: int, cursor: str = "c_0", more: bool = False) -> Reply:
    events = [event(number) for number in numbers]
    return as_json({"events": events, "next_cursor": cursor, "has_more": more})


def end(code: str) -> bytes:
    error = {"type": "error", "code": code, "message": "over", "retry_after": 0.01}
    return f"event: error\ndata: {json.dumps(error)}\n\n".encode()


def place_of(seen: Seen) -> str:
    """From where a request asks: a cursor that the client has, else what it began with."""
    return seen.headers.get("last-event-id") or seen.query["since"]


@pytest.fixture
def sdk(fake: FakeServer) -> Iterator[SyncResonantGenesis]:
    """The client that the commands follow events with."""
    with open_client(Target(fake.url, "key"), patient=True) as opened:
        yield opened


def tail(
    sdk: SyncResonantGenesis, since: str, patience: float = 30.0, say: Notice = lambda text: None
) -> SyncEventStream:
    return sdk.events.subscribe(since=since, on_reconnect=Patience(patience, say))


def read(stream: SyncEventStream) -> Iterator[Event]:
    """The events of a subscription; its errors are those of the commands."""
    with translated("http://server"):
        for each in stream:
            yield each.raw


REVOKED = stream_of(end("UNAUTHENTICATED"))


def numbers(out: str) -> list[int]:
    return [json.loads(line)["data"]["n"] for line in out.splitlines()]


def test_tail_takes_its_place_first_and_goes_on_from_there(fake: FakeServer, cli: Cli) -> None:
    fake.script = [
        page(cursor="c_7"),
        Reply(0),
        stream_of(frames(8, 9) + frames(10)[:40], cut=True),
        stream_of(b"id: c_20\n\n" + end("UNAVAILABLE")),
        failure(503, "UNAVAILABLE", retry_after=0.01),
        stream_of(frames(21)),
        REVOKED,
    ]
    got = cli("events", "tail", "app.*", "session.*", "--filter", "n=1", "--filter", "n=x")
    assert (got.code, numbers(got.out)) == (3, [8, 9, 21])
    first, *connections = fake.seen
    asked = {"events": "app.*,session.*", "filters": '{"n":[1,"x"]}'}
    assert first.query == {**asked, "since": END, "limit": "1"}
    assert {seen.path for seen in connections} == {"/v1/events/subscribe"}
    places = [place_of(seen) for seen in connections]
    assert places == ["c_7", "c_7", "c_9", "c_20", "c_20", "c_21"]
    for seen in connections:
        seen.query.pop("since", None)
        assert seen.query == asked
    assert "(go on with: --since c_21)" in got.err


def test_tail_since_a_time_asks_for_it_until_a_cursor_is_known(fake: FakeServer, cli: Cli) -> None:
    fake.script = [page(1), Reply(0), stream_of(frames(1)), REVOKED]
    got = cli("events", "tail", "--since", "2026-02-21T00:00:00Z")
    assert numbers(got.out) == [1]
    time = "2026-02-21T00:00:00.000000Z"
    assert [place_of(seen) for seen in fake.seen] == [time, time, time, "c_1"]


def test_a_heartbeat_shows_that_the_link_carries_and_an_opening_does_not(
    fake: FakeServer, sdk: SyncResonantGenesis
) -> None:
    told: list[str] = []
    away = failure(503, "UNAVAILABLE", retry_after=0.001)
    fake.script = [away, away, stream_of(b""), away, stream_of(b": hb\n\n"), REVOKED]
    with pytest.raises(AuthError):
        list(read(tail(sdk, "c_1", say=told.append)))
    assert told == ["connection lost, trying again from c_1", "connected again"]
    assert len(fake.seen) == 6


def test_a_tail_is_given_up_when_its_patience_is_spent(
    fake: FakeServer, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_command, "TAIL_PATIENCE", 0.05)

    def answer(seen: Seen) -> Reply:
        return page(cursor="c_7") if seen.path == "/v1/events" else Reply(0)

    fake.always = answer
    got = cli("events", "tail")
    assert (got.code, got.out) == (4, "")
    assert "(go on with: --since c_7)" in got.err
    assert "resonantgenesis: the exchange with" in got.err


@pytest.mark.parametrize(
    "reply",
    [
        stream_of(b"id: c_1\ndata: [\n\n"),
        stream_of(b"id: c_1\ndata: {}\n\n"),
        stream_of(b"data: {}\n\n"),
        Reply(200, b"<html>", {"Content-Type": "text/html"}),
    ],
)
def test_what_is_no_stream_of_ours_is_said(
    fake: FakeServer, sdk: SyncResonantGenesis, reply: Reply
) -> None:
    fake.always = lambda seen: reply
    stream = tail(sdk, "c_0", 0.0)
    with pytest.raises(NetworkError, match="check --url"):
        list(read(stream))
    assert stream.cursor == "c_0"


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 3000), max_size=4))
def test_cut_anywhere_each_event_comes_once(
    fake: FakeServer, sdk: SyncResonantGenesis, cuts: list[int]
) -> None:
    left = list(cuts)

    def answer(seen: Seen) -> Reply:
        rest = range(int(place_of(seen).removeprefix("c_")) + 1, 13)
        if left:
            return stream_of(frames(*rest)[: left.pop(0)], cut=True)
        return stream_of(frames(*rest) + end("UNAUTHENTICATED"))

    fake.always = answer
    got: list[int] = []
    stream = tail(sdk, "c_0")
    with pytest.raises(AuthError):
        got.extend(each["data"]["n"] for each in read(stream))
    assert got == list(range(1, 13))
    assert stream.cursor == "c_12"


def test_replay_pages_to_where_it_began(fake: FakeServer, cli: Cli) -> None:
    fake.script = [
        page(cursor="c_end"),
        page(1, 2, cursor="c_5", more=True),
        Reply(0),
        page(cursor="c_8", more=True),
        page(9, cursor="c_end"),
    ]
    got = cli("events", "replay", "app.*", "--since", "c_0", "--filter", "a.b=true")
    assert (got.code, numbers(got.out)) == (0, [1, 2, 9])
    assert got.err == "(3 events)\n"
    asked = {"events": ["app.*"], "filters": {"a.b": True}, "until": "c_end", "limit": 1000}
    first, *others = [seen.body for seen in fake.seen[1:]]
    assert first == {**asked, "since": "c_0"}
    assert others == [{**first, "cursor": place} for place in ("c_5", "c_5", "c_8")]
    assert {(seen.method, seen.path) for seen in fake.seen[1:]} == {("POST", "/v1/events/replay")}


def test_replay_stops_at_its_limit_and_says_from_where_to_go_on(fake: FakeServer, cli: Cli) -> None:
    fake.script = [page(1, 2, cursor="c_2", more=True), page(3, cursor="c_3", more=True)]
    got = cli("events", "replay", "--since", "c_0", "--until", "c_9", "--limit", "3")
    assert numbers(got.out) == [1, 2, 3]
    assert got.err == "(3 events; go on with: --since c_3)\n"
    assert [seen.body["limit"] for seen in fake.seen] == [3, 1]
    fake.script = [page(1, cursor="c_9")]
    assert cli("events", "replay", "--since", "c_0", "--until", "c_9").err == "(1 event)\n"


def test_publish_repeats_itself_under_one_key(fake: FakeServer, cli: Cli) -> None:
    fake.script = [Reply(0), failure(503, "UNAVAILABLE", retry_after=0.01), as_json(event(1), 201)]
    got = cli("events", "publish", "app.x", "--field", "n=1", "--field", "text=ü", "--field", "n=2")
    assert (got.code, json.loads(got.out)) == (0, event(1))
    assert {seen.headers["idempotency-key"] for seen in fake.seen} == {
        fake.seen[0].headers["idempotency-key"]
    }
    assert all(
        seen.body == {"type": "app.x", "data": {"n": [1, 2], "text": "ü"}} for seen in fake.seen
    )
    fake.script = [as_json(event(1), 201)]
    assert cli("events", "publish", "app.x", '{"n": {"m": null}}').code == 0
    assert fake.seen[-1].body["data"] == {"n": {"m": None}}
    assert fake.seen[-1].headers["idempotency-key"] != fake.seen[0].headers["idempotency-key"]


def test_a_publish_without_an_answer_says_how_to_repeat_it(
    fake: FakeServer, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_command, "CALL_PATIENCE", 0.02)
    fake.always = lambda seen: Reply(0)
    got = cli("events", "publish", "app.x", "--idempotency-key", "k-1")
    assert (got.code, got.out) == (4, "")
    assert "if it was written, --idempotency-key k-1 does not write it again" in got.err


@pytest.mark.parametrize(
    ("reply", "code", "says"),
    [
        (failure(422, "INVALID_REQUEST", "events: 'a..b' is not a pattern"), 2, "events: 'a..b'"),
        (
            failure(422, "INVALID_REQUEST", "cursor: is not a cursor of this server"),
            2,
            "server; take one from an event of this server, or give a time",
        ),
        (
            failure(410, "POSITION_EXPIRED", "start later", details={"earliest": "c_9"}),
            1,
            "start later; that is --since c_9",
        ),
        (failure(403, "FORBIDDEN", "this needs the scope events:read"), 3, "use a key that has"),
        (as_json({}), 4, "did not say where its events end; check --url"),
    ],
)
def test_errors_are_one_line_with_what_to_do_next(
    fake: FakeServer, cli: Cli, reply: Reply, code: int, says: str
) -> None:
    fake.always = lambda seen: reply
    for command in (["tail", "sessions.*"], ["replay", "--since", "1h"]):
        got = cli("events", *command)
        assert (got.code, got.out) == (code, "")
        assert says in got.err
        assert got.err.startswith("resonantgenesis: ") and got.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tail", "--filter", "status"], "--filter 'status' is no field"),
        (["tail", ""], "a PATTERN is empty"),
        (["tail", "--since", "noon"], "--since 'noon' is no place"),
        (["replay"], "Missing option '--since'"),
        (["replay", "--since", "1h", "--until", "x"], "--until 'x' is no place"),
        (["replay", "--since", "1h", "--limit", "0"], "--limit"),
        (["publish"], "Missing argument 'TYPE'"),
        (["publish", "app.x", "{"], "DATA is not JSON"),
        (["publish", "app.x", "{}", "--field", "a=1"], "not both"),
        (["publish", "app.x", "--field", "a"], "--field 'a' is no field"),
        (["publish", "app.x", "--data", "a=1"], "--field a=1"),
    ],
)
def test_usage_errors_ask_no_server(
    fake: FakeServer, cli: Cli, arguments: list[str], says: str
) -> None:
    got = cli("events", *arguments)
    assert (got.code, got.out, fake.seen) == (2, "", [])
    assert says in got.err
