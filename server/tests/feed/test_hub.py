"""What a reader costs, how readers end, what the hub keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from resonantgenesis_server.feed.hub import LEFT_BYTES, LEFT_TOPICS, TAIL_BYTES, TAIL_ENTRIES, Hub
from resonantgenesis_server.feed.subscription import PlaceExpired, StreamGone, Subscription
from resonantgenesis_server.log.base import Entry, Page, StreamInfo

from .world import STREAM, FakeLog, settle

pytestmark = pytest.mark.anyio


class Answering(FakeLog):
    """Answers reads at once, and counts them."""

    count = 0

    async def read(
        self, stream: str, after: int, *, limit: int = 1000, max_bytes: int = 1 << 20
    ) -> Page:
        self.count += 1
        await asyncio.sleep(0)
        return self.page(after, limit, max_bytes)


def follower(hub: Hub, log: FakeLog, after: int = 0, pending: int = 25) -> Subscription:
    return Subscription(hub, log, STREAM, after, pending_bytes=pending)  # type: ignore[arg-type]


def publish(hub: Hub, log: FakeLog, count: int = 1) -> None:
    log.commit(count)
    hub.publish(STREAM, log.unannounced.pop())


async def batch(reader: Subscription, timeout: float | None = None) -> list[int]:
    async with asyncio.timeout(20):
        return [entry.position for entry in await reader.batch(timeout)]


async def attached(hub: Hub, log: FakeLog, pending: int = 25) -> Subscription:
    reader = follower(hub, log, log.head, pending)
    reader.__enter__()
    assert await batch(reader, 0) == []
    return reader


async def test_an_attached_reader_is_pushed_to_and_reads_nothing() -> None:
    hub, log = Hub(), Answering()
    reader = await attached(hub, log)
    before = log.count
    for position in range(1, 50):
        publish(hub, log)
        assert await batch(reader) == [position]
    assert log.count == before


async def test_a_reader_that_is_full_is_detached_costs_nothing_and_catches_up() -> None:
    hub, log = Hub(), Answering()
    reader = await attached(hub, log)
    pushes = 0
    push = reader.push

    def counted(entries: Sequence[Entry]) -> bool:
        nonlocal pushes
        pushes += 1
        return push(entries)  # type: ignore[arg-type]

    reader.push = counted  # type: ignore[method-assign]
    before = log.count
    for _ in range(2_000):
        publish(hub, log)
    # Taken until over the bound, refused once, then never asked again.
    assert pushes == 4
    assert sum(len(entry.body) for entry in reader._pending) == 30
    assert log.count == before
    assert not reader.attached
    got: list[int] = []
    while len(got) < 2_000:
        got += await batch(reader)
    assert got == list(range(1, 2_001))
    assert await batch(reader, 0) == []
    assert reader.attached


async def test_a_waiting_reader_that_is_skipped_is_woken_and_pulls() -> None:
    """A commit that nobody announced: the next one shows the gap."""
    hub, log = Hub(), Answering()
    reader = await attached(hub, log)
    waiting = asyncio.create_task(batch(reader))
    await settle()
    log.commit(2)
    log.unannounced.clear()
    publish(hub, log)
    assert await waiting == [1, 2, 3]


async def test_silence_is_reported_and_keeps_the_position() -> None:
    hub, log = Hub(), Answering()
    reader = await attached(hub, log)
    assert await batch(reader, 0.001) == []
    publish(hub, log, 3)
    assert await batch(reader, 0.001) == [1, 2, 3]


async def test_who_comes_just_after_a_deletion_neither_spins_nor_is_fed() -> None:
    """Another reader still keeps the topic; its head is of a stream that is no more."""
    hub, log = Hub(), Answering()
    old = await attached(hub, log)
    publish(hub, log, 7)
    log.deleted = True
    hub.delete(STREAM)
    with pytest.raises(StreamGone):
        while True:
            await batch(old)
    with follower(hub, log) as late:
        before = log.count
        assert await batch(late, 0.01) == []
        assert log.count - before <= 2
        assert late.attached
    old.__exit__(None, None, None)


async def test_pending_entries_are_given_out_before_the_end() -> None:
    hub, log = Hub(), Answering()
    reader = await attached(hub, log)
    publish(hub, log, 2)
    log.deleted = True
    hub.delete(STREAM)
    assert await batch(reader) == [1, 2]
    with pytest.raises(StreamGone):
        await batch(reader)


async def test_a_reader_that_falls_behind_a_trim_learns_where_to_go_on() -> None:
    hub, log = Hub(), Answering()
    log.commit(10)
    log.earliest = 6
    with follower(hub, log, 4) as reader, pytest.raises(PlaceExpired) as told:
        await batch(reader)
    assert told.value.earliest == 6
    with follower(hub, log, 5) as reader:
        assert await batch(reader) == [6, 7, 8, 9, 10]


async def test_a_place_at_the_end_of_a_stream_trimmed_whole_is_not_expired() -> None:
    hub, log = Hub(), Answering()
    log.commit(3)
    log.earliest = 4
    with follower(hub, log, 3) as reader:
        assert await batch(reader, 0) == []


async def test_the_tail_is_bounded_in_entries_and_bytes() -> None:
    hub, log = Hub(), Answering()
    reader = await attached(hub, log)
    topic = hub._topics[STREAM]
    for _ in range(TAIL_ENTRIES):
        publish(hub, log, 3)
    assert len(topic.tail) == TAIL_ENTRIES
    for position in range(log.head + 1, log.head + 10):
        hub.publish(STREAM, [Entry(position, "message", b"x" * (TAIL_BYTES // 4), 1)])
    assert topic.tail_bytes == sum(len(entry.body) for entry in topic.tail) <= TAIL_BYTES
    hub.publish(STREAM, [Entry(log.head + 10, "message", b"x" * 3 * TAIL_BYTES, 1)])
    assert len(topic.tail) == 1
    reader.__exit__(None, None, None)
    assert not hub.busy


async def test_readers_are_counted_and_leaving_twice_is_harmless() -> None:
    hub, log = Hub(), Answering()
    assert hub.readers(STREAM) == 0
    first, second = follower(hub, log), follower(hub, log)
    with first:
        with second:
            assert hub.readers(STREAM) == 2
        assert hub.readers(STREAM) == 1
    hub.unregister(STREAM, first)
    assert hub.readers(STREAM) == 0


async def test_a_reader_that_leaves_while_it_waits_leaves_nothing() -> None:
    hub, log = Hub(), Answering()
    reader = follower(hub, log)

    async def read() -> None:
        with reader:
            while True:
                await reader.batch(None)

    task = asyncio.create_task(read())
    await settle()
    assert reader.attached
    task.cancel()
    await asyncio.wait({task})
    publish(hub, log)
    assert not hub.busy
    assert Page([], StreamInfo(0, 1, 1, False)).at_end


async def test_who_comes_back_to_a_stream_that_everybody_left_needs_no_log() -> None:
    hub, log = Hub(), Answering()
    reader = await attached(hub, log)
    publish(hub, log, 2)
    reader.__exit__(None, None, None)
    publish(hub, log, 3)
    before = log.count
    with follower(hub, log, 1) as back:
        found = await back.pull()
        assert found is not None
        assert [entry.position for entry in found] == [2, 3, 4, 5]
    assert log.count == before


async def test_what_is_kept_of_streams_without_readers_is_bounded() -> None:
    hub = Hub()
    for number in range(LEFT_TOPICS + 50):
        log = Answering()
        name = f"sess_{number}"
        with Subscription(hub, log, name, 0) as reader:  # type: ignore[arg-type]
            await reader.batch(0)
            hub.publish(name, [Entry(1, "message", b"x" * 100, 1)])
    assert len(hub._topics) == len(hub._left) == LEFT_TOPICS
    for number in range(100):
        with Subscription(hub, log, f"large_{number}", 0) as reader:  # type: ignore[arg-type]
            await reader.batch(0)
            hub.publish(f"large_{number}", [Entry(1, "message", b"x" * (LEFT_BYTES // 10), 1)])
    assert sum(topic.tail_bytes for topic in hub._left.values()) <= LEFT_BYTES
    assert not hub.busy
    for number in range(20):
        with Subscription(hub, log, f"small_{number}", 0) as reader:  # type: ignore[arg-type]
            await reader.batch(0)
    for number in range(20):  # those that were left are written on
        hub.publish(f"small_{number}", [Entry(2, "message", b"x" * (LEFT_BYTES // 10), 1)])
        kept = sum(topic.tail_bytes for topic in hub._left.values())
        assert hub._left_bytes == kept <= LEFT_BYTES


class Wire:
    """A sink that notes what it is written, and of which the test says what happens."""

    def __init__(self, refuses: Sequence[int] = ()) -> None:
        self.encoder = self
        self.ready = True
        self.written: list[int] = []
        self.woken = 0
        self.refuses = refuses
        self.on_write: Callable[[], None] = lambda: None

    def live(self, entries: Sequence[Entry]) -> bytes | None:
        positions = [entry.position for entry in entries]
        return None if positions[0] in self.refuses else bytes(positions)

    def write(self, data: bytes) -> None:
        self.written += data
        self.on_write()

    def wake(self) -> None:
        self.woken += 1


async def test_a_parked_reader_is_written_to_and_pushed_what_its_form_refuses() -> None:
    hub, log, wire = Hub(), Answering(), Wire(refuses=[4])
    reader = await attached(hub, log)
    assert reader.park(wire)
    for _ in range(4):
        publish(hub, log)
    assert wire.written == [1, 2, 3]
    assert wire.woken == 1
    assert reader.reached == 4
    assert await batch(reader) == [4]
    assert reader.park(wire)
    log.commit(2)
    log.unannounced.clear()  # a commit that nobody announced
    publish(hub, log)
    assert await batch(reader) == [5, 6, 7]
    wire.ready = False
    assert reader.park(wire) is None


async def test_readers_of_one_form_share_its_bytes() -> None:
    hub, log = Hub(), Answering()
    wire, same = Wire(), Wire()
    same.encoder = wire
    made: list[int] = []
    live = wire.live
    wire.live = lambda entries: made.append(1) or live(entries)  # type: ignore[func-returns-value, method-assign]
    for each in (wire, same):
        assert (await attached(hub, log)).park(each)
    publish(hub, log, 2)
    assert wire.written == same.written == [1, 2]
    assert len(made) == 1


async def test_a_write_that_fills_a_connection_unparks_its_reader() -> None:
    """It has the bytes of that write, and is pushed what comes after."""
    hub, log, wire = Hub(), Answering(), Wire()
    reader = await attached(hub, log)
    assert reader.park(wire)
    wire.on_write = reader.unpark
    publish(hub, log)
    assert wire.written == [1]
    assert wire.woken == 0
    publish(hub, log)
    assert wire.written == [1]
    assert wire.woken == 1
    assert await batch(reader) == [2]


async def test_a_write_that_fills_a_connection_unparks_all_of_its_readers() -> None:
    """Also one that was not written to yet: it is pushed what it lacks."""
    hub, log = Hub(), Answering()
    readers = [await attached(hub, log) for _ in range(3)]
    wires = [Wire(), Wire(), Wire()]
    for reader, wire in zip(readers, wires, strict=True):
        assert reader.park(wire)
    wires[1].on_write = lambda: [reader.unpark() for reader in readers] and None
    publish(hub, log)
    assert [wire.written for wire in wires] == [[1], [1], []]
    assert await batch(readers[2]) == [1]
    publish(hub, log)
    assert [await batch(reader) for reader in readers] == [[2], [2], [2]]


async def test_a_connection_that_is_closed_is_written_to_no_more() -> None:
    hub, log, wire, other = Hub(), Answering(), Wire(), Wire()
    reader, second = await attached(hub, log), await attached(hub, log)
    assert reader.park(wire)
    assert second.park(other)

    def closed() -> None:
        wire.written.clear()
        raise RuntimeError("closed")

    wire.on_write = closed
    publish(hub, log)
    assert (wire.written, other.written) == ([], [1])
    assert wire.woken == 1
    assert await batch(reader) == [1]


async def test_what_one_has_read_serves_those_who_come_after_it() -> None:
    """Also when a chunk was announced while it read."""
    hub, log = Hub(), Answering()
    log.commit(9)
    log.unannounced.clear()
    with follower(hub, log, 4) as first, follower(hub, log, 4) as second:
        publish(hub, log)
        assert await batch(first) == [5, 6, 7, 8, 9, 10]
        found = await second.pull()
        assert found is not None
        assert [entry.position for entry in found] == [5, 6, 7, 8, 9, 10]
