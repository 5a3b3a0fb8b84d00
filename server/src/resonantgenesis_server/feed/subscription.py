"""A cursor over one stream, and a subscription: a cursor with a range, an end and a sink.

Every transport reads through these. `Cursor` is the handover from replay to live. `Subscription`
adds a client that reads at its own pace. A socket has its own cursor, since one task drives many.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple, Protocol, Self

from .. import metrics
from ..log.base import Entry, EventLog
from .filter import CompiledFilter
from .hub import BroadcastGroup, Hub, Sink

#: Bytes of entries that were pushed and not taken yet. Beyond, the reader is behind and pulls.
PENDING_BYTES = 64 * 1024


class PageSize(NamedTuple):
    """Bounds of one read of the log: a number of entries, and bytes of their bodies."""

    entries: int
    bytes: int


PAGE = PageSize(2_000, 256 * 1024)
#: For compact readers: large, so that a gap of 10,000 chunks becomes few messages. Each such reader
#: holds one page in memory.
COMPACT_PAGE = PageSize(20_000, 1024 * 1024)


class StreamGone(Exception):
    """The stream was deleted."""


class PlaceExpired(Exception):
    """Entries after the cursor's position were trimmed; `earliest` can still be read."""

    def __init__(self, earliest: int) -> None:
        super().__init__(f"the earliest position is {earliest}")
        self.earliest = earliest


class Caller(Protocol):
    """The client that waits for the entries."""

    @property
    def here(self) -> bool:
        """False if the client may have left. It can still be answered."""
        ...


class Cursor(ABC):
    """One reader's place in a stream, and the handover from replay to live.

    Call `pull` until `attached`; then entries come through `push`, which a subclass implements.
    When `push` returns False, the cursor is behind again and pulls on. Use it as a context manager,
    in one task. `position` is the last entry given out; with a `selection`, the last one read.
    """

    def __init__(
        self,
        hub: Hub,
        log: EventLog,
        stream: str,
        after: int,
        *,
        selection: CompiledFilter | None = None,
        page: PageSize = PAGE,
    ) -> None:
        self.position = after
        self.attached = False
        self.selection = selection
        self._hub = hub
        self._log = log
        self._stream = stream
        self._page = page

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
        """The last position that the reader has passed, with entries that its selection skips."""
        if not self.attached:
            return self.position
        return max(self.position, self._hub.head(self._stream))

    def announced(self) -> int | None:
        """The position of the last announced entry; None if memory does not hold it."""
        return self._hub.head(self._stream) or None

    @abstractmethod
    def push(self, entries: Sequence[Entry]) -> bool:
        """Take live entries, or return False; see `Reader` and `accept`."""

    @abstractmethod
    def aside(self, entry: Entry) -> None:
        """Take an entry that is not in the log, or leave it; see `Reader`."""

    @abstractmethod
    def fall_behind(self) -> None:
        """Pull again; see `Reader`."""

    @abstractmethod
    def gone(self) -> None:
        """The stream was deleted."""

    def accept(self, entries: Sequence[Entry]) -> Sequence[Entry] | None:
        """Return the new ones of pushed entries, and move `position`.

        None if entries before them are missing: the reader must pull.
        """
        if entries[0].position > self.position + 1 and self.selection is None:
            self.attached = False
            return None
        if entries[0].position <= self.position:
            entries = [entry for entry in entries if entry.position > self.position]
        if entries:
            self.position = entries[-1].position
        return entries

    async def pull(self) -> list[Entry]:
        """One step of the handover: read the next page, and attach if it is the last one.

        The reader is registered. So an entry that is committed after the page was read either
        raises the topic's head before `attach` compares it, or is pushed afterwards. Does not
        suspend if memory holds the missing entries. Raises PlaceExpired, and LogUnavailable of the
        log.
        """
        found = self._hub.recent(self._stream, self.position, self._page.bytes)
        at_end = True  # of the announced entries; `attach` compares their head with the position
        read: list[Entry] = []  # from the log, not from memory
        if not found and self.announced() != self.position:
            page = await self._log.read(
                self._stream,
                self.position,
                limit=self._page.entries,
                max_bytes=self._page.bytes,
            )
            info = page.info
            if info is not None and self.position + 1 < info.earliest and info.head > self.position:
                raise PlaceExpired(info.earliest)
            found = read = page.entries
            at_end = page.at_end
        if found:
            self.position = found[-1].position
        if at_end:
            self.attached = self._hub.attach(self._stream, self, self.selection)
            self._hub.learn(self._stream, read)
        return self._given(found)

    def _given(self, found: list[Entry]) -> list[Entry]:
        """The entries of a page that the selection picks."""
        picked = found if self.selection is None else self.selection.pick(found)
        if picked:
            metrics.replayed(self._stream, len(picked))
        return picked


