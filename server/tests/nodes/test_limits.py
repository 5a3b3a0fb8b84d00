"""Limits over several nodes: what a key has open anywhere counts, within a second."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
from resonantgenesis_server.calls import Calls
from resonantgenesis_server.http import shared_counts
from resonantgenesis_server.http.limits import RequestLimit, StreamLimit
from resonantgenesis_server.http.shared_counts import SharedCounts
from resonantgenesis_server.http.watchdog import StreamWatchdog
from resonantgenesis_server.model.errors import RateLimited
from resonantgenesis_server.model.principal import Principal
from resonantgenesis_server.sessions.turn_limit import TurnLimit

from .conftest import FeedNode

pytestmark = pytest.mark.anyio
Open = Callable[[], Awaitable[FeedNode]]
ME = Principal("org_1", "key_1", frozenset({"*"}))
COLLEAGUE = Principal("org_1", "key_2", frozenset({"*"}))


async def until(true: Callable[[], object], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


async def _never_ends(_principal: Principal) -> None:
    return


class LimitedNode:
    """A node's counts of turns and streams, and what it knows of those of others."""

    def __init__(self, node: FeedNode, of_key: int, of_organization: int) -> None:
        self.node = node
        self.turns = TurnLimit(of_key, of_organization=of_organization)
        limit = StreamLimit(of_key, of_organization=of_organization)
        self.watch = StreamWatchdog(_never_ends, limit)
        self.calls = Calls(node.log.nodes)
        self.counts = SharedCounts(self.calls)
        self.turns.elsewhere = self.counts.share("turns", self.turns.above)
        limit.elsewhere = self.counts.share("streams", self.watch.above)
        self.requests = RequestLimit(of_key, of_organization=of_organization)
        self.requests.elsewhere = self.counts.share("requests", self.requests.above)
        self.open = contextlib.ExitStack()
        self.counts.start()

    def admits(self, principal: Principal = ME) -> tuple[bool, bool]:
        """Whether one more turn, and one more stream, may begin."""
        answers: list[bool] = []
        for begin in (self.turns.starting, self.watch.opening):
            try:
                with begin(principal):
                    answers.append(True)
            except RateLimited:
                answers.append(False)
        return answers[0], answers[1]

    def begin(self, count: int, principal: Principal = ME) -> None:
        for _ in range(count):
            self.open.enter_context(self.turns.starting(principal))
            self.open.enter_context(self.watch.opening(principal))

    async def send(self, count: int, principal: Principal = ME) -> int:
        """How many of so many requests pass."""
        passed = 0
        for _ in range(count):
            with contextlib.suppress(RateLimited):
                await self.requests.take(principal)
                passed += 1
        return passed

    async def close(self) -> None:
        self.open.close()
        await self.counts.close()
        await self.calls.close()


Limit = Callable[[int, int, int], Awaitable[list[LimitedNode]]]


@pytest.fixture
async def limited(feed_node: Open) -> AsyncIterator[Limit]:
    opened: list[LimitedNode] = []

    async def open_all(count: int, of_key: int, of_organization: int) -> list[LimitedNode]:
        nodes = [await feed_node() for _ in range(count)]
        await until(lambda: all(len(each.log.nodes.others) == count - 1 for each in nodes))
        opened.extend(LimitedNode(each, of_key, of_organization) for each in nodes)
        return opened

    yield open_all
    for each in opened:
        await each.close()


async def test_what_a_key_has_open_at_another_node_counts_within_a_second_or_so(
    limited: Limit,
) -> None:
    one, other, third = await limited(3, 4, 0)
    one.begin(3)
    other.begin(1)
    await until(lambda: third.admits() == (False, False), seconds=3)
    await until(lambda: one.admits() == other.admits() == (False, False), seconds=3)
    assert one.admits(COLLEAGUE) == (True, True)
    one.open.close()
    await until(lambda: third.admits() == other.admits() == (True, True), seconds=3)


async def test_so_does_what_an_organization_has(limited: Limit) -> None:
    one, other = await limited(2, 0, 4)
    one.begin(2)
    other.begin(2, COLLEAGUE)
    await until(lambda: one.admits() == other.admits(COLLEAGUE) == (False, False), seconds=3)


async def test_counts_of_a_node_that_is_dead_count_no_more(limited: Limit) -> None:
    one, other = await limited(2, 4, 0)
    one.begin(4)
    await until(lambda: other.admits() == (False, False), seconds=3)
    await one.counts.close()
    await one.node.log.nodes.close()
    await until(lambda: other.admits() == (True, True), seconds=10)


async def test_small_counts_are_not_told_and_the_error_is_a_sixteenth_at_most(
    limited: Limit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_counts, "_INTERVAL", 0.05)
    one, other, third = await limited(3, 480, 0)
    one.begin(10)
    other.begin(11)
    told = third.calls.handlers["counts"]
    heard: list[int] = []

    async def hear(args: Mapping[str, Any]) -> None:
        await told(args)
        heard.append(args["node"])

    third.calls.handlers["counts"] = hear
    # One round of the node whose count is small lies between.
    await until(lambda: heard)
    await one.counts.tell()
    await until(lambda: len(heard) > 3)
    assert set(heard) == {other.calls.node}
    assert third.turns.elsewhere("key_1") == 11
    assert third.watch.limit.elsewhere("key_1") == 11


async def test_requests_of_a_minute_are_those_at_all_nodes(
    limited: Limit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_counts, "_INTERVAL", 0.05)
    one, other, third = await limited(3, 100, 150)
    assert await one.send(60) == 60
    await until(lambda: other.requests.elsewhere("key_1") == 60)
    assert await other.send(60) == 40
    await until(lambda: third.requests.elsewhere("key_1") >= 100)
    assert await third.send(5) == 0
    await until(lambda: one.requests.elsewhere("key_1") >= 40)
    assert await one.send(5) == 0
    # A refused request counts for nobody's organization.
    await until(lambda: third.requests.elsewhere("org_1") == 100)
    assert await third.send(60, COLLEAGUE) == 50
    # The windows end, each where it began.
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    await until(lambda: not third.requests.elsewhere("key_1"))
    assert await third.send(5) == 5


async def test_the_bootstrap_key_is_refused_nothing(limited: Limit) -> None:
    one, other = await limited(2, 1, 1)
    one.begin(1)
    await until(lambda: other.admits() == (False, False), seconds=3)
    bootstrap = Principal("org_1", "key_1", frozenset({"*"}), is_bootstrap=True)
    assert other.admits(bootstrap) == (True, True)
