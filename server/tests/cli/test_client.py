"""The SDK as the commands use it: each chunk once and in order, whatever the link does, and for how
long that is tried."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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
from resonantgenesis import (
    ConnectionLost,
    Reconnection,
    StreamError,
    SyncResonantGenesis,
    SyncStream,
    Unavailable,
)
from resonantgenesis._core.retry import Backoff, RetryBudget
from resonantgenesis_server.cli import client
from resonantgenesis_server.cli.client import Notice, Patience, open_client, translated
from resonantgenesis_server.cli.errors import AuthError, CliError, NetworkError, NotFoundError
from resonantgenesis_server.cli.target import Target

TURN = turn_of("Once ", "upon ", "a ", "time ")
#: As it is before a test makes delays short.
DELAY = Backoff.delay


def no_notice(_: str) -> None:
    """For tests that do not look at notices."""


@pytest.fixture
def sdk(fake: FakeServer) -> Iterator[SyncResonantGenesis]:
    """The client that the commands read streams with."""
    with open_client(Target(fake.url, "key"), patient=True) as opened:
        yield opened


def execute(
    sdk: SyncResonantGenesis, patience: float = 30.0, say: Notice = no_notice
) -> SyncStream:
    """A turn that starts when it is read."""
    return sdk.sessions.execute_stream(
        "guide",
        "x",
        idempotency_key="key-1",
        raise_on_error=False,
        on_reconnect=Patience(patience, say),
    )


def join(sdk: SyncResonantGenesis, **place: Any) -> SyncStream:
    return sdk.sessions.join(
        SESSION, raise_on_error=False, on_reconnect=Patience(30.0, no_notice), **place
    )


def read(stream: SyncStream) -> Iterator[Chunk]:
    """The chunks of a stream; its errors are those of the commands."""
    with translated("http://server"):
        for chunk in stream:
            yield chunk.raw


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.get("content", "") for chunk in chunks)


def positions(chunks: list[Chunk]) -> list[int]:
    return [chunk["position"] for chunk in chunks]


def test_a_turn_is_read_to_its_done(fake: FakeServer, sdk: SyncResonantGenesis) -> None:
    # What follows the done on the same connection is not waited for.
    fake.script = [events(TURN, hang=True)]
    stream = execute(sdk)
    assert list(read(stream)) == TURN
    assert (stream.session_id, stream.turn, stream.position) == (SESSION, 1, 6)
    assert fake.seen[0].headers["idempotency-key"] == "key-1"
    assert fake.seen[0].body == {"agent_id": "guide", "goal": "x", "stream": True}
    assert list(stream) == []


def test_a_cut_is_resumed_from_the_position(fake: FakeServer, sdk: SyncResonantGenesis) -> None:
    fake.script = [events(TURN[:3], cut=True), events(TURN[1:])]
    assert list(read(execute(sdk))) == TURN
    again = fake.seen[1]
    assert (again.method, again.path) == ("GET", f"/v1/sessions/{SESSION}/stream")
    assert again.query == {"resume_from": "3", "turn": "1"}
    assert again.headers["x-log-epoch"] == "ep_1"


def test_an_end_without_done_is_a_cut(fake: FakeServer, sdk: SyncResonantGenesis) -> None:
    fake.script = [events(TURN[:3]), events(TURN[3:])]
    assert list(read(execute(sdk))) == TURN


def test_an_execute_whose_answer_never_came_is_repeated_under_its_key(
    fake: FakeServer, sdk: SyncResonantGenesis
) -> None:
    fake.script = [Reply(0), failure(503, "UNAVAILABLE", retry_after=0.01), events(TURN)]
    assert list(read(execute(sdk))) == TURN
    assert [seen.headers["idempotency-key"] for seen in fake.seen] == ["key-1"] * 3


def test_a_draining_server_is_waited_for(fake: FakeServer, sdk: SyncResonantGenesis) -> None:
    ending = (
        'event: error\ndata: {"type":"error","code":"UNAVAILABLE","message":"stopping",'
        '"retryable":true,"retry_after":0.01}\n\n'
    )
    fake.script = [events(TURN[:2], end=ending), Reply(502, b"<html>"), events(TURN[2:])]
    assert list(read(execute(sdk))) == TURN


def test_a_silent_link_is_left(fake: FakeServer, sdk: SyncResonantGenesis) -> None:
    silent = events(TURN[:2], hang=True)
    silent.headers["X-Heartbeat-Seconds"] = "0.05"
    fake.script = [silent, events(TURN[2:])]
    assert list(read(execute(sdk))) == TURN


def test_the_end_of_a_credential_ends_the_stream(
    fake: FakeServer, sdk: SyncResonantGenesis
) -> None:
    ending = 'event: error\ndata: {"type":"error","code":"UNAUTHENTICATED","message":"revoked"}\n\n'
    fake.script = [events(TURN[:2], end=ending)]
    with pytest.raises(AuthError, match="revoked"):
        list(read(execute(sdk)))


def test_a_refusal_is_not_repeated(fake: FakeServer, sdk: SyncResonantGenesis) -> None:
    fake.script = [failure(404, "AGENT_NOT_FOUND", "no such agent")]
    with pytest.raises(NotFoundError, match="no such agent; `resonantgenesis agents list`"):
        list(read(execute(sdk)))
    assert len(fake.seen) == 1


def test_patience_ends(fake: FakeServer, sdk: SyncResonantGenesis) -> None:
    told: list[str] = []
    fake.always = lambda seen: failure(503, "UNAVAILABLE", "starting")
    with pytest.raises(CliError, match="UNAVAILABLE: starting"):
        list(read(execute(sdk, 0.05, told.append)))
    assert len(fake.seen) > 1
    assert "trying again from position 0" in told[0]


def test_a_wait_beyond_the_patience_is_not_begun(
    fake: FakeServer, sdk: SyncResonantGenesis
) -> None:
    fake.script = [failure(429, "RATE_LIMITED", "slow down", retry_after=3600)]
    with pytest.raises(CliError, match="slow down"):
        list(read(execute(sdk)))


def test_what_is_no_stream_of_ours_is_said(fake: FakeServer, sdk: SyncResonantGenesis) -> None:
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
            list(read(execute(sdk, 0.0)))


def test_reading_goes_on_after_an_interruption(fake: FakeServer, sdk: SyncResonantGenesis) -> None:
    fake.script = [events(TURN, hang=True), events(TURN[2:])]
    stream = execute(sdk)
    got: list[Chunk] = []
    with pytest.raises(KeyboardInterrupt):
        for chunk in read(stream):
            got.append(chunk)
            if chunk["position"] == 2:
                raise KeyboardInterrupt
    got += read(join(sdk, resume_from=stream.position, turn=stream.turn))
    assert got == TURN
    assert fake.seen[1].query == {"resume_from": "2", "turn": "1"}


def test_nothing_follows(fake: FakeServer, sdk: SyncResonantGenesis) -> None:
    fake.script = [Reply(204)]
    assert list(read(join(sdk, resume_from=6))) == []
    assert fake.seen[0].query == {"resume_from": "6"}


def test_a_join_ends_where_the_server_ends_it(fake: FakeServer, sdk: SyncResonantGenesis) -> None:
    second = turn_of("more", first=7, turn=2)
    fake.script = [events([*TURN, *second]), Reply(204)]
    assert list(read(join(sdk, resume_from=0))) == [*TURN, *second]


def test_following_outlives_a_done(fake: FakeServer, sdk: SyncResonantGenesis) -> None:
    fake.script = [events(TURN), failure(404, "SESSION_NOT_FOUND")]
    got: list[Chunk] = []
    with pytest.raises(NotFoundError):
        for chunk in read(join(sdk, follow=True)):
            got.append(chunk)
    assert got == TURN
    assert fake.seen[1].query == {"resume_from": "6", "follow": "true"}


LONG = turn_of(*[f"wörd{number} \u2028 " for number in range(20)])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 3000), max_size=4))
def test_cut_anywhere_the_text_is_the_same(
    fake: FakeServer, sdk: SyncResonantGenesis, cuts: list[int]
) -> None:
    left = list(cuts)

    def answer(seen: Seen) -> Reply:
        rest = [each for each in LONG if each["position"] > int(seen.query.get("resume_from", 0))]
        if not left:
            return events(rest)
        whole = frames(rest).encode()
        return stream_of(whole[: left.pop(0)], cut=True)

    fake.always = answer
    got = list(read(execute(sdk)))
    assert text_of(got) == text_of(LONG)
    assert positions(got) == positions(LONG)


class Clock:
    """Time that passes when it is waited for."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now


