"""TurnWriter: batches, back-pressure, order, endings."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from resonantgenesis_server.log.base import (
    Append,
    LogOverloaded,
    LogUnavailable,
    NewEntry,
    Outcome,
    StaleWriter,
)
from resonantgenesis_server.sessions import turn_writer as writer_module
from resonantgenesis_server.sessions.turn_writer import Sealed, TurnWriter

pytestmark = pytest.mark.anyio


class Log:
    """Keeps every append until the test answers it."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Sequence[Append], Outcome]] = []
        self.taken: list[bytes] = []
        self.events: list[str] = []

    def submit(self, appends: Sequence[Append], outcome: Outcome) -> None:
        self.waiting.append((appends, outcome))

    async def answer(self, error: Exception | None = None) -> int:
        """Answer the oldest append; how many chunks it had."""
        appends, outcome = self.waiting.pop(0)
        chunks = len(appends[0].entries)
        if error is None:
            self.taken += [entry.body for entry in appends[0].entries]
            self.events += [e.key or "" for part in appends[1:] for e in part.entries]
            outcome([len(self.taken)], None)
        else:
            outcome(None, error)
        for _ in range(3):
            await asyncio.sleep(0)
        return chunks


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def writer(log: Log) -> TurnWriter:
    return TurnWriter(log, "sess_1", fence=3, position=0, event_stream="org/events")  # type: ignore[arg-type]


async def test_one_append_at_a_time_and_the_rest_together(log: Log, writer: TurnWriter) -> None:
    for n in range(5):
        await writer.write("message", b"%d" % n)
    assert writer.position == 5
    assert writer.durable == 0
    assert len(log.waiting) == 1
    assert log.waiting[0][0][0].fence == 3
    assert await log.answer() == 1
    assert writer.durable == 1
    assert await log.answer() == 4
    assert log.taken == [b"0", b"1", b"2", b"3", b"4"]
    assert (writer.durable, log.waiting) == (5, [])
    await writer.flush()


async def test_events_go_with_their_chunks(log: Log, writer: TurnWriter) -> None:
    await writer.write("step", b"1")
    await writer.write("step", b"2", NewEntry("session.step.completed", b"{}", key="a"))
    await writer.write("step", b"3", NewEntry("session.step.completed", b"{}", key="b"))
    await log.answer()
    assert log.events == []
    assert [part.stream for part in log.waiting[0][0]] == ["sess_1", "org/events"]
    await log.answer(LogOverloaded("full"))
    await writer.write("step", b"4", NewEntry("session.step.completed", b"{}", key="c"))
    await until(log)
    await log.answer()
    assert log.events == ["a", "b", "c"]


async def until(log: Log) -> None:
    async with asyncio.timeout(20):
        while not log.waiting:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(("size", "fits"), [(100 * 1024, 3), (1, 1_000)])
async def test_a_full_buffer_holds_the_agent(
    log: Log, writer: TurnWriter, size: int, fits: int
) -> None:
    body = b"x" * size
    written = 0

    async def agent() -> None:
        nonlocal written
        for _ in range(3 * fits):
            await writer.write("message", body)
            written += 1

    task = asyncio.create_task(agent())
    for _ in range(5):
        await asyncio.sleep(0)
    assert written == 1 + fits  # one under way, and a full buffer
    while not task.done():
        await log.answer()
    assert written == 3 * fits
    while log.waiting:
        await log.answer()
    assert writer.durable == 3 * fits


async def test_overload_is_waited_out_in_order(
    log: Log, writer: TurnWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "_OVERLOAD_PAUSE", 0.001)
    await writer.write("message", b"0")
    await writer.write("message", b"1")
    flushed = asyncio.create_task(writer.flush())
    for _ in range(3):
        await until(log)
        await log.answer(LogOverloaded("full"))
    await writer.write("message", b"2")
    await until(log)
    await log.answer()
    assert log.taken == [b"0", b"1", b"2"]
    await flushed


async def test_a_refusal_ends_it_for_everyone_who_waits(log: Log, writer: TurnWriter) -> None:
    async def agent() -> None:
        while True:
            await writer.write("message", b"x" * 300_000)

    task = asyncio.create_task(agent())
    flush = asyncio.create_task(writer.flush())
    for _ in range(5):
        await asyncio.sleep(0)
    await log.answer(StaleWriter("another"))
    for waiting in (task, flush):
        with pytest.raises(StaleWriter):
            await waiting
    with pytest.raises(StaleWriter):
        await writer.write("message", b"x")
    assert isinstance(writer.error, StaleWriter)
    assert (writer.durable, log.waiting) == (0, [])


async def test_what_a_log_should_not_raise_is_an_error_too(log: Log, writer: TurnWriter) -> None:
    await writer.write("message", b"x")
    await log.answer(ValueError("too large"))
    with pytest.raises(Exception, match="too large"):
        await writer.flush()


async def test_sealed_takes_nothing_more_but_stores_what_it_took(
    log: Log, writer: TurnWriter
) -> None:
    await writer.write("message", b"0")
    await writer.write("message", b"1")

    async def late() -> None:
        await writer.write("message", b"x" * 400_000)
        await writer.write("message", b"never")

    task = asyncio.create_task(late())
    for _ in range(3):
        await asyncio.sleep(0)
    writer.seal()
    with pytest.raises(Sealed):
        await task
    with pytest.raises(Sealed):
        await writer.write("message", b"never")
    flush = asyncio.create_task(writer.flush())
    await log.answer()
    assert not flush.done()
    await log.answer()
    await flush
    assert len(log.taken) == 3


async def test_flush_tells_the_error_of_the_last_append(log: Log, writer: TurnWriter) -> None:
    await writer.write("message", b"0")
    flush = asyncio.create_task(writer.flush())
    await asyncio.sleep(0)
    await log.answer(LogUnavailable("disk full"))
    with pytest.raises(LogUnavailable, match="disk full"):
        await flush


async def test_what_is_followed_goes_out_with_what_follows(log: Log, writer: TurnWriter) -> None:
    await writer.write("step", b"1", more=True)
    assert log.waiting == []
    await writer.write("message", b"2")
    assert await log.answer() == 2
    await writer.flush()


async def test_what_was_to_be_followed_goes_out_without(log: Log, writer: TurnWriter) -> None:
    await writer.write("step", b"1", more=True)
    writer.seal()
    flushed = asyncio.create_task(writer.flush())
    await asyncio.sleep(0)
    assert await log.answer() == 1
    await asyncio.wait_for(flushed, 5)
