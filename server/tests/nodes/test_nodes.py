"""Beats, verdicts, what a dead node can still do, and messages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pytest
from resonantgenesis_server.calls import Calls, NoAnswer, _raised, _said
from resonantgenesis_server.log.base import Append, LogError, LogUnavailable, NewEntry, StaleWriter
from resonantgenesis_server.log.postgres import nodes as nodes_module
from resonantgenesis_server.model.errors import Internal, SessionBusy, SessionNotFound

from .conftest import FeedNode

pytestmark = pytest.mark.anyio
Open = Callable[[], Awaitable[FeedNode]]
PATIENCE = 20.0
ENTRY = NewEntry("text", b"{}")


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.01)


async def know_each_other(*nodes: FeedNode) -> None:
    await until(lambda: all(len(n.log.nodes.others) == len(nodes) - 1 for n in nodes))


async def stand_still(node: FeedNode) -> None:
    """Stop the node's beat, as if its process were stopped."""
    await node.log.nodes.close()


async def test_nodes_see_each_other_come_and_go(feed_node: Open) -> None:
    one, two = await feed_node(), await feed_node()
    await know_each_other(one, two)
    assert list(one.log.nodes.others) == [two.log.nodes.id]
    gone: list[bool] = []
    one.log.nodes.on_gone = lambda: gone.append(True)
    await two.close()
    await until(lambda: not one.log.nodes.others)
    assert gone == [True]


async def test_a_node_whose_beat_stands_still_is_dead_for_ever(feed_node: Open) -> None:
    one, two = await feed_node(), await feed_node()
    fence = await two.log.next_fence()
    await two.log.append(Append("sess_1/turns", [ENTRY], fence=fence, pending=True))
    await know_each_other(one, two)
    assert await one.log.nodes.orphans(10) == []
    await stand_still(two)
    await until(lambda: not one.log.nodes.others)
    with pytest.raises(StaleWriter):
        await two.log.append(Append("sess_1/turns", [ENTRY], fence=fence))
    with pytest.raises(LogError):
        await two.log.append(Append("other", [ENTRY]))
    page = await one.log.read("sess_1/turns", 0)
    assert [entry.position for entry in page.entries] == [1]
    assert await one.log.nodes.orphans(10) == ["sess_1/turns"]


async def test_a_node_that_beats_is_not_declared_dead_though_it_writes_nothing(
    feed_node: Open,
) -> None:
    one, two, third = await feed_node(), await feed_node(), await feed_node()
    await know_each_other(one, two, third)
    await stand_still(third)
    # They have written nothing for as long as the one that is dead by then.
    await until(lambda: all(third.log.node not in n.log.nodes.others for n in (one, two)))
    assert list(one.log.nodes.others) == [two.log.node]
    assert list(two.log.nodes.others) == [one.log.node]
    await two.log.append(Append("s", [ENTRY]))


