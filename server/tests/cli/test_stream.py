"""Reading a stream: each chunk once and in order, whatever the link does."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from cli_fake import (
    SESSION,
    Chunk,
    FakeServer,
    Reply,
    Seen,
    events,
    failure,
    frames,
    stream_of,
    turn_of,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from resonantgenesis_server.cli import link
from resonantgenesis_server.cli.errors import AuthError, CliError, NetworkError, NotFoundError
from resonantgenesis_server.cli.stream import Opening, Place, Stream

TURN = turn_of("Once ", "upon ", "a ", "time ")
OPENING = Opening("/v1/sessions/execute", {"agent_id": "guide", "goal": "x"}, "key-1")


@pytest.fixture
def http(fake: FakeServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=fake.url, trust_env=False) as client:
        yield client


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.get("content", "") for chunk in chunks)


def positions(chunks: list[Chunk]) -> list[int]:
    return [chunk["position"] for chunk in chunks]


def test_a_turn_is_read_to_its_done(fake: FakeServer, http: httpx.Client) -> None:
    # What follows the done on the same connection is not waited for.
    fake.script = [events(TURN, hang=True)]
    stream = Stream(http, OPENING)
    assert list(stream) == TURN
    assert (stream.session_id, stream.turn, stream.position) == (SESSION, 1, 6)
    assert fake.seen[0].headers["idempotency-key"] == "key-1"
    assert fake.seen[0].body == {"agent_id": "guide", "goal": "x"}
    assert list(stream) == []


def test_a_cut_is_resumed_from_the_position(fake: FakeServer, http: httpx.Client) -> None:
    fake.script = [events(TURN[:3], cut=True), events(TURN[1:])]
    assert list(Stream(http, OPENING)) == TURN
    again = fake.seen[1]
    assert (again.method, again.path) == ("GET", f"/v1/sessions/{SESSION}/stream")
    assert again.query == {"resume_from": "3", "turn": "1"}
    assert again.headers["x-log-epoch"] == "ep_1"


def test_an_end_without_done_is_a_cut(fake: FakeServer, http: httpx.Client) -> None:
    fake.script = [events(TURN[:3]), events(TURN[3:])]
    assert list(Stream(http, OPENING)) == TURN


def test_an_execute_whose_answer_never_came_is_repeated_under_its_key(
    fake: FakeServer, http: httpx.Client
) -> None:
    fake.script = [Reply(0), failure(503, "UNAVAILABLE", retry_after=0.01), events(TURN)]
    assert list(Stream(http, OPENING)) == TURN
    assert [seen.headers["idempotency-key"] for seen in fake.seen] == ["key-1"] * 3


def test_a_draining_server_is_waited_for(fake: FakeServer, http: httpx.Client) -> None:
    ending = (
        'event: error\ndata: {"type":"error","code":"UNAVAILABLE","message":"stopping",'
        '"retryable":true,"retry_after":0.01}\n\n'
    )
    fake.script = [events(TURN[:2], end=ending), Reply(502, b"<html>"), events(TURN[2:])]
    assert list(Stream(http, OPENING)) == TURN


def test_a_silent_link_is_left(
    fake: FakeServer, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_SILENCE", 0.05)
    fake.script = [events(TURN[:2], hang=True), events(TURN[2:])]
    stream = Stream(http, OPENING)
    monkeypatch.setattr(stream, "_silence", 0.05)
    assert list(stream) == TURN


def test_the_end_of_a_credential_ends_the_stream(fake: FakeServer, http: httpx.Client) -> None:
    ending = 'event: error\ndata: {"type":"error","code":"UNAUTHENTICATED","message":"revoked"}\n\n'
    fake.script = [events(TURN[:2], end=ending)]
    with pytest.raises(AuthError, match="revoked"):
        list(Stream(http, OPENING))


def test_a_refusal_is_not_repeated(fake: FakeServer, http: httpx.Client) -> None:
    fake.script = [failure(404, "AGENT_NOT_FOUND", "no such agent")]
    with pytest.raises(NotFoundError, match="no such agent; `resonantgenesis agents list`"):
        list(Stream(http, OPENING))
    assert len(fake.seen) == 1


def test_patience_ends(fake: FakeServer, http: httpx.Client) -> None:
    told: list[str] = []
    fake.always = lambda seen: failure(503, "UNAVAILABLE", "starting")
    with pytest.raises(CliError, match="UNAVAILABLE: starting"):
        list(Stream(http, OPENING, patience=0.05, notice=told.append))
    assert len(fake.seen) > 1
    assert "trying again from position 0" in told[0]


def test_a_wait_beyond_the_patience_is_not_begun(fake: FakeServer, http: httpx.Client) -> None:
    fake.script = [failure(429, "RATE_LIMITED", "slow down", retry_after=3600)]
    with pytest.raises(CliError, match="slow down"):
        list(Stream(http, OPENING))


def test_what_is_no_stream_of_ours_is_said(fake: FakeServer, http: httpx.Client) -> None:
    wrong = [
        Reply(200, b"<html>", {"Content-Type": "text/html"}),
        stream_of(b"id: 1\ndata: {}\n\n"),
        stream_of(b"id: 1\ndata: [\n\n"),
        stream_of(b"event: error\ndata: [\n\n"),
        stream_of(b"data: {}\n\n"),
    ]
    for reply in wrong:
        fake.always = lambda seen, reply=reply: reply  # type: ignore[misc]
        with pytest.raises(NetworkError, match="check --url"):
            list(Stream(http, OPENING, patience=0.0))


def test_reading_goes_on_after_an_interruption(fake: FakeServer, http: httpx.Client) -> None:
    fake.script = [events(TURN, hang=True), events(TURN[2:])]
    stream = Stream(http, OPENING)
    got: list[Chunk] = []
    with pytest.raises(KeyboardInterrupt):
        for chunk in stream:
            got.append(chunk)
            if chunk["position"] == 2:
                raise KeyboardInterrupt
    got += list(stream)
    assert got == TURN


def test_nothing_follows(fake: FakeServer, http: httpx.Client) -> None:
    fake.script = [Reply(204)]
    assert list(Stream(http, Place(SESSION, resume_from=6))) == []
    assert fake.seen[0].query == {"resume_from": "6"}


def test_a_join_ends_where_the_server_ends_it(fake: FakeServer, http: httpx.Client) -> None:
    second = turn_of("more", first=7, turn=2)
    fake.script = [events([*TURN, *second])]
    assert list(Stream(http, Place(SESSION, resume_from=0))) == [*TURN, *second]


def test_following_outlives_a_done(fake: FakeServer, http: httpx.Client) -> None:
    fake.script = [events(TURN), failure(404, "SESSION_NOT_FOUND")]
    got: list[Chunk] = []
    with pytest.raises(NotFoundError):
        for chunk in Stream(http, Place(SESSION, follow=True)):
            got.append(chunk)
    assert got == TURN
    assert fake.seen[1].query == {"resume_from": "6", "follow": "true"}


LONG = turn_of(*[f"wörd{number} \u2028 " for number in range(20)])


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cuts=st.lists(st.integers(0, 3000), max_size=4))
def test_cut_anywhere_the_text_is_the_same(
    fake: FakeServer, http: httpx.Client, cuts: list[int]
) -> None:
    left = list(cuts)

    def answer(seen: Seen) -> Reply:
        rest = [each for each in LONG if each["position"] > int(seen.query.get("resume_from", 0))]
        if not left:
            return events(rest)
        whole = frames(rest).encode()
        return stream_of(whole[: left.pop(0)], cut=True)

    fake.always = answer
    got = list(Stream(http, OPENING))
    assert text_of(got) == text_of(LONG)
    assert positions(got) == positions(LONG)
