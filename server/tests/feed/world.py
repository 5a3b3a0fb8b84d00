"""A log without a disk whose every step is taken when the test says so.

What a real log does by itself in some order is here a list of possible next actions: an append is
committed; a commit is announced, later and in order; a read takes its snapshot; a read's answer
arrives; a reader asks for its next batch; the stream is trimmed or deleted. Whoever drives the
world picks one after the other. Between two actions all tasks run until nothing moves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from resonantgenesis_server.feed import hub as topic_module
from resonantgenesis_server.feed.filter import CompiledFilters, EventFilter
from resonantgenesis_server.feed.hub import Hub
from resonantgenesis_server.feed.remote import RemoteStreams
from resonantgenesis_server.feed.subscription import (
    PAGE,
    PageSize,
    PlaceExpired,
    StreamGone,
    Subscription,
)
from resonantgenesis_server.log.base import Entry, Page, StreamInfo, mark

STREAM = "sess_1"
BODY = 10
#: Some entries are of a kind that a selecting reader does not want.
KINDS = ("app.yes", "app.no.really")

Action = Callable[[], None]
#: Picks one of so many.
Choose = Callable[[int], int]


class PendingRead:
    """A read whose snapshot is taken, and whose answer arrives, when the test says so."""

    def __init__(self, log: FakeLog, after: int, limit: int, max_bytes: int) -> None:
        self.log, self.after, self.limit, self.max_bytes = log, after, limit, max_bytes
        self.page: Page | None = None
        self.answer: asyncio.Future[Page] = asyncio.get_running_loop().create_future()

    def snapshot(self) -> None:
        self.page = self.log.page(self.after, self.limit, self.max_bytes)

    def arrive(self) -> None:
        self.log.reads.remove(self)
        assert self.page is not None
        if not self.answer.done():
            self.answer.set_result(self.page)


class FakeLog:
    """The part of EventLog that a follower uses."""

    epoch = "e"

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.earliest = 1
        self.deleted = False
        self.unannounced: list[list[Entry]] = []
        self.reads: list[PendingRead] = []

    @property
    def head(self) -> int:
        return len(self.entries)

    def commit(self, count: int) -> None:
        first = self.head + 1
        batch = [Entry(n, KINDS[n % 3 == 0], b"x" * BODY, n) for n in range(first, first + count)]
        self.entries += batch
        self.unannounced.append(batch)

    def page(self, after: int, limit: int, max_bytes: int) -> Page:
        if self.deleted or not self.entries:
            return Page([], None)
        found: list[Entry] = []
        for entry in self.entries[max(after, self.earliest - 1) :][:limit]:
            found.append(entry)
            if len(found) * BODY >= max_bytes:
                break
        return Page(found, StreamInfo(self.head, self.earliest, 1, False))

    async def read(
        self, stream: str, after: int, *, limit: int = 1000, max_bytes: int = 1 << 20
    ) -> Page:
        pending = PendingRead(self, after, limit, max_bytes)
        self.reads.append(pending)
        return await pending.answer

    # -- the part that `RemoteStreams` uses ------------------------------------------------

    is_mine = True
    since = 0
    gets_notices = True
    on_lost: Callable[[list[str]], None]
    on_notice: Callable[[Sequence[int] | None], None]

    def owned_from(self, stream: str) -> int | None:
        return self.since if self.is_mine else None

    async def read_placed(
        self, after: Mapping[str, int], *, limit: int, max_bytes: int
    ) -> Mapping[str, Page]:
        return {name: await self.read(name, place, limit=2) for name, place in after.items()}


@dataclass(frozen=True)
class Shape:
    """How large things are in a world."""

    page: int = 2
    pending: int = 2 * BODY
    tail: int = 512
    commits: int = 6
    readers: int = 2
    selecting: bool = False
    parks: bool = False
    trims: bool = False
    deletes: bool = False
    #: Another node may own the stream, and the two may take it from one another.
    shared: bool = False


class Positions:
    """An encoder whose bytes tell the positions; now and then it leaves a batch to each."""

    def live(self, entries: Sequence[Entry]) -> bytes | None:
        if entries[0].position % 5 == 0:
            return None
        return b" ".join(b"%d" % entry.position for entry in entries)


POSITIONS = Positions()


class Viewer:
    """A task that reads without end, but asks for a batch only when it is let. It is an sink
    whose connection is full, or closed, now and then."""

    encoder = POSITIONS
    ready = True

    def __init__(self, world: World, after: int, shape: Shape) -> None:
        selection = CompiledFilters().get(EventFilter(("app.*",), within=("*.yes",)))
        self.after = after
        self.selecting = shape.selecting
        self.got: list[Entry] = []
        self.ended: str | None = None
        self.asks = asyncio.Event()
        self.waiting = False
        self.follower = Subscription(
            world.hub,
            world.log,  # type: ignore[arg-type]
            STREAM,
            after,
            selection=selection if shape.selecting else None,
            pending_bytes=shape.pending,
            page=PageSize(shape.page, PAGE.bytes),
        )
        self.parks = shape.parks
        self.log = world.log
        self.woken = asyncio.Event()
        self.task = asyncio.create_task(self._read())

    def write(self, data: bytes) -> None:
        if len(self.got) % 7 == 6:
            raise RuntimeError("closed")
        self.got += [self.log.entries[int(position) - 1] for position in data.split()]
        if len(self.got) % 3 == 2:
            self.follower.unpark()

    def wake(self) -> None:
        self.woken.set()

    async def _read(self) -> None:
        with self.follower:
            try:
                while True:
                    self.waiting = True
                    await self.asks.wait()
                    self.asks.clear()
                    self.waiting = False
                    self.woken.clear()
                    if self.parks and self.follower.park(self) is not None:
                        await self.woken.wait()
                    self.got += await self.follower.batch(None)
            except StreamGone:
                self.ended = "gone"
            except PlaceExpired as error:
                self.ended = f"expired {error.earliest}"

    def ask(self) -> None:
        self.asks.set()


class World:
    def __init__(
        self,
        choose: Choose,
        shape: Shape,
        hub: Hub | None = None,
        remote: type[RemoteStreams] = RemoteStreams,
    ) -> None:
        self.choose = choose
        self.shape = shape
        self.hub = hub or Hub()
        self.log = FakeLog()
        self.viewers: list[Viewer] = []
        self.commits = shape.commits
        self.trims = 2 if shape.trims else 0
        self.deletes = 1 if shape.deletes else 0
        self.told_gone = False
        self.moves = 3 if shape.shared else 0
        self.remote: RemoteStreams | None = None
        if shape.shared:
            self.remote = self.hub.source = remote(self.log, self.hub, self._found_gone)  # type: ignore[arg-type]
            self.remote.start()
        #: Commits of the other node that it has given no notice of.
        self.notices = 0

    # -- actions ---------------------------------------------------------------------------

    def actions(self) -> list[Action]:
        log = self.log
        found: list[Action] = [viewer.ask for viewer in self.viewers if viewer.waiting]
        found += [read.snapshot for read in log.reads if read.page is None]
        found += [read.arrive for read in log.reads if read.page is not None]
        if log.unannounced:
            found.append(self._announce)
        elif self.moves and not log.deleted:
            found.append(self._move)
        if self.notices:
            found.append(self._notice)
        if log.unannounced:
            pass
        elif log.deleted and not self.told_gone:
            found.append(self._tell_gone)
        if self.commits and not log.deleted:
            found.append(self._commit)
        if len(self.viewers) < self.shape.readers and not log.deleted:
            found.append(self._join)
        if self.trims and log.head > log.earliest and not log.deleted:
            found.append(self._trim)
        if self.deletes and not self.commits and not log.deleted:
            found.append(self._delete)
        return found

    def _commit(self) -> None:
        count = 1 + self.choose(3)
        self.commits -= 1
        self.log.commit(count)
        if not self.log.is_mine:  # it is announced there
            self.log.unannounced.clear()
            self.notices += 1

    def _announce(self) -> None:
        entries = self.log.unannounced.pop(0)
        if self.remote is None:
            self.hub.publish(STREAM, entries)
        else:
            self.remote.committed(STREAM, entries)

    def _move(self) -> None:
        """The stream goes to the other node, or comes from there."""
        self.moves -= 1
        self.log.is_mine = not self.log.is_mine
        assert self.remote is not None
        self.log.since = self.log.head
        if not self.log.is_mine:
            self.remote.lost([STREAM])

    def _notice(self) -> None:
        assert self.remote is not None
        self.notices = 0
        self.remote.notice([mark(STREAM)])

    def _found_gone(self, stream: str) -> None:
        self.told_gone = True
        self.hub.delete(stream)

    def _join(self) -> None:
        place = self.log.earliest - 1 + self.choose(self.log.head - self.log.earliest + 2)
        self.viewers.append(Viewer(self, place, self.shape))

    def _trim(self) -> None:
        self.trims -= 1
        self.log.earliest += 1 + self.choose(self.log.head - self.log.earliest + 1)

    def _delete(self) -> None:
        self.deletes = 0
        self.log.deleted = True

    def _tell_gone(self) -> None:
        self.told_gone = True
        self.hub.delete(STREAM)

    # -- the whole -------------------------------------------------------------------------

    async def run(self) -> None:
        """Until nothing can happen any more; then all is checked."""
        steps = 0
        while actions := self.actions():
            steps += 1
            assert steps < 2_000, "the readers never come to rest"
            actions[self.choose(len(actions))]()
            await settle()
            self._check_bounds()
        try:
            self._check()
        finally:
            for viewer in self.viewers:
                viewer.task.cancel()
            await asyncio.gather(*(viewer.task for viewer in self.viewers), return_exceptions=True)
            if self.remote is not None:
                await self.remote.close()
        assert not self.hub.busy, "a reader is left"

    def _check_bounds(self) -> None:
        for viewer in self.viewers:
            largest = 3 * BODY
            assert viewer.follower._pending_size <= self.shape.pending + largest

    def _check(self) -> None:
        for viewer in self.viewers:
            assert not (viewer.task.done() and viewer.ended is None), viewer.task
            wanted = [
                entry
                for entry in self.log.entries[viewer.after :]
                if not viewer.selecting or entry.kind == "app.yes"
            ]
            got = viewer.got
            if viewer.selecting and self.log.deleted:
                # Only what is left out on purpose tells a selection from a gap, so such a reader
                # may miss what was deleted before it was announced; it is told of the end anyway.
                wanted = [entry for entry in wanted if entry in got]
            assert [e.position for e in got] == [e.position for e in wanted[: len(got)]], "a gap"
            if viewer.ended is None:
                assert not self.log.deleted, "nobody told the reader"
                missing = len(wanted) - len(got)
                assert not missing, f"{missing} entries are missing"
                assert viewer.follower.attached
            elif viewer.ended.startswith("expired"):
                earliest = int(viewer.ended.split()[1])
                assert viewer.follower.position + 1 < earliest <= self.log.earliest
            else:
                assert self.log.deleted


async def settle() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


def play(
    choose: Choose,
    shape: Shape,
    hub: Hub | None = None,
    remote: type[RemoteStreams] = RemoteStreams,
) -> None:
    """One world from its beginning to its end."""

    async def whole() -> None:
        await World(choose, shape, hub, remote).run()

    before = topic_module.TAIL_ENTRIES
    topic_module.TAIL_ENTRIES = shape.tail
    try:
        asyncio.run(whole())
    finally:
        topic_module.TAIL_ENTRIES = before
