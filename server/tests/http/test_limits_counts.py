"""Requests and turns of a key, counted without a server."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import cast

import pytest
from resonantgenesis_server.http.limits import BadStorage, Limited, RequestLimit, StreamLimit
from resonantgenesis_server.http.serving.connection_limit import ConnectionLimit
from resonantgenesis_server.model.errors import RateLimited
from resonantgenesis_server.model.principal import Principal
from resonantgenesis_server.sessions.state import SessionState
from resonantgenesis_server.sessions.turn_limit import TurnLimit

pytestmark = pytest.mark.anyio

ONE = Principal("org", "key_1", frozenset({"*"}))
TWO = Principal("org", "key_2", frozenset({"*"}))
FIRST = Principal("org", "key_0", frozenset({"*"}), is_bootstrap=True)


class ReachedLimits:
    def __init__(self) -> None:
        self.calls: list[tuple[str, str, int]] = []

    def __call__(self, principal: Principal, limit: str, most: int) -> None:
        self.calls.append((principal.key_id, limit, most))


async def test_requests_are_counted_for_each_key() -> None:
    reached = ReachedLimits()
    limit = RequestLimit(2, reached=reached)
    limit.start()
    try:
        for _ in range(2):
            assert await limit.take(ONE)
        with pytest.raises(Limited) as caught:
            await limit.take(ONE)
        assert 0 < (caught.value.retry_after or 0) <= 60
        assert (b"x-ratelimit-remaining", b"0") in caught.value.headers
        assert await limit.take(TWO)
        assert all([await limit.take(FIRST) == [] for _ in range(5)])
    finally:
        await limit.close()
    assert reached.calls == [("key_1", "requests_per_minute", 2)]


async def test_a_clock_that_was_ahead_for_a_moment_holds_no_key_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit, right = RequestLimit(2), time.time
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: right() + 40 * 86_400)
        for _ in range(2):
            await limit.take(ONE)
        with pytest.raises(Limited):
            await limit.take(ONE)
    for _ in range(2):
        assert await limit.take(ONE)
    with pytest.raises(Limited):
        await limit.take(ONE)


async def test_0_is_no_limit() -> None:
    assert await RequestLimit(0).take(ONE) == []
    StreamLimit(0).check(ONE, 10**6)
    with TurnLimit(0).starting(ONE), TurnLimit(0).starting(ONE):
        pass


async def test_a_storage_that_fails_lets_requests_pass() -> None:
    limit = RequestLimit(1)

    async def failing(key: str, expiry: float, amount: int = 1) -> int:
        raise TimeoutError

    limit._storage.incr = failing  # type: ignore[method-assign]
    assert [await limit.take(ONE) for _ in range(3)] == [[], [], []]


def test_a_storage_that_there_is_not() -> None:
    with pytest.raises(BadStorage, match="limits_storage"):
        RequestLimit(1, storage="nonsense://x")


def test_streams() -> None:
    reached = ReachedLimits()
    limit = StreamLimit(2, reached)
    limit.check(ONE, 1)
    limit.check(FIRST, 5)
    with pytest.raises(RateLimited):
        limit.check(ONE, 2)
    assert reached.calls == [("key_1", "open_streams", 2)]


def session(name: str, *keys: str) -> SessionState:
    """A state with open turns of these keys."""
    turns = [SimpleNamespace(key_id=key, status="running") for key in keys]
    return cast(
        SessionState, SimpleNamespace(info=SimpleNamespace(session_id=name), open_turns=turns)
    )


def test_turns_are_those_that_the_log_tells_of() -> None:
    limit = TurnLimit(2)
    with limit.starting(ONE):
        limit.changed(session("a", "key_1"))
    assert limit.count("key_1") == 1
    limit.changed(session("a", "key_1", "key_2"))
    limit.changed(session("b", "key_1"))
    with pytest.raises(RateLimited):
        limit.starting(ONE).__enter__()
    with limit.starting(FIRST), limit.starting(TWO), pytest.raises(RateLimited):
        limit.starting(TWO).__enter__()
    limit.changed(session("a", "key_2"))
    limit.changed(session("b"))
    assert [limit.count(key) for key in ("key_0", "key_1", "key_2")] == [0, 0, 1]


def test_the_connections_that_the_open_file_limit_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    def files(soft: int) -> None:
        monkeypatch.setattr(
            "resonantgenesis_server.http.serving.connection_limit.resource.getrlimit",
            lambda _which: (soft, soft),
        )

    files(1_024)
    assert ConnectionLimit.of(0).most == 1_024 - 256 - 64
    files(65_536)
    assert ConnectionLimit.of(0).most == 65_536 - 256 - 64
    files(128)
    assert ConnectionLimit.of(0).most == 128 - 32 - 64
    files(-1)
    assert ConnectionLimit.of(0).most == 0
    assert ConnectionLimit.of(7).most == 7