class Attempts:
    """The SDK's failures in a row, reported to a `Patience`, on a clock of its own."""

    def __init__(self, patience: Patience, clock: Clock) -> None:
        self._patience = patience
        self._clock = clock
        # The longest of full jitter, so that the bound is what is seen.
        self._budget = RetryBudget(client._RETRIES, Backoff(), lambda: 1.0)

    def fail(self, error: StreamError) -> None:
        """Wait, as the SDK does between two attempts. Raises what the patience raises."""
        wait = self._budget.after(error)
        assert wait is not None
        self._patience(Reconnection(False, wait.attempt, wait.seconds, error))
        self._clock.slept.append(wait.seconds)
        self._clock.now += wait.seconds

    def work(self) -> None:
        """A connection carries; the first chunk over it ends the failures."""
        self._patience(Reconnection(True, 1))
        self._budget.progress()


GONE = ConnectionLost("gone")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(client, "time", made)
    monkeypatch.setattr(Backoff, "delay", DELAY)
    return made


def test_delays_double_to_a_bound_until_the_patience_is_spent(clock: Clock) -> None:
    told: list[str] = []
    attempts = Attempts(Patience(30.0, told.append, "trying again"), clock)
    with pytest.raises(ConnectionLost, match="gone"):
        for _ in range(1000):
            attempts.fail(GONE)
    assert clock.slept == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    assert 30.0 - Backoff().cap <= sum(clock.slept) <= 30.0
    assert told == ["trying again"]