class Subscription(Cursor):
    """Reads a stream from `after` on: every entry once, in order, without gaps. Single use.

    It has no end unless a subclass says where. A transport iterates `batches`. With a sink,
    `batches` ends with `parked = True` as soon as only live entries are left: the hub then writes
    them to the sink. Call `batches` again when the sink wakes. A reader without a sink calls
    `batch`, with the subscription as a context manager.
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
        page: PageSize = PAGE,
        caller: Caller | None = None,
    ) -> None:
        super().__init__(hub, log, stream, after, selection=selection, page=page)
        self.caller = caller
        #: The last position that `batches` yields; None: there is no end.
        self.end: int | None = None
        #: The client is shown entries that are not in the log.
        self.shows_asides = False
        #: `batches` has ended without the subscription being over.
        self.parked = False
        #: The group in which the sink is while it is parked.
        self.group: BroadcastGroup | None = None
        self._entered = self._stopped = False
        self._bound = pending_bytes
        # A quiet reader, of which there are many, has no lists.
        self._pending: list[Entry] | None = None
        self._pending_size = 0
        #: Entries that are not in the log, if the client is shown such.
        self._asides: list[Entry] | None = None
        self._gone = False
        self._waiter: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        #: The sink to wake; None while it is not parked.
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
            self._pending = self._pending or []
            self._pending.extend(accepted)
            self._wake()
        return True

    def aside(self, entry: Entry) -> None:
        if not self.shows_asides or self._pending_size > self._bound:
            return
        self._pending_size += len(entry.body)
        self._asides = self._asides or []
        self._asides.append(entry)
        self._wake()

    def fall_behind(self) -> None:
        self.attached = False
        self._wake()

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
        """Use this sink whenever only live entries are left."""
        self._sink = sink

    def park(self, sink: Sink | None = None) -> BroadcastGroup | None:
        """Let the hub write live entries to the sink, without a task that waits in `batch`.

        The hub wakes the sink once: when it takes no more, or when the stream is gone. Then call
        `batch` again. Returns None if there is something to do now, or the sink is not ready.
        """
        sink = sink or self._sink
        if sink is None or not sink.ready or not self._waits_for_live():
            return None
        group = self._hub.park(self._stream, self, sink, self.selection)
        if group is not None:
            self._parked_sink = sink
        return group

    def _waits_for_live(self) -> bool:
        return self.attached and not (self._pending or self._asides or self._gone)

    def unpark(self) -> None:
        """The sink is full: wake it for the next entry instead of writing to it."""
        self._hub.unpark(self._stream, self)

    async def batch(self, timeout: float | None = None) -> list[Entry]:
        """The next entries, at least one. Empty after `timeout` seconds without an entry.

        Raises StreamGone, PlaceExpired, and LogUnavailable of the log.
        """
        while True:
            if self._pending or self._asides:
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
        """Entries in order, each once; an empty list after every `silence` seconds without one.

        Ends at the end of the range, when the stream is deleted, after `stop`, or `parked`. Does
        not suspend before it has yielded the entries in memory. Raises the error of `expired` if a
        slow reader's position was trimmed, and LogUnavailable of the log.
        """
        try:
            while (entries := await self.advance(silence)) is not None:
                yield entries
        finally:
            if not self.parked:
                self.close()

    async def advance(self, silence: float) -> Sequence[Entry] | None:
        """One step of `batches`; None at its end. A caller then closes what is not parked."""
        self.group, self.parked = None, False
        try:
            if not self._entered and not await self._begin(silence):
                return []
            while not self._stopped and not self._is_over():
                if not (self.attached or self._pending or self._asides or self._gone):
                    entries = await self.pull()
                elif (group := self.park()) is not None:
                    self.group, self.parked = group, True
                    return None
                elif not (entries := await self.batch(silence)):
                    return entries
                if entries and (shown := await self._shown(entries)):
                    return shown
        except StreamGone:
            return None
        except PlaceExpired as error:
            raise self.expired(error.earliest) from error
        return None

    def stop(self) -> None:
        """End `batches` now: the reader has left, or must leave."""
        self._stopped = True
        self.gone()

    def close(self) -> None:
        """End the subscription, parked or not."""
        self._stopped = True
        self.__exit__()

    # -- the range -------------------------------------------------------------------------

    async def _begin(self, silence: float) -> bool:
        """Register at the first position. False: it is not known after `silence`."""
        self._entered = True
        self.__enter__()
        return True

    def _is_over(self) -> bool:
        """Whether the range is at its end."""
        return self.end is not None and not self._pending and self.reached >= self.end

    def expired(self, earliest: int) -> Exception:
        """The error for a position that was trimmed."""
        return PlaceExpired(earliest)

    async def _shown(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """The entries within the range."""
        if self.end is not None and entries[-1].position > self.end:
            return [entry for entry in entries if entry.position <= self.end]
        return entries

    def _take(self) -> list[Entry]:
        """What was pushed; what is not in the log by itself, behind it."""
        taken = self._pending or self._asides or []
        if self._pending:
            self._pending = None
        else:
            self._asides = None
        self._pending_size = 0
        return taken

    async def _wait(self, timeout: float | None) -> bool:
        """Wait for a push. Returns False after `timeout` seconds without one."""
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        timer = None if timeout is None else loop.call_later(timeout, self._wake)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
        return not self._waits_for_live()
