"""One store over two databases: where things lie, what crosses, who lives, and who is refused."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
from resonantgenesis_server.log.base import Append, LogUnavailable, NewEntry, StaleWriter
from resonantgenesis_server.log.postgres import outbox as outbox_module
from resonantgenesis_server.log.postgres.databases import placing
from resonantgenesis_server.log.postgres.log import PostgresLog, is_events
from resonantgenesis_server.log.postgres.spread import SpreadLog
from support.postgres import PostgresServer

from .support import Announced, connection, new

pytestmark = pytest.mark.anyio
EVENTS = "events:o"
place_of = placing(2, is_events)
#: Sessions of the first database and of the second one.
FIRST = [name for name in map("sess_{}".format, range(60)) if place_of(name) == 0][:10]
SECOND = [name for name in map("sess_{}".format, range(60)) if place_of(name) == 1][:10]

OpenNode = Callable[..., Awaitable[SpreadLog]]


@pytest.fixture
def urls(postgres_server: PostgresServer) -> Sequence[str]:
    return [postgres_server.database(), postgres_server.database()]


@pytest.fixture
async def node(urls: Sequence[str], postgres_server: PostgresServer) -> AsyncIterator[OpenNode]:
    """Opens one node after the other; each returns once all others know of it."""
    opened: list[SpreadLog] = []

    async def open_one(announced: Announced | None = None, *, ttl: float = 1.0) -> SpreadLog:
        log = await SpreadLog.open(
            urls, on_commit=announced or Announced(), beat_seconds=0.05, ttl=ttl
        )
        opened.append(log)
        await log.nodes.seen()
        return log

    yield open_one
    for log in opened:
        await log.close()
    for url in urls:
        postgres_server.recycle(url)


KEYED = NewEntry("m", b"{}", "key")


def event(key: str) -> Append:
    return Append(EVENTS, [NewEntry("m", key.encode(), key)])


async def texts(log: SpreadLog, stream: str) -> list[str]:
    page = await log.read(stream, 0)
    assert [entry.position for entry in page.entries] == list(range(1, len(page.entries) + 1))
    return [entry.body.decode() for entry in page.entries]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def refusal(urls: Sequence[str]) -> str:
    with pytest.raises(LogUnavailable) as caught:
        await (PostgresLog.open(urls[0]) if len(urls) == 1 else SpreadLog.open(urls))
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_a_session_lies_in_one_database_and_events_in_the_first(
    node: OpenNode, urls: Sequence[str]
) -> None:
    announced = Announced()
    log = await node(announced)
    for name in (*FIRST, *SECOND):
        call = Append(name, new("1")), Append(f"{name}/turns", new("1"), pending=True), event(name)
        assert await log.append(*call) == [1, 1, 0]
        assert (await texts(log, EVENTS))[-1] == name, "whoever has seen the one finds the other"
    assert len(announced.seen[EVENTS]) == 20
    assert sorted(await log.pending()) == sorted(f"{name}/turns" for name in (*FIRST, *SECOND))
    pages = await log.read_many({FIRST[0]: 0, SECOND[0]: 0, "none": 0}, limit=9, max_bytes=999)
    assert [len(page.entries) for page in pages.values()] == [1, 1, 0]
    numbers: list[int] = []
    for url, names in zip(urls, (FIRST, SECOND), strict=True):
        async with connection(url) as db:
            rows = await db.fetch("SELECT id, name FROM streams WHERE name NOT LIKE 'outbox:%'")
            numbers += [row["id"] for row in rows]
            sessions = {row["name"].decode() for row in rows} - {EVENTS}
            assert sessions == {name for each in names for name in (each, f"{each}/turns")}
    assert len(numbers) == len(set(numbers)) == 41
    await log.delete(SECOND[0], f"{SECOND[0]}/turns", appends=[event("gone")])
    assert (await texts(log, EVENTS))[-1] == "gone"
    assert await texts(log, SECOND[0]) == []


async def test_what_was_carried_over_and_not_noted_is_there_once(
    node: OpenNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies between both commits: the next one repeats them."""
    log = await node()
    await log.append(Append(SECOND[0], new("1")), event("a"))
    assert await texts(log, EVENTS) == ["a"]
    monkeypatch.setattr(outbox_module, "ADVANCE", "SELECT $1::bigint[], $2::bigint[], 1 / 0")
    await log.append(Append(SECOND[0], new("2")), event("b"), Append(FIRST[0], [KEYED]))
    with pytest.raises(LogUnavailable):
        await log.read(EVENTS, 0)
    page = await log.parts[0].read(EVENTS, 0)
    assert [entry.body for entry in page.entries] == [b"a", b"b"], "placed, and not noted"
    monkeypatch.undo()
    other = await node()
    await other.append(Append(SECOND[1], new("3")), event("c"))
    assert await texts(other, EVENTS) == ["a", "b", "c"]
    assert await texts(other, FIRST[0]) == ["{}"]


