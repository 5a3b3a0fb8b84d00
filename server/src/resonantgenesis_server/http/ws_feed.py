"""A subscription of a socket: a cursor whose live entries go straight to its outgoing side."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence

from ..feed.follow import PAGE_BYTES, PAGE_ENTRIES, Cursor, PlaceExpired
from ..feed.hub import Batch, Hub
from ..feed.selection import Selection
from ..log.base import Entry, EventLog, LogError
from ..model.errors import ApiError, SessionNotFound, Unavailable
from .ws_writer import SocketWriter

#: Told when a subscription is over by itself, with the error the client is told, if any.
Ended = Callable[["Feed", ApiError | None], None]


class Feed(Cursor):
    """One subscription. It is registered by `start`; `close` ends it."""

    def __init__(
        self,
        writer: SocketWriter,
        ended: Ended,
        hub: Hub,
        log: EventLog,
        stream: str,
        after: int,
        *,
        selection: Selection | None = None,
        page_entries: int = PAGE_ENTRIES,
        page_bytes: int = PAGE_BYTES,
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
        self._writer = writer
        self._ended = ended
        self._pulling = False
        self._holds = 0
        self._closed = False
        self._left = False
        self._gone = False
        #: It has told everything it was asked for.
        self.over = False

    def start(self) -> None:
        self._hub.register(self._stream, self)
        self._writer.behind(self)

    def close(self) -> None:
        """Tell nothing more."""
        self._closed = True
        self.attached = False
        if not self._pulling:  # a pull may not find its stream unregistered
            self._leave()

    def hold(self) -> None:
        """Tell nothing until as many `release`."""
        self._holds += 1
        self._hub.detach(self._stream, self)
        self.attached = False

    def release(self) -> None:
        self._holds -= 1
        if not self._holds:
            self._writer.behind(self)

    # -- called by the hub -----------------------------------------------------------------

    def push(self, entries: Batch) -> bool:
        new = self._new(entries)
        if new is None or self._closed or self._holds or self._pulling or self.over:
            return self._refuse()
        if not new:
            return True
        shown, turned = self._cut(new)
        if shown:
            batch = new if len(shown) == len(new) else Batch(shown)
            if not self._writer.push(batch, self._form, self._encode):
                return self._refuse()
        self.position = new[-1].position
        if turned is not None:
            self._turn(turned, shown)
        if self.over:
            # What ends here is taken off the hub by the writer's task: a push must not do that.
            return self._refuse()
        if self._may_park():
            self._writer.behind(self)
        return True

    def _sink(self, batch: Batch) -> bool:
        """Live entries while the feed is parked: the same bytes for every socket of this form."""
        return self._writer.pour(batch, self._live_form, self._live)

    def _live(self, batch: Batch) -> Iterable[bytes]:
        """The messages of a live batch, for all who use this form; none if each feed must look
        at the batch itself."""
        return self._encode(batch)

    def gone(self) -> None:
        self._gone = True
        self._refuse()

    def _new(self, entries: Batch) -> Batch | None:
        """Those after the position; None if some between are missing."""
        first = entries[0].position
        if first == self.position + 1 or (first > self.position and self.selection is not None):
            return entries
        if first > self.position:
            return None
        return Batch(entry for entry in entries if entry.position > self.position)

    def _refuse(self) -> bool:
        self.attached = False
        if not self._closed and not self._pulling:
            self._writer.behind(self)
        return False

    # -- called by the writer --------------------------------------------------------------

    async def step(self) -> None:
        if self._closed or self._holds:
            return
        if self._gone or self.over:
            self._end(SessionNotFound("the session was deleted") if self._gone else None)
        elif self.attached:
            self._park()
        else:
            await self._read_on()

    async def _read_on(self) -> None:
        before = self.position
        try:
            found = await self._pull()
        except PlaceExpired as error:
            self._end(self._expired(error.earliest))
            return
        except LogError:
            self._end(Unavailable("the log cannot be read right now", retry_after=1))
            return
        if self._closed:
            return
        if self._holds:  # asked for while the page was read; it is read again
            self._hub.detach(self._stream, self)
            self.attached, self.position = False, before
            return
        self._give(found)
        if not self.attached or self.over or self._may_park():
            self._writer.behind(self)

    def _park(self) -> None:
        """From the writer's task, so that nothing waits to be sent before what is poured."""
        if self._may_park():
            self._hub.park(self._stream, self, self._sink, self.selection)

    def _may_park(self) -> bool:
        """Whether live entries are only to be passed on."""
        return self._writer.pours and not self._holds

    async def _pull(self) -> list[Entry]:
        self._pulling = True  # so that what is pushed meanwhile is refused, and read after it
        try:
            found = await self.pull()
            await self._catch_up(found)
            return found
        finally:
            self._pulling = False
            if self._closed:
                self._leave()

    def _give(self, found: Sequence[Entry]) -> None:
        shown, turned = self._cut(found)
        for message in self._encode(shown):
            self._writer.put(message)
        if turned is not None:
            self._turn(turned, shown)
        if self.over:
            self._hub.detach(self._stream, self)
            self.attached = False

    def _end(self, error: ApiError | None) -> None:
        self.close()
        self._ended(self, error)

    def _leave(self) -> None:
        if not self._left:
            self._left = True
            self._hub.unregister(self._stream, self)

    # -- what the kinds differ in ----------------------------------------------------------

    async def _catch_up(self, found: Sequence[Entry]) -> None:
        """Before entries are told that were read from the log."""

    @property
    @abstractmethod
    def _form(self) -> str:
        """The name under which what `_encode` makes of a batch is shared."""

    @property
    def _live_form(self) -> str:
        """The same for `_live`."""
        return self._form

    @abstractmethod
    def _encode(self, entries: Iterable[Entry]) -> Iterable[bytes]:
        """The messages that tell these entries."""

    @abstractmethod
    def _cut(self, entries: Sequence[Entry]) -> tuple[Sequence[Entry], int | None]:
        """Those that are to be told, and what is to be remembered (for `_turn`), if anything."""

    @abstractmethod
    def _turn(self, turned: int, shown: Sequence[Entry]) -> None:
        """The entries were taken: remember what `_cut` said."""

    @abstractmethod
    def _expired(self, earliest: int) -> ApiError:
        """What a client is told whose place was trimmed."""
