"""Subscriptions of a socket: event channels and session channels, and the table that holds them."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from ...codec.events import cursor_of
from ...codec.websocket import chunk_message, cursor_message, event_envelope, event_message
from ...events.service import EventService, events_expired
from ...feed.compact import compact
from ...feed.filter import CompiledFilter
from ...feed.hub import BroadcastGroup, Hub, Write
from ...feed.subscription import (
    COMPACT_PAGE,
    PAGE,
    Cursor,
    PageSize,
    PlaceExpired,
)
from ...log.base import Entry, EventLog, LogError
from ...model.errors import ApiError, SessionNotFound, Unavailable
from ...model.events import channel_of
from ...sessions.cache import SessionCache
from ...sessions.range import SessionRange, expired
from .writer import SocketEncoder, SocketWriter

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Change(Generic[S]):
    """A subscription that lost channels. `left`: those that it keeps; without any it is over."""

    subscription: S
    left: frozenset[str]


class ChannelTable(Generic[S]):
    """A channel belongs to one subscription at most; a subscription has one channel at least."""

    def __init__(self) -> None:
        self._holders: dict[str, S] = {}

    def __len__(self) -> int:
        """The number of subscriptions."""
        return len(self.subscriptions())

    def subscriptions(self) -> list[S]:
        """Each once."""
        return list({id(held): held for held in self._holders.values()}.values())

    def get(self, channel: str) -> S | None:
        return self._holders.get(channel)

    def channels_of(self, subscription: S) -> frozenset[str]:
        return frozenset(c for c, held in self._holders.items() if held is subscription)

    def size_with(self, channels: Iterable[str]) -> int:
        """The number of subscriptions after a `put` of a new one with these channels."""
        taken = frozenset(channels)
        return 1 + len({id(held) for c, held in self._holders.items() if c not in taken})

    def put(self, channels: Iterable[str], subscription: S) -> list[Change[S]]:
        """Give it these channels. Returns the subscriptions that lost them."""
        wanted = list(channels)
        changes = self.take(wanted)
        for channel in wanted:
            self._holders[channel] = subscription
        return changes

    def take(self, channels: Iterable[str]) -> list[Change[S]]:
        """Free these channels, held or not. Returns the subscriptions that lost them."""
        losers: dict[int, S] = {}
        for channel in channels:
            held = self._holders.pop(channel, None)
            if held is not None:
                losers[id(held)] = held
        return [Change(loser, self.channels_of(loser)) for loser in losers.values()]

    def remove(self, subscription: S) -> frozenset[str]:
        """Forget a subscription. Returns its channels."""
        channels = self.channels_of(subscription)
        for channel in channels:
            del self._holders[channel]
        return channels


#: Called when a subscription is over by itself; with the error for the client, if there is one.
Ended = Callable[["SocketSubscription", ApiError | None], None]


class SocketSubscription(Cursor):
    """A cursor of a socket; the socket's writer calls `step` in turn with the others.

    `start` registers it; `close` ends it.
    """

    def __init__(
        self,
        writer: SocketWriter,
        ended: Ended,
        hub: Hub,
        log: EventLog,
        stream: str,
        after: int,
        *,
        selection: CompiledFilter | None = None,
        page: PageSize = PAGE,
    ) -> None:
        super().__init__(hub, log, stream, after, selection=selection, page=page)
        self._writer = writer
        self._ended = ended
        self._pulling = False
        self._holds = 0
        self._closed = False
        self._left = False
        self._gone = False
        #: Its broadcast group while it is parked.
        self._group: BroadcastGroup | None = None
        #: The client has everything that it asked for.
        self.over = False

    def start(self) -> None:
        self._hub.register(self._stream, self)
        self._writer.behind(self)

    def close(self) -> None:
        """Send nothing more."""
        self._closed = True
        self.attached = False
        self._forget_group()
        if not self._pulling:  # a pull may not find its stream unregistered
            self._leave()

    def hold(self) -> None:
        """Send nothing until `release` was called as often as `hold`."""
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
        shown, turn = self._cut(new)
        if shown and not self._writer.push(shown, self.encoder.encode):
            return self._refuse()
        self.position = new[-1].position
        if turn is not None:
            self._turn_ended(turn, shown)
        if self.over:
            # The writer's task unregisters it. A push must not change the hub's readers.
            return self._refuse()
        if self._may_park():
            self._writer.behind(self)
        return True

    def aside(self, entry: Entry) -> None:
        self._writer.push([entry], self.encoder.encode)

    def fall_behind(self) -> None:
        self._refuse()

    def gone(self) -> None:
        self._gone = True
        self._refuse()

    def _new(self, entries: Sequence[Entry]) -> Sequence[Entry] | None:
        """The entries after the position; None if earlier ones are missing."""
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

    # -- a sink ----------------------------------------------------------------------------

    @property
    @abstractmethod
    def encoder(self) -> SocketEncoder:
        """The encoder of its entries."""

    @property
    def write(self) -> Write:
        return self._writer.write

    @property
    def ready(self) -> bool:
        return self._writer.is_direct and not self._holds

    def wake(self) -> None:
        """Nothing to do: the hub pushes to a subscription that is no longer parked."""

    # -- called by the writer --------------------------------------------------------------

    def unpark(self) -> None:
        """Take no direct writes from now on."""
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
        if self._holds:  # `hold` came while the page was read; `release` reads it again
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
        """Whether live entries need nothing but writing."""
        return self._writer.has_direct_writes and not self._holds and not self.over

    async def _pull(self) -> list[Entry]:
        self._pulling = True  # a push meanwhile is refused; the next pull reads its entries
        try:
            found = await self.pull()
            await self._catch_up(found)
            return found
        finally:
            self._pulling = False
            if self._closed:
                self._leave()

    def _give(self, found: Sequence[Entry]) -> None:
        shown, turn = self._cut(found)
        self._writer.queue(self.encoder.encode(shown))
        if turn is not None:
            self._turn_ended(turn, shown)
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

    # -- for subclasses --------------------------------------------------------------------

    async def _catch_up(self, found: Sequence[Entry]) -> None:
        """Called before entries that were read from the log are sent."""

    @abstractmethod
    def _cut(self, entries: Sequence[Entry]) -> tuple[Sequence[Entry], int | None]:
        """The visible entries, and the last turn that ended in them, for `_turn_ended`."""

    @abstractmethod
    def _turn_ended(self, turn: int, shown: Sequence[Entry]) -> None:
        """The client has the visible entries, in which this turn ended."""

    @abstractmethod
    def _expired(self, earliest: int) -> ApiError:
        """The error for a client whose position was trimmed."""


@dataclass(frozen=True, slots=True)
class SocketEventEncoder(SocketEncoder):
    """Events, flat or in envelopes."""

    epoch: str
    flat: bool

    def encode(self, entries: Sequence[Entry]) -> Iterable[bytes]:
        encode = event_message if self.flat else event_envelope
        return [encode(entry, self.epoch) for entry in entries]


@dataclass(frozen=True, slots=True)
class SocketChunkEncoder(SocketEncoder):
    """Chunks of a session; `ends`: with a `done` it may be over."""

    session_id: str
    compacted: bool
    ends: bool

    def encode(self, entries: Sequence[Entry]) -> Iterable[bytes]:
        shown = compact(entries) if self.compacted else entries
        return [chunk_message(entry, self.session_id) for entry in shown]

    def live(self, entries: Sequence[Entry]) -> bytes | None:
        if self.ends and any(entry.kind == "done" for entry in entries):
            return None
        return SocketEncoder.live(self, entries)


class SocketEvents(SocketSubscription):
    """Events of channels. `floors`: for each channel, the last position that was sent."""

    def __init__(
        self,
        writer: SocketWriter,
        ended: Ended,
        events: EventService,
        stream: str,
        after: int,
        *,
        asked: Mapping[str, Any],
        selection: CompiledFilter,
        form: Literal["flat", "envelope"],
        floors: Mapping[str, int],
    ) -> None:
        super().__init__(writer, ended, events.hub, events.log, stream, after, selection=selection)
        #: `events` and `filters` as they were asked for, to select anew when channels are lost.
        self.asked = asked
        self._events = events
        self._encoder = SocketEventEncoder(writer.window_bits, events.epoch, flat=form == "flat")
        self._floors = floors
        self._highest_floor = max(floors.values(), default=0)
        self._sent_at = asyncio.get_running_loop().time()
        #: Something was sent since `send_cursor` last looked.
        self._sent = False
        self._broadcasts = 0

    @property
    def encoder(self) -> SocketEventEncoder:
        return self._encoder

    def narrow(self, selection: CompiledFilter) -> None:
        """Go on with another selection, from the same position."""
        self.position = self.reached
        self._forget_group()
        self._hub.detach(self._stream, self)
        self.attached = False
        self.selection = selection
        self._writer.behind(self)

    def send_cursor(self, now: float, quiet: float, channels: Sequence[str]) -> None:
        """Send the cursor after `quiet` seconds without an event."""
        broadcasts = 0 if self._group is None else self._group.broadcasts
        if self._sent or broadcasts != self._broadcasts:
            self._sent, self._broadcasts, self._sent_at = False, broadcasts, now
        if now - self._sent_at >= quiet and not self._closed:
            self._sent_at = now
            cursor = cursor_of(self._events.epoch, self.reached)
            self._writer.put(cursor_message(channels, cursor))

    def push(self, entries: Sequence[Entry]) -> bool:
        self._sent = True
        return super().push(entries)

    def _give(self, found: Sequence[Entry]) -> None:
        if found:
            self._sent_at = asyncio.get_running_loop().time()
        super()._give(found)

    def _may_park(self) -> bool:
        return super()._may_park() and self.position >= self._highest_floor

    def _cut(self, entries: Sequence[Entry]) -> tuple[Sequence[Entry], int | None]:
        if not entries or entries[0].position > self._highest_floor:
            return entries, None
        return [entry for entry in entries if self._is_new(entry)], None

    def _is_new(self, entry: Entry) -> bool:
        return entry.position > self._floors.get(channel_of(entry.kind) or "", 0)

    def _turn_ended(self, turn: int, shown: Sequence[Entry]) -> None:
        """Nothing to do: events have no turns."""

    def _expired(self, earliest: int) -> ApiError:
        return events_expired(earliest, self._log.epoch)


class SocketChunks(SocketSubscription):
    """A session's chunks. `until`: the turn whose `done` ends it; None: it has no end. `skip`:
    nothing is sent before this turn has ended; 0: everything is sent."""

    def __init__(
        self,
        writer: SocketWriter,
        ended: Ended,
        sessions: SessionCache,
        session_id: str,
        after: int,
        *,
        until: int | None = None,
        skip: int = 0,
        compacted: bool = False,
    ) -> None:
        super().__init__(
            writer,
            ended,
            sessions.hub,
            sessions.log,
            session_id,
            after,
            page=COMPACT_PAGE if compacted else PAGE,
        )
        self.session_id = session_id
        self.range = SessionRange(until, follow=until is None, skip=skip)
        self._sessions = sessions
        self._compacted = compacted

    @property
    def encoder(self) -> SocketChunkEncoder:
        return SocketChunkEncoder(
            self._writer.window_bits,
            self.session_id,
            compacted=self._compacted,
            ends=not self.range.follow,
        )

    def extend(self, turn: int) -> None:
        """Move the end to this turn's `done`, if that is later."""
        if self.range.extend(turn):
            self.over = False
            if not self.attached:
                self._writer.behind(self)

    def aside(self, entry: Entry) -> None:
        if not self.range.skip:
            super().aside(entry)

    async def _catch_up(self, found: Sequence[Entry]) -> None:
        await self._sessions.keep_up(self.session_id, found)

    def _may_park(self) -> bool:
        return super()._may_park() and not self.range.skip

    def _cut(self, entries: Sequence[Entry]) -> tuple[Sequence[Entry], int | None]:
        return self.range.cut(entries)

    def _turn_ended(self, turn: int, shown: Sequence[Entry]) -> None:
        self.range.advance(turn)
        self.over = self.range.over
        if self.over and shown:
            # Later entries were not sent. They will be if the subscription is extended.
            self.position = shown[-1].position

    def _expired(self, earliest: int) -> ApiError:
        return expired(earliest, self._log.epoch)