async def test_nodes_have_one_number_and_one_fence(node: OpenNode) -> None:
    one, two = await node(), await node()
    assert (one.node, two.node) == (1, 2)
    assert [part.node for part in two.parts] == [2, 2]
    assert list(one.nodes.others) == [2] and not one.is_alone
    assert one.leads and not two.leads
    fence = await two.next_fence()
    await one.next_fence()
    for name in (FIRST[0], SECOND[0]):
        await two.append(Append(name, new("1"), fence=fence, pending=True))
        runner = await one.runner(name)
        assert runner is not None
        assert (runner.fence, runner.node, runner.alive, runner.pending) == (fence, 2, True, True)
    await two.close()
    await until(lambda: not one.nodes.others)
    assert sorted(await one.nodes.orphans(10)) == sorted([FIRST[0], SECOND[0]])


async def test_dead_in_one_database_is_dead_in_all(node: OpenNode, urls: Sequence[str]) -> None:
    one, two = await node(), await node()
    fence = await two.next_fence()
    await two.append(Append(FIRST[0], new("1"), fence=fence, pending=True))
    async with connection(urls[1]) as db:
        await db.execute("UPDATE writers SET alive=false WHERE node=2")
    await until(lambda: 2 not in one.nodes.others)
    await until(lambda: not one.lives(2))
    for name in (FIRST[0], SECOND[0]):
        with pytest.raises(StaleWriter):
            await two.append(Append(name, new("late")))
    assert two.problem is not None and "declared dead" in two.problem
    assert await one.nodes.orphans(10) == [FIRST[0]]


async def test_a_wrong_list_is_refused_by_one_line(
    node: OpenNode, urls: Sequence[str], postgres: str, postgres_server: PostgresServer
) -> None:
    log, empty = await node(), postgres_server.database()
    await log.append(Append(SECOND[0], new("1")))
    assert "spread over 2 databases, and one is named" in await refusal(urls[:1])
    assert "order of the store, which is 2 1" in await refusal(urls[::-1])
    assert "databases 1 and 2 of 2 are the same" in await refusal(
        [urls[0], f"{urls[0]}&user=postgres"]
    )
    assert "database 2 of 2 is no part of the store" in await refusal([urls[0], postgres])
    assert "database 3 of 3 is no part of the store" in await refusal([*urls, postgres])
    plain = await PostgresLog.open(postgres)
    await plain.append(Append("s", new("1")))
    await plain.close()
    assert "database 2 of 2 holds a store of its own" in await refusal([empty, postgres])


async def test_a_store_that_was_made_by_half_is_made_whole(
    node: OpenNode, urls: Sequence[str]
) -> None:
    await (await SpreadLog.open(urls)).close()
    async with connection(urls[1]) as db:
        await db.execute("DELETE FROM meta WHERE name='databases'")
    logs = await asyncio.gather(node(), node(), node())
    assert {log.epoch for log in logs} == {logs[0].epoch}
    await logs[2].append(Append(SECOND[0], new("1")), event("a"))
    assert await texts(logs[0], EVENTS) == ["a"]


async def test_the_epoch_changes_with_that_of_any_database(urls: Sequence[str]) -> None:
    epochs = []
    for _ in range(2):
        log = await SpreadLog.open(urls)
        epochs.append(log.epoch)
        await log.close()
    assert epochs[0] == epochs[1]
    async with connection(urls[1]) as db:
        await db.execute("UPDATE meta SET value='of a backup' WHERE name='history'")
    log = await SpreadLog.open(urls)
    assert log.epoch != epochs[0]
    await log.close()


async def test_while_one_database_is_away_the_other_goes_on(
    postgres: str, own_server: PostgresServer
) -> None:
    log = await SpreadLog.open([postgres, own_server.database()], beat_seconds=0.05, ttl=1.0)
    assert log.durability == log.parts[0].durability, "the weakest"
    await log.append(Append(SECOND[0], new("1")), event("a"))
    assert await texts(log, EVENTS) == ["a"]
    with own_server.away(signal.SIGKILL):
        waiting = log.append(Append(SECOND[0], new("2")), event("b"))
        assert await log.append(Append(FIRST[0], new("1")), event("c")) == [1, 0]
        await until(lambda: log.parts[1].is_away)
        assert await texts(log, EVENTS) == ["a", "c"]
        assert await texts(log, FIRST[0]) == ["1"]
        assert log.problem is None, "it serves what is in the other"
        assert not waiting.done()
    assert await waiting == [2, 0]
    await until(lambda: not log.parts[1].is_away)  # its nodes may find the way back later
    assert await texts(log, EVENTS) == ["a", "c", "b"]
    assert await texts(log, SECOND[0]) == ["1", "2"]
    await log.close()
