"""A cursor over one stream, and a subscription: a cursor with a range, an end and a sink.

Every transport reads through these: from replay to live in `Cursor`, to a client that reads at its
own pace in `Subscription`. A socket has its own kind of cursor, since one task drives many.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol, Self

from .. import metrics
from ..log.base import Entry, EventLog
from .filter import CompiledFilter
from .hub import BroadcastGroup, Hub, Sink

#: Entries pushed but not yet taken may hold this much; then the reader is behind and pulls.
PENDING_BYTES = 64 * 1024
PAGE_ENTRIES = 2_000
PAGE_BYTES = 256 * 1024
#: A compact reader's pages: large, so that a gap of 10,000 chunks becomes few messages. Each such
#: reader holds one page in memory.
COMPACT_ENTRIES = 20_000
COMPACT_BYTES = 1024 * 1024


class StreamGone(Exception):
    """The stream was deleted."""


class PlaceExpired(Exception):
    """Entries after the cursor's position were trimmed; `earliest` can still be read."""

    def __init__(self, earliest: int) -> None:
        super().__init__(f"the earliest position is {earliest}")
        self.earliest = earliest


class Caller(Protocol):
    """Who waits for what is read."""

    @property
    def here(self) -> bool:
        """False: it may have left, though it can still be answered."""
        ...


class Cursor(ABC):
    """One reader's place in a stream, and the handover from replay to live.

    `pull` until `attached`, then entries come through `push`, which a subclass fills; when it
    answers False the cursor is behind again and pulls on. Use as a context manager, by one task.
    `position` is the last entry given out; with a `selection`, the last one looked at.
    """

    def __init__(
        self,
        hub: Hub,
        log: EventLog,
        stream: str,
        after: int,
        *,
        selection: CompiledFilter | None = None,
        page_entries: int = PAGE_ENTRIES,
        page_bytes: int = PAGE_BYTES,
    ) -> None:
        self.position = after
        self.attached = False
        self.selection = selection
        self._hub = hub
        self._log = log
        self._stream = stream
        self._page_entries = page_entries
        self._page_bytes = page_bytes

    @property
    def here(self) -> bool:
        return True

    def __enter__(self) -> Self:
        self._hub.register(self._stream, self)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._hub.unregister(self._stream, self)

    @property
    def reached(self) -> int:
        """How far the reader has got, entries that its selection leaves out included."""
        if not self.attached:
            return self.position
        return max(self.position, self._hub.head(self._stream))

    def announced(self) -> int | None:
        """The position of the last entry that was announced; None if memory does not hold it."""
        return self._hub.head(self._stream) or None

    @abstractmethod
    def push(self, entries: Sequence[Entry]) -> bool:
        """Take live entries, or say False; see `Reader` and `accept`."""

    @abstractmethod
    def gone(self) -> None:
        """The stream was deleted."""

    def accept(self, entries: Sequence[Entry]) -> Sequence[Entry] | None:
        """What of pushed entries is new; None if some before them are missing, so that the
        reader must pull. Moves `position`."""
        if entries[0].position > self.position + 1 and self.selection is None:
            self.attached = False
            return None
        if entries[0].position <= self.position:
            entries = [entry for entry in entries if entry.position > self.position]
        if entries:
            self.position = entries[-1].position
        return entries

    async def pull(self) -> list[Entry]:
        """One step of the handover: what the reader has next, and attached if that is all.

        The reader is registered, so whatever is committed after the page was read either raises
        the topic's head before `attach` looks at it, or is pushed afterwards. Does not suspend
        when memory holds what the reader lacks. Raises PlaceExpired and the log's LogUnavailable.
        """
        found = self._hub.recent(self._stream, self.position, self._page_bytes)
        at_end = True  # of what is announced, which `attach` compares with the position
        if not found and self.announced() != self.position:
            page = await self._log.read(
                self._stream,
                self.position,
                limit=self._page_entries,
                max_bytes=self._page_bytes,
            )
            info = page.info
            if info is not None and self.position + 1 < info.earliest and info.head > self.position:
                raise PlaceExpired(info.earliest)
            found, at_end = page.entries, page.at_end
        if found:
            self.position = found[-1].position
        if at_end:
            self.attached = self._hub.attach(self._stream, self, self.selection)
            self._hub.learn(self._stream, found)
        return self._given(found)

    def _given(self, found: list[Entry]) -> list[Entry]:
        """Of a page, what the reader is to see."""
        picked = found if self.selection is None else self.selection.pick(found)
        if picked:
            metrics.replayed(self._stream, len(picked))
        return picked