def test_a_tail_is_not_given_up_before_its_patience_is_spent(clock: Clock) -> None:
    attempts = Attempts(Patience(client.TAIL_PATIENCE, no_notice), clock)
    with pytest.raises(ConnectionLost, match="gone"):
        for _ in range(1000):
            attempts.fail(GONE)
    assert client.TAIL_PATIENCE - Backoff().cap <= sum(clock.slept) <= client.TAIL_PATIENCE


def test_a_stream_that_was_quiet_for_long_is_not_given_up_at_its_first_cut(clock: Clock) -> None:
    told: list[str] = []
    attempts = Attempts(Patience(30.0, told.append, "trying again"), clock)
    attempts.fail(GONE)
    attempts.work()
    clock.now += 3600
    attempts.fail(GONE)
    assert told == []
    attempts.fail(GONE)
    attempts.work()
    attempts.work()
    assert told == ["trying again", "connected again"]
    assert clock.slept == [0.5, 0.5, 1.0]


def test_the_server_says_how_long_at_least(clock: Clock) -> None:
    attempts = Attempts(Patience(30.0, no_notice), clock)
    attempts.fail(Unavailable("draining", retry_after=7.0))
    assert clock.slept == [7.5]  # the jitter comes on top
    with pytest.raises(Unavailable):
        attempts.fail(Unavailable("draining", retry_after=24.0))
    assert clock.slept == [7.5]


def test_a_server_that_was_never_there_is_not_waited_for(clock: Clock) -> None:
    refused = ConnectionLost("refused", reached=False)
    with pytest.raises(ConnectionLost, match="refused"):
        Attempts(Patience(30.0, no_notice, reached=False), clock).fail(refused)
    assert clock.slept == []
    # One that was there may come back.
    attempts = Attempts(Patience(30.0, no_notice, reached=False), clock)
    attempts.fail(GONE)
    attempts.fail(refused)
    assert len(clock.slept) == 2
