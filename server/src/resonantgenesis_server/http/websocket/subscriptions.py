"""A subscription of a socket: a cursor whose live entries go straight to its outgoing side."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

from ...feed.filter import Selection
from ...feed.hub import Group, Hub, Write
from ...feed.subscription import PAGE_BYTES, PAGE_ENTRIES, Cursor, PlaceExpired
from ...log.base import Entry, EventLog, LogError
from ...model.errors import ApiError, SessionNotFound, Unavailable
from .writer import SocketForm, SocketWriter

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
        #: With whom it is written to while it is parked.
        self._group: Group | None = None
        #: It has told everything it was asked for.
        self.over = False

    def start(self) -> None:
        self._hub.register(self._stream, self)
        self._writer.behind(self)

    def close(self) -> None:
        """Tell nothing more."""
        self._closed = True
        self.attached = False
        self._forget_group()
        if not self._pulling:  # a pull may not find its stream unregistered
            self._leave()

    def hold(self) -> None:
        """Tell nothing until as many `release`."""
        self._holds += 1
        self._forget_group()
        self._hub.detach(self._stream, self)
        self.attached = False

    def release(self) -> None:
        self._holds -= 1
        if not self._holds:
            self._writer.behind(self)

    # -- called by the hub -----------------------------------------------------------------

    def push(self, entries: Sequence[Entry]) -> bool:
        new = self._new(entries)
        if new is None or self._closed or self._holds or self._pulling or self.over:
            return self._refuse()
        if not new:
            return True
        shown, turned = self._cut(new)
        if shown and not self._writer.push(shown, self.form.encode):
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

    def gone(self) -> None:
        self._gone = True
        self._refuse()

    def _new(self, entries: Sequence[Entry]) -> Sequence[Entry] | None:
        """Those after the position; None if some between are missing."""
        first = entries[0].position
        if first == self.position + 1 or (first > self.position and self.selection is not None):
            return entries
        if first > self.position:
            return None
        return [entry for entry in entries if entry.position > self.position]

    def _refuse(self) -> bool:
        self.attached = False
        if not self._closed and not self._pulling:
            self._writer.behind(self)
        return False

    # -- an outlet ---------------------------------------------------------------------------

    @property
    @abstractmethod
    def form(self) -> SocketForm:
        """How its entries look on the wire."""

    @property
    def write(self) -> Write:
        return self._writer.write

    @property
    def ready(self) -> bool:
        return self._writer.pours and not self._holds

    def wake(self) -> None:
        """The hub pushes to a feed that is parked no more, which is all it needs."""

    # -- called by the writer --------------------------------------------------------------

    def unpark(self) -> None:
        """Nothing may be written past the writer now."""
        self._forget_group()
        self._hub.unpark(self._stream, self)

    def _forget_group(self) -> None:
        self._group = None
        self._writer.unparked(self)

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
        if self.ready and self._may_park():
            self._group = self._hub.park(self._stream, self, self, self.selection)
            if self._group is not None:
                self._writer.parked(self)

    def _may_park(self) -> bool:
        """Whether live entries are only to be passed on."""
        return self._writer.can_pour and not self._holds and not self.over

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
        self._writer.queue(self.form.encode(shown))
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

    @abstractmethod
    def _cut(self, entries: Sequence[Entry]) -> tuple[Sequence[Entry], int | None]:
        """Those that are to be told, and what is to be remembered (for `_turn`), if anything."""

    @abstractmethod
    def _turn(self, turned: int, shown: Sequence[Entry]) -> None:
        """The entries were taken: remember what `_cut` said."""

    @abstractmethod
    def _expired(self, earliest: int) -> ApiError:
        """What a client is told whose place was trimmed."""
