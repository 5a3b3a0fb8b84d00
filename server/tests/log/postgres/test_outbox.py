"""Streams that many nodes append to: one order, dense, each entry once, whoever dies."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from resonantgenesis_server.log.base import Append, Entry, NewEntry
from resonantgenesis_server.log.postgres import outbox as outbox_module
from resonantgenesis_server.log.postgres.log import PostgresLog
from resonantgenesis_server.log.postgres.transfer import PostgresRows

from .support import Announced, connection, entries, new, put, texts

pytestmark = pytest.mark.anyio
PROGRAM = Path(__file__).with_name("outbox_process.py")
EVENTS = "events:o"

OpenNode = Callable[..., Awaitable[PostgresLog]]


@pytest.fixture
async def node(postgres: str) -> AsyncIterator[OpenNode]:
    """Opens one node after the other; each returns once all others know of it."""
    opened: list[PostgresLog] = []

    async def open_one(announced: Announced | None = None) -> PostgresLog:
        log = await PostgresLog.open(
            postgres, on_commit=announced or Announced(), beat_seconds=0.05, ttl=1.0
        )
        await log.nodes.seen()
        opened.append(log)
        return log

    yield open_one
    for log in opened:
        await log.close()


def event(key: str) -> Append:
    return Append(EVENTS, [NewEntry("m", key.encode(), key)])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def idle_sequencers(monkeypatch: pytest.MonkeyPatch, *logs: PostgresLog) -> None:
    """From now on nobody sequences unless somebody reads."""
    for name in ("_GATHER", "_LATE", "_POLL"):
        monkeypatch.setattr(outbox_module, name, 1_000.0)
    for log in logs:
        # The round that was due already: the one after it is far.
        last_round = asyncio.get_running_loop().create_future()
        log._sequencer._waiters.append(last_round)
        log._sequencer._loop.wake()
        async with asyncio.timeout(60):
            await last_round


async def test_a_node_that_is_alone_appends_directly(node: OpenNode) -> None:
    announced = Announced()
    log = await node(announced)
    assert await log.append(Append("s", new("1")), event("a")) == [1, 1]
    assert [entry.position for entry in announced.seen[EVENTS]] == [1]
    assert log.owned_from(EVENTS) is not None


async def test_nodes_do_not_rob_one_another_of_what_they_share(
    node: OpenNode, postgres: str
) -> None:
    logs = [await node() for _ in range(2)]
    for n in range(30):
        log = logs[n % 2]
        assert await log.append(Append(f"s{n % 2}", new("x")), event(f"{n}")) == [n // 2 + 1, 0]
        # Whoever has seen the one finds the other, wherever it looks.
        assert await texts(logs[n // 2 % 2], EVENTS) == [f"{each}" for each in range(n + 1)]
    async with connection(postgres) as db:
        assert await db.fetchval("SELECT sum(generation) FROM writers") == 0


async def test_events_are_announced_without_a_reader(node: OpenNode) -> None:
    announced = [Announced(), Announced()]
    logs = [await node(each) for each in announced]
    await logs[1].append(Append("s", new("x")), event("a"))
    await until(lambda: EVENTS in announced[0].seen)
    assert EVENTS not in announced[1].seen
    assert "outbox:2" not in announced[1].seen


async def test_a_reader_finds_what_nobody_has_sequenced(
    node: OpenNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = await node(), await node()
    await idle_sequencers(monkeypatch, one, two)
    await one.append(Append("s", new("x")), event("a"))
    assert await two.locate(EVENTS, key="a") == 1
    await one.append(Append("s", new("x")), event("b"))
    assert await texts(two, EVENTS) == ["a", "b"]
    await one.append(Append("s", new("x")), event("c"))
    await two.trim(EVENTS, 4)
    page = await one.read(EVENTS, 0)
    assert page.info is not None and (page.info.earliest, page.info.head) == (4, 3)


async def test_an_append_to_shared_streams_alone_knows_its_place(node: OpenNode) -> None:
    one, two = await node(), await node()
    await one.append(Append("s", new("x")), event("a"))
    assert await two.append(event("b")) == [2]
    assert await one.append(event("b")) == [2]
    assert await asyncio.gather(*(log.append(event(f"{n}")) for n, log in enumerate([one, two])))
    assert len(await entries(one, EVENTS)) == 4


async def test_a_deletion_is_announced_before_it_returns(node: OpenNode) -> None:
    announced = [Announced(), Announced()]
    logs = [await node(each) for each in announced]
    for n in range(10):
        await put(logs[1], f"s{n}", "x")
        await logs[1].delete(f"s{n}", appends=[event(f"gone{n}")])
        assert announced[1].seen[EVENTS][-1].body == f"gone{n}".encode()
    assert len(await entries(logs[0], EVENTS)) == 10


async def test_two_sequencers_at_once_do_no_harm(
    node: OpenNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = [await node() for _ in range(3)]
    await idle_sequencers(monkeypatch, *logs)
    for round_ in range(10):
        for n, log in enumerate(logs):
            await log.append(Append(f"s{n}", new("x")), event(f"{round_}.{n}"))
        await asyncio.gather(*(log._sequencer._sequence() for log in logs * 2))
    found = [entry.body.decode() for entry in await entries(logs[0], EVENTS)]
    assert found == [f"{round_}.{n}" for round_ in range(10) for n in range(3)]


async def test_what_waits_is_taken_in_pages_and_removed(
    node: OpenNode, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "_ENTRIES", 7)
    monkeypatch.setattr(outbox_module, "_TRIM_AFTER", 10)
    logs = [await node() for _ in range(2)]
    for n in range(60):
        await logs[n % 2].append(Append(f"s{n % 2}", new("x")), event(f"{n}"))
    assert await texts(logs[0], EVENTS) == [f"{n}" for n in range(60)]
    await until(lambda: not any(log._sequencer._waiters for log in logs))
    async with connection(postgres) as db:
        kept = "SELECT count(*) FROM entries e JOIN outboxes o ON o.stream=e.stream"
        assert await db.fetchval(kept) < 50
    # What remembers nothing of its outbox finds its end.
    for log in logs:
        log._writer._known.forget([log._outbox.name])
        await log.append(Append("t", new("x")), event(f"later{log.node}"))
    assert len(await entries(logs[0], EVENTS)) == 62


async def test_one_that_comes_and_one_that_goes_change_no_order(node: OpenNode) -> None:
    """While calls go on all the time, the way of their events changes twice, and again."""
    log = await node()
    stopping = False
    done: list[list[str]] = [[] for _ in range(8)]

    async def produce(number: int) -> None:
        while not stopping:
            text = f"{number}.{len(done[number])}"
            await log.append(Append(f"s{number}", new(text)), event(text))
            done[number].append(text)

    async def some_more() -> None:
        enough = sum(map(len, done)) + 50
        await until(lambda: sum(map(len, done)) >= enough)

    tasks = [asyncio.create_task(produce(n)) for n in range(len(done))]
    for _ in range(3):
        await until(lambda: log._outbox._is_direct)
        await some_more()
        other = await node()
        assert not log._outbox._is_direct or log._outbox._held is not None
        await some_more()
        await other.append(Append("t", new("x")), event(f"other{other.node}"))
        await other.close()
    await until(lambda: log._outbox._is_direct)
    await some_more()
    stopping = True
    await asyncio.gather(*tasks)
    found = await texts(log, EVENTS)
    for number, own in enumerate(done):
        assert [text for text in found if text.startswith(f"{number}.")] == own
    assert len(found) == len(set(found)) == sum(map(len, done)) + 3


async def test_what_a_dead_node_left_is_taken_in_and_its_outbox_goes(
    node: OpenNode, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = await node(), await node()
    await idle_sequencers(monkeypatch, one, two)
    await one.append(Append("s", new("x")), event("a"))
    one._sequencer._loop.start = lambda: None  # type: ignore[method-assign]
    async with connection(postgres) as db:
        await db.execute("UPDATE writers SET alive=false WHERE node=$1", one.node)
    await until(lambda: two._outbox._is_direct)
    assert await two.append(Append("t", new("x")), event("b")) == [1, 2]
    assert await texts(two, EVENTS) == ["a", "b"]
    async with connection(postgres) as db:
        await db.execute(outbox_module.FORGET)
        assert await db.fetch("SELECT node FROM outboxes") == [(two.node,)]


async def test_a_copy_has_what_waited_and_no_outbox(
    node: OpenNode, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = [await node() for _ in range(2)]
    await idle_sequencers(monkeypatch, *logs)
    for n, log in enumerate(logs):
        await log.append(Append(f"s{n}", new("x")), event(f"{n}"))
    for log in logs:
        await log.close()
    rows = await PostgresRows.open(postgres)
    names = {stream.name for stream in await rows.streams(0)}
    found = [entry for entry in await rows.entries((0, 0)) if entry.key is not None]
    await rows.close()
    assert names == {b"s0", b"s1", EVENTS.encode()}
    assert [(entry.position, entry.key) for entry in found] == [(1, b"0"), (2, b"1")]


async def kill_some(postgres: str, directory: Path, organizations: int, kills: int) -> None:
    """Four nodes write, and are killed one after the other amid it; others start."""
    running: deque[tuple[asyncio.subprocess.Process, Path]] = deque()

    async def start(number: int) -> None:
        output = directory / f"said{number}"
        output.touch()
        arguments = [postgres, f"n{number}", str(output), str(organizations)]
        process = await asyncio.create_subprocess_exec(sys.executable, str(PROGRAM), *arguments)
        running.append((process, output))

    try:
        for number in range(4):
            await start(number)
        for number in range(4, 4 + kills):
            process, output = running.popleft()
            await until(lambda said=output: said.stat().st_size > 1_000)  # type: ignore[misc]
            await asyncio.sleep(random.uniform(0, 0.1))
            assert process.returncode is None
            process.kill()
            await process.wait()
            await start(number)
    finally:
        for process, _ in running:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("organizations", [1, 5])
async def test_killed_writers_leave_every_event_once_in_order(
    postgres: str, tmp_path: Path, organizations: int
) -> None:
    await kill_some(postgres, tmp_path, organizations, 6)
    log = await PostgresLog.open(postgres, beat_seconds=0.1, ttl=1.0)
    found: dict[str, list[Entry]] = {
        f"events:o{n}": await entries(log, f"events:o{n}") for n in range(organizations)
    }
    there: dict[str, list[int]] = {}
    for stream, each in found.items():
        assert [entry.position for entry in each] == list(range(1, len(each) + 1))
        dates = [entry.at for entry in each]
        assert dates == sorted(dates)
        for entry in each:
            there.setdefault(f"{stream} {entry.body.decode()}", []).append(entry.position)
    # Both of a call, next to each other as they were given, and each once.
    assert all(second == first + 1 for first, second in there.values())
    said = [line for file in tmp_path.glob("said*") for line in file.read_text().splitlines()]
    assert said
    assert set(said) <= there.keys(), "what was acknowledged is missing"
    # What each session's own stream says: nothing more, nothing less, and in its order.
    for name in {line.split(" ")[1].rpartition(".")[0] for line in there}:
        own = [f"{stream} {name}.{n}" for n, stream in enumerate(await texts(log, name), 1)]
        for stream, each in found.items():
            mine = [e.body.decode() for e in each if e.body.decode().rpartition(".")[0] == name]
            expected = [text.split(" ")[1] for text in own if text.startswith(f"{stream} ")]
            assert list(dict.fromkeys(mine)) == expected
    await log.close()