async def test_a_node_whose_process_has_ended_is_dead_at_once(
    feed_node: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = await feed_node(), await feed_node()
    await know_each_other(one, two)
    for node in (one, two):
        monkeypatch.setattr(node.log.nodes, "_ttl", 3600.0)
    await stand_still(two)
    one.log.nodes.ended(two.log.node)
    await until(lambda: not one.log.nodes.others)
    with pytest.raises(LogError):
        await two.log.append(Append("s", [ENTRY]))
    # Whoever joins waits for nobody.
    three = await feed_node()
    async with asyncio.timeout(PATIENCE):
        await three.log.nodes.seen()
    # It is said of a node once, and of one that is unknown or long gone in vain.
    for node in (two.log.node, 10_000):
        one.log.nodes.ended(node)
    await until(lambda: not one.log.nodes._known_dead)
    assert list(one.log.nodes.others) == [three.log.node]


async def test_every_node_ends_with_its_next_beat_when_the_store_has_another_epoch(
    feed_node: Open,
) -> None:
    one, two = await feed_node(), await feed_node()
    await know_each_other(one, two)
    await one.log.append(Append("s", [ENTRY]))
    reasons: list[str] = []
    for node in (one, two):
        node.log._writer._report_broken = reasons.append
    db = await asyncpg.connect(one.url)
    await db.execute("UPDATE resonantgenesis_log.meta SET value='other' WHERE name='epoch'")
    await until(lambda: len(reasons) == 2)
    assert reasons == ["the database has lost what it had acknowledged"] * 2
    for node in (one, two):
        assert node.log.epoch == "other"
        with pytest.raises(LogUnavailable, match="lost"):
            await node.log.append(Append("s", [ENTRY]))
        with pytest.raises(LogUnavailable, match="lost"):
            await node.log.read("s", 0)
    # Whoever ends leaves the epoch as it is.
    query = "SELECT value FROM resonantgenesis_log.meta WHERE name='epoch'"
    assert await db.fetchval(query) == "other"
    await db.close()


async def test_the_runner_of_a_stream_is_the_node_of_its_fence(feed_node: Open) -> None:
    one, two = await feed_node(), await feed_node()
    control = Append(
        "sess_1/turns", [ENTRY], fence=await two.log.next_fence(), expect=0, pending=True
    )
    await two.log.append(control)
    runner = await one.log.nodes.runner("sess_1/turns")
    assert runner is not None
    assert (runner.node, runner.alive, runner.pending) == (two.log.nodes.id, True, True)
    await two.close()
    runner = await one.log.nodes.runner("sess_1/turns")
    assert runner is not None
    assert (runner.alive, runner.pending) == (False, True)
    assert await one.log.nodes.runner("sess_2/turns") is None


async def test_a_node_asks_another_and_gets_its_answer_or_its_error(feed_node: Open) -> None:
    one, two = await feed_node(), await feed_node()
    await know_each_other(one, two)
    asks, answers = Calls(one.log.nodes), Calls(two.log.nodes)

    async def double(args: dict[str, int]) -> int:
        if args["n"] < 0:
            raise SessionBusy("a turn is running", details={"n": args["n"]}, retry_after=2)
        if not args["n"]:
            raise ZeroDivisionError
        return 2 * args["n"]

    answers.handlers["double"] = double  # type: ignore[assignment]
    there = two.log.nodes.id
    found = await asyncio.gather(*(asks.call(there, "double", {"n": n}) for n in range(1, 50)))
    assert found == [2 * n for n in range(1, 50)]
    with pytest.raises(SessionBusy) as caught:
        await asks.call(there, "double", {"n": -1})
    assert (caught.value.message, caught.value.details) == ("a turn is running", {"n": -1})
    assert caught.value.retry_after == 2
    with pytest.raises(Internal):
        await asks.call(there, "double", {"n": 0})
    with pytest.raises(NoAnswer):
        await asks.call(there, "unknown", {})
    large = "x" * 100_000

    async def echo(args: dict[str, str]) -> str:
        return args["text"]

    answers.handlers["echo"] = echo  # type: ignore[assignment]
    assert await asks.call(there, "echo", {"text": large}) == large
    assert await asks.ask_all("echo", {"text": "all"}) == ["all"]
    await asks.close()
    await answers.close()


async def test_a_call_to_a_node_that_does_not_answer_ends_in_time(feed_node: Open) -> None:
    one, two = await feed_node(), await feed_node()
    await know_each_other(one, two)
    asks = Calls(one.log.nodes)
    await stand_still(two)
    with pytest.raises(NoAnswer):
        await asks.call(two.log.nodes.id, "anything", {}, seconds=0.2)
    assert not asks._waiting


def test_every_error_keeps_its_kind() -> None:
    error = SessionNotFound("no such session")
    assert isinstance(_raised(_said(error)), SessionNotFound)


async def test_what_a_dead_node_leaves_behind_is_removed_but_for_the_word_that_it_is_dead(
    feed_node: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes_module, "_CLEAN_SECONDS", 0.1)
    one, two = await feed_node(), await feed_node()
    await know_each_other(one, two)
    dead = two.log.nodes.id
    await one.log.nodes.send([dead], b"{}")
    await stand_still(two)
    await until(lambda: not one.log.nodes.others)

    async def left(table: str) -> int:
        rows = await one.log.nodes._ask(f"SELECT count(*) FROM {table} WHERE node=$1", dead)
        return int(rows[0][0])

    async with asyncio.timeout(PATIENCE):
        while await left("beats") or await left("messages"):
            await asyncio.sleep(0.02)
    assert await left("writers") == 1
