"""A cursor over one stream: replay what is there, then follow what comes."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol, Self

from .. import observe
from ..log.base import Entry, EventLog
from .filter import CompiledFilter
from .hub import BroadcastGroup, Hub, Sink

#: Entries pushed but not yet taken may hold this much; then the reader is behind and pulls.
PENDING_BYTES = 64 * 1024
PAGE_ENTRIES = 2_000
PAGE_BYTES = 256 * 1024


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
        the topic's head before `attach` looks at it, or is pushed afterwards. Raises
        PlaceExpired and the log's LogUnavailable.
        """
        found = self._hub.recent(self._stream, self.position, self._page_bytes)
        at_end = True  # of what is announced, which `attach` compares with the position
        if not found:
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

    def pull_recent(self, head: int | None) -> list[Entry] | None:
        """All of `pull` at once, if all up to `head`, the last position that was announced, is in
        memory: the reader is attached then. None: the log must be asked, and nothing has
        happened."""
        found: list[Entry] = []
        if head is None:
            return None
        if self.position < head:
            found = self._hub.recent(self._stream, self.position, PENDING_BYTES)
        last = found[-1].position if found else self.position
        if last != head:
            return None
        self.position = last
        self.attached = self._hub.attach(self._stream, self, self.selection)
        return self._given(found)

    def _given(self, found: list[Entry]) -> list[Entry]:
        """Of a page, what the reader is to see."""
        picked = found if self.selection is None else self.selection.pick(found)
        if picked:
            observe.replayed(self._stream, len(picked))
        return picked


class Follower(Cursor):
    """Reads a stream from `after` on, without end: every entry once, in order, without gaps."""

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
        self._caller = caller
        self._bound = pending_bytes
        self._pending: list[Entry] = []
        self._pending_size = 0
        self._gone = False
        self._waiter: asyncio.Future[None] | None = None
        self._sink: Sink | None = None

    @property
    def here(self) -> bool:
        return self._caller is None or self._caller.here

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
        if self._sink is not None:
            sink, self._sink = self._sink, None
            sink.wake()
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- called by the reader --------------------------------------------------------------

    def park(self, sink: Sink) -> BroadcastGroup | None:
        """Do without a task that waits in `batch`: what comes is written to the sink, whose
        `wake` is called once when it takes something no more, or the stream is gone; then `batch`
        goes on. None if there is something to do right now, or the sink is not ready."""
        if not self.attached or self._pending or self._gone or not sink.ready:
            return None
        group = self._hub.park(self._stream, self, sink, self.selection)
        if group is not None:
            self._sink = sink
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


class Parking:
    """A view's follower, and the sink that takes what comes when the view has nothing else to
    do. Views have `batches` besides, which makes the follower and ends when the view is parked, to
    be called again when the sink is woken."""

    def __init__(self) -> None:
        self._follower: Follower | None = None
        self._sink: Sink | None = None
        self._stopped = False
        #: `batches` has ended without the view being over: it goes on when the sink is woken.
        self.parked = False
        #: With whom it is written to while it is parked.
        self.group: BroadcastGroup | None = None

    def write_to(self, sink: Sink) -> None:
        """Write what comes to the sink; once it has nothing else to tell, `batches` ends,
        `parked`, and is to be called again when the sink is woken."""
        self._sink = sink

    def park(self) -> bool:
        """Write what comes to the sink from here on. False: `batches` has something to do."""
        if self._sink is not None and self._follower is not None:
            self.group = self._follower.park(self._sink)
            self.parked = self.group is not None
        return self.parked

    def unpark(self) -> None:
        """The sink is full."""
        if self._follower is not None:
            self._follower.unpark()

    def close(self) -> None:
        """The reader has left a view that is parked."""
        self._stopped = True
        if self._follower is not None:
            self._follower.__exit__()
            self._follower = None

    def stop(self) -> None:
        """End `batches` now; the reader has left or must."""
        self._stopped = True
        if self._follower is not None:
            self._follower.gone()