class Subscription(Cursor):
    """Reads a stream from `after` on: every entry once, in order, without gaps; without end, unless
    a subclass says where it ends. Single use.

    `batches` is for a transport. With a sink it ends, `parked`, as soon as only live entries are
    left: the hub then writes them to the sink, and `batches` is called again when the sink wakes.
    `batch` is the part for a reader without a sink, inside the subscription as a context manager.
    """

    def __init__(
        self,
        hub: Hub,
        log: EventLog,
        stream: str,
        after: int,
        *,
        selection: CompiledFilter | None = None,
        pending_bytes: int = PENDING_BYTES,
        page_entries: int = PAGE_ENTRIES,
        page_bytes: int = PAGE_BYTES,
        caller: Caller | None = None,
    ) -> None:
        super().__init__(
            hub,
            log,
            stream,
            after,
            selection=selection,
            page_entries=page_entries,
            page_bytes=page_bytes,
        )
        self.caller = caller
        #: The last position that `batches` gives; None: it gives all that comes.
        self.end: int | None = None
        #: `batches` has ended without the subscription being over.
        self.parked = False
        #: The sinks that are written to together with this one while it is parked.
        self.group: BroadcastGroup | None = None
        self._entered = self._stopped = False
        self._bound = pending_bytes
        self._pending: list[Entry] = []
        self._pending_size = 0
        self._gone = False
        self._waiter: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        #: The sink to be woken; None while it is not parked.
        self._parked_sink: Sink | None = None

    @property
    def here(self) -> bool:
        return self.caller is None or self.caller.here

    # -- called by the hub -----------------------------------------------------------------

    def push(self, entries: Sequence[Entry]) -> bool:
        if self._pending_size > self._bound:
            self.attached = False
            return False
        accepted = self.accept(entries)
        if accepted is None:
            self._wake()
            return False
        if accepted:
            for entry in accepted:
                self._pending_size += len(entry.body)
            self._pending.extend(accepted)
            self._wake()
        return True

    def gone(self) -> None:
        self._hub.detach(self._stream, self)
        self._gone = True
        self.attached = False
        self._wake()

    def _wake(self) -> None:
        if self._parked_sink is not None:
            sink, self._parked_sink = self._parked_sink, None
            sink.wake()
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- called by the reader --------------------------------------------------------------

    def write_to(self, sink: Sink) -> None:
        """Park on this sink whenever only live entries are left."""
        self._sink = sink

    def park(self, sink: Sink | None = None) -> BroadcastGroup | None:
        """Write live entries to the sink from here on, without a task that waits in `batch`.

        The sink is woken once when it takes something no more, or when the stream is gone; then
        `batch` goes on. None if there is something to do right now, or the sink is not ready.
        """
        sink = sink or self._sink
        if sink is None or not self.attached or self._pending or self._gone or not sink.ready:
            return None
        group = self._hub.park(self._stream, self, sink, self.selection)
        if group is not None:
            self._parked_sink = sink
        return group

    def unpark(self) -> None:
        """The sink is full: wake it when something comes, instead of writing to it."""
        self._hub.unpark(self._stream, self)

    async def batch(self, timeout: float | None = None) -> list[Entry]:
        """The next entries, at least one; empty when `timeout` seconds passed without any.

        Raises StreamGone, PlaceExpired and the log's LogUnavailable.
        """
        while True:
            if self._pending:
                return self._take()
            if self._gone:
                raise StreamGone
            if not self.attached:
                found = await self.pull()
                if found:
                    return found
            elif not await self._wait(timeout):
                return []

    async def batches(self, silence: float) -> AsyncGenerator[Sequence[Entry], None]:
        """Entries in order, each once; an empty list after every `silence` seconds without any.

        Ends as the range says, when the stream is deleted, by `stop`, or `parked`. Does not
        suspend before it has given what memory holds. Raises `expired` when the reader is so slow
        that its place is trimmed, and the log's LogUnavailable.
        """
        self.parked = False
        try:
            if not self._entered:
                async for _ in self._begin(silence):
                    yield []
            while not self._stopped and not self._is_over():
                self.group = self.park()
                if self.group is not None:
                    self.parked = True
                    return
                entries = await self._next(silence)
                if entries is not None:
                    yield await self._shown(entries) if entries else entries
        except StreamGone:
            return
        except PlaceExpired as error:
            raise self.expired(error.earliest) from error
        finally:
            if not self.parked:
                self.close()

    async def _next(self, silence: float) -> list[Entry] | None:
        """The next entries; empty after `silence`; None if a step brought none, but no wait."""
        if self.attached or self._pending or self._gone:
            return await self.batch(silence)
        return await self.pull() or None

    def stop(self) -> None:
        """End `batches` now: the reader has left or must."""
        self._stopped = True
        self.gone()

    def close(self) -> None:
        """End, parked or not."""
        self._stopped = True
        self.__exit__()

    # -- the range -------------------------------------------------------------------------

    async def _begin(self, silence: float) -> AsyncGenerator[None, None]:
        """Register, once the place to start is known; yields after each `silence` before that."""
        self._entered = True
        self.__enter__()
        return
        yield

    def _is_over(self) -> bool:
        """Whether nothing is to be given any more."""
        return self.end is not None and not self._pending and self.reached >= self.end

    def expired(self, earliest: int) -> Exception:
        """The error for a place that was trimmed."""
        return PlaceExpired(earliest)

    async def _shown(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Of the next entries, those that the reader is to see; all within the range."""
        if self.end is not None and entries[-1].position > self.end:
            return [entry for entry in entries if entry.position <= self.end]
        return entries

    def _take(self) -> list[Entry]:
        taken, self._pending, self._pending_size = self._pending, [], 0
        return taken

    async def _wait(self, timeout: float | None) -> bool:
        """False after `timeout` seconds in which nothing was pushed."""
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        timer = None if timeout is None else loop.call_later(timeout, self._wake)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
        return bool(self._pending or self._gone or not self.attached)
