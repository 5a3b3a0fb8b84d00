"""Several processes write the same streams, are killed, stopped and continued: every rule holds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from resonantgenesis_server.log.base import Append, StaleWriter, StreamClosed
from resonantgenesis_server.log.sqlite.log import SqliteLog

from .handle_process import STREAMS
from .support import EVERY_EXAMPLE, Backend, Store, assert_dense, keyed, new, put, read_all, texts

pytestmark = pytest.mark.anyio
PROGRAM = Path(__file__).with_name("handle_process.py")


class Crowd:
    """Processes on one store, and everything that they said."""

    def __init__(self, backend: Backend, directory: Path) -> None:
        self._place = backend.place
        self._directory = directory
        self._processes: list[asyncio.subprocess.Process] = []
        self._started = 0

    async def start(self) -> None:
        self._started += 1
        output = self._directory / f"said{self._started}"
        with (self._directory / f"printed{self._started}").open("wb") as log:
            self._processes.append(
                await asyncio.create_subprocess_exec(
                    sys.executable,
                    str(PROGRAM),
                    *self._place,
                    str(self._started),
                    str(output),
                    stdout=log,
                    stderr=log,
                )
            )

    async def kill(self, process: asyncio.subprocess.Process) -> None:
        self._processes.remove(process)
        process.kill()
        await process.wait()

    async def disturb(self, calls: int) -> None:
        """Until so many calls are acknowledged: kill one and start another, or stop one for a
        while."""
        while self._acknowledged() < calls:
            await asyncio.sleep(random.uniform(0.2, 0.8))
            one = random.choice(self._processes)
            assert one.returncode is None, "it ends by being killed alone"
            if random.random() < 0.5:
                await self.kill(one)
                await self.start()
            else:
                one.send_signal(signal.SIGSTOP)
                await asyncio.sleep(random.uniform(0.05, 0.5))
                one.send_signal(signal.SIGCONT)

    async def end(self) -> None:
        for process in list(self._processes):
            with contextlib.suppress(ProcessLookupError):
                await self.kill(process)

    def _acknowledged(self) -> int:
        return sum(output.read_bytes().count(b'"positions"') for output in self._outputs())

    def _outputs(self) -> list[Path]:
        return list(self._directory.glob("said*"))

    def complaints(self) -> list[str]:
        """The logs of the processes that only a mistake of ours explains."""
        logs = [log.read_text() for log in self._directory.glob("printed*")]
        words = ("internally", "where one was to be", "Traceback")
        return [log for log in logs if any(word in log for word in words)]

    def said(self) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = []
        for output in self._outputs():
            # Each line is one write(2), so a kill cuts none.
            lines += [json.loads(line) for line in output.read_text().splitlines()]
        return lines


@contextlib.asynccontextmanager
async def crowd_of(count: int, backend: Backend, directory: Path) -> AsyncIterator[Crowd]:
    crowd = Crowd(backend, directory)
    try:
        for _ in range(count):
            await crowd.start()
        yield crowd
    finally:
        await crowd.end()


async def check(store: Store, said: list[dict[str, Any]]) -> int:
    """Every rule, over all that is there and all that was said; how many entries there are."""
    there: dict[tuple[str, str], int] = {}
    total = 0
    for stream in STREAMS:
        entries = await read_all(store, stream)
        total += len(entries)
        assert_dense(entries)
        dates = [entry.at for entry in entries]
        assert dates == sorted(dates)
        highest = 0
        for entry in entries:
            content = json.loads(entry.body)
            if content["fence"] is not None:
                assert content["fence"] >= highest, "a lower fence wrote after a higher one"
                highest = content["fence"]
            place = stream, content["body"]
            assert place not in there, "an entry is there twice"
            there[place] = entry.position
    begun = {line["do"]: line for line in said if "do" in line}
    keys: Counter[tuple[str, str]] = Counter()
    for (stream, name), _ in there.items():
        call = begun[name]
        key = call["keys"][call["streams"].index(stream)]
        if key is not None:
            keys[stream, key] += 1
    assert all(count == 1 for count in keys.values()), "a key is there twice"
    for line in said:
        if "done" in line:
            check_call(line, begun[line["done"]], there)
    for name, call in begun.items():
        check_whole(name, call, there)
    return total


def check_call(
    line: dict[str, Any], call: dict[str, Any], there: dict[tuple[str, str], int]
) -> None:
    name = line["done"]
    if "refused" in line:
        assert not any((stream, name) in there for stream in call["streams"])
    if "positions" in line:
        parts = zip(call["streams"], call["keys"], line["positions"], strict=True)
        for stream, key, position in parts:
            # With a key it may have been there already.
            if key is None or (stream, name) in there:
                assert there.get((stream, name)) == position, "what was acknowledged is elsewhere"


def check_whole(name: str, call: dict[str, Any], there: dict[tuple[str, str], int]) -> None:
    """All or nothing, but for entries whose key was there."""
    parts = [
        (stream, name) in there
        for stream, key in zip(call["streams"], call["keys"], strict=True)
        if key is None
    ]
    assert len(set(parts)) <= 1, "half of a call is there"


async def run_crowd(backend: Backend, directory: Path, count: int, calls: int) -> None:
    async with asyncio.timeout(calls / 10 + 60), crowd_of(count, backend, directory) as crowd:
        await crowd.disturb(calls)
    assert crowd.complaints() == []
    said = crowd.said()
    store = await backend.open()
    assert await check(store, said) > 0
    await store.close()


@pytest.fixture
async def pair(backend: Backend) -> AsyncIterator[tuple[Store, Store]]:
    one, two = await backend.open(), await backend.open()
    yield one, two
    await one.close()
    await two.close()


async def test_two_handles_take_turns_on_a_stream(pair: tuple[Store, Store]) -> None:
    for n in range(40):
        store = pair[n // 2 % 2]
        assert await put(store, "s", f"{n}") == n + 1
        assert await store.append(Append("s", [], expect=n + 1)) == [n + 1]
    for store in pair:
        assert texts(await read_all(store, "s")) == [f"{n}" for n in range(40)]


async def test_two_handles_write_at_once(pair: tuple[Store, Store]) -> None:
    streams = ["s", "s/x", "t"]

    async def produce(store: Store, name: str) -> None:
        for n in range(40):
            call = [Append(streams[n % 3], new(f"{name}{n}"))]
            if n % 3 == 0:
                call.append(Append("s/x", new(f"{name}{n}")))
            await store.append(*call)

    async with asyncio.timeout(60):
        await asyncio.gather(*(produce(pair[n % 2], f"p{n}.") for n in range(6)))
    for stream, count in zip(streams, (6 * 14, 6 * 27, 6 * 13), strict=True):
        entries = await read_all(pair[0], stream)
        assert_dense(entries)
        assert len(entries) == len(set(texts(entries))) == count
        for name in range(6):  # each producer's in its own order
            own = [int(t.partition(".")[2]) for t in texts(entries) if t.startswith(f"p{name}.")]
            assert own == sorted(own)


async def test_of_two_handles_one_wins_a_place(pair: tuple[Store, Store]) -> None:
    for n in range(60):
        outcomes = await asyncio.gather(
            *(store.append(Append("s", new(f"{n}"), expect=n)) for store in pair),
            return_exceptions=True,
        )
        assert sorted(type(o).__name__ for o in outcomes) == ["PositionConflict", "list"]


async def test_of_two_handles_one_makes_a_stream(pair: tuple[Store, Store]) -> None:
    for n in range(60):
        calls = [
            store.append(Append(f"s{n}", new("1"), expect=0), Append(f"s{n}/x", new("1")))
            for store in pair
        ]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert sorted(type(o).__name__ for o in outcomes) == ["PositionConflict", "list"]
        assert len(await read_all(pair[0], f"s{n}/x")) == 1


async def test_a_stale_writer_on_another_handle_is_cut_off(pair: tuple[Store, Store]) -> None:
    one, two = pair
    old = await one.next_fence()
    await one.append(Append("s", new("old"), fence=old), Append("s/x", new("old"), fence=old))
    fresh = await two.next_fence()
    await two.append(Append("s", [], fence=fresh, pending=True))
    for _ in range(3):
        with pytest.raises(StaleWriter):
            await one.append(Append("s/x", new("zombie")), Append("s", new("zombie"), fence=old))
    await two.append(Append("s", new("fresh"), fence=fresh, close=True))
    with pytest.raises(StreamClosed):
        await one.append(Append("s", new("late")))
    assert texts(await read_all(one, "s")) == ["old", "fresh"]
    assert texts(await read_all(one, "s/x")) == ["old"]
    assert await one.pending() == ["s"]


async def test_a_key_is_dropped_whichever_handle_brought_it(pair: tuple[Store, Store]) -> None:
    for n in range(20):
        call = Append("s", keyed(f"{n}", f"{n}'"))
        await asyncio.gather(*(store.append(call) for store in pair for _ in range(3)))
    entries = await read_all(pair[1], "s")
    assert_dense(entries)
    assert len(entries) == 40


async def test_what_one_handle_removes_is_gone_for_the_other(pair: tuple[Store, Store]) -> None:
    one, two = pair
    for n in range(10):
        assert await put(one, "s", "1", "2", "3") == 3
        await two.trim("s", 3)
        assert await put(one, "s", "4") == 4
        assert [e.position for e in await read_all(one, "s", 2)] == [3, 4]
        await two.delete("s", appends=[Append("events", keyed(f"gone{n}"))])
    assert len(await read_all(one, "events")) == 10


async def test_of_two_handles_one_claims_a_key(pair: tuple[Store, Store]) -> None:
    for n in range(40):
        answers = await asyncio.gather(
            *(store.claim("o", f"{n}", f"{n}".encode(), ttl=60) for store in pair)
        )
        assert sorted(answers, key=str) == sorted([None, f"{n}".encode()], key=str)


async def test_fences_of_two_handles_grow_together(pair: tuple[Store, Store]) -> None:
    given = [await pair[n % 2].next_fence() for n in range(20)]
    assert given == sorted(set(given))


async def test_handles_that_make_the_store_at_once_share_it(tmp_path: Path) -> None:
    for n in range(60):
        path = tmp_path / f"{n}.db"
        async with asyncio.timeout(60):
            handles = await asyncio.gather(*(SqliteLog.open(path) for _ in range(4)))
        assert len({handle.epoch for handle in handles}) == 1
        assert await put(handles[0], "s", "1") == 1
        assert texts(await read_all(handles[-1], "s")) == ["1"]
        for handle in handles:
            await handle.close()


@EVERY_EXAMPLE
async def test_no_rule_breaks_among_processes_that_are_killed_and_stopped(
    backend: Backend, tmp_path: Path
) -> None:
    await run_crowd(backend, tmp_path, 3, 1_000)


@pytest.mark.soak
async def test_no_rule_breaks_for_long(backend: Backend, tmp_path: Path) -> None:
    await run_crowd(backend, tmp_path, 5, 30_000)
