"""The two kinds of subscription: events of channels, and the chunks of a session."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ...codec.events import cursor_of
from ...codec.json import loads
from ...codec.websocket import chunk_message, cursor_message, event_envelope, event_message
from ...events.service import EventService
from ...feed.compact import compact
from ...feed.filter import Selection
from ...feed.subscription import PAGE_BYTES, PAGE_ENTRIES
from ...log.base import Entry
from ...model.errors import ApiError
from ...model.events import channel_of
from ...sessions.cache import take_in
from ...sessions.range import expired
from ...sessions.supervisor import Supervisor
from .subscriptions import Ended, Feed
from .writer import SocketForm, SocketWriter

#: A compact reader's pages: large, so that a long gap becomes few messages.
_COMPACT_ENTRIES, _COMPACT_BYTES = 20_000, 1 << 20


@dataclass(frozen=True, slots=True)
class EventForm(SocketForm):
    """Events, flat or in envelopes."""

    epoch: str
    flat: bool

    def encode(self, entries: Sequence[Entry]) -> Iterable[bytes]:
        encode = event_message if self.flat else event_envelope
        return [encode(entry, self.epoch) for entry in entries]


@dataclass(frozen=True, slots=True)
class ChunkForm(SocketForm):
    """Chunks of a session; `ends`: with a `done` it may be over."""

    session_id: str
    compacted: bool
    ends: bool

    def encode(self, entries: Sequence[Entry]) -> Iterable[bytes]:
        shown = compact(entries) if self.compacted else entries
        return [chunk_message(entry, self.session_id) for entry in shown]

    def live(self, entries: Sequence[Entry]) -> bytes:
        if self.ends and any(entry.kind == "done" for entry in entries):
            return b""
        return SocketForm.live(self, entries)


class EventFeed(Feed):
    """Events of channels. `floors`: for each channel, what was told of it before."""

    def __init__(
        self,
        writer: SocketWriter,
        ended: Ended,
        events: EventService,
        stream: str,
        after: int,
        *,
        asked: Mapping[str, Any],
        selection: Selection,
        form: Literal["flat", "envelope"],
        floors: Mapping[str, int],
    ) -> None:
        super().__init__(writer, ended, events.hub, events.log, stream, after, selection=selection)
        #: `events` and `filters` as they were asked for, to select anew when channels are lost.
        self.asked = asked
        self._events = events
        self._form = EventForm(writer.window_bits, events.epoch, flat=form == "flat")
        self._floors = floors
        self._highest_floor = max(floors.values(), default=0)
        self._told_at = asyncio.get_running_loop().time()
        #: Something was told since it was last asked whether the feed is quiet.
        self._told = False
        self._poured = 0

    @property
    def form(self) -> EventForm:
        return self._form

    def narrow(self, selection: Selection) -> None:
        """Go on with another selection from where this one has got."""
        self.position = self.reached
        self._forget_group()
        self._hub.detach(self._stream, self)
        self.attached = False
        self.selection = selection
        self._writer.behind(self)

    def tell_cursor(self, now: float, quiet: float, channels: Sequence[str]) -> None:
        """After so many seconds without an event, how far the subscription has got."""
        poured = 0 if self._group is None else self._group.poured
        if self._told or poured != self._poured:
            self._told, self._poured, self._told_at = False, poured, now
        if now - self._told_at >= quiet and not self._closed:
            self._told_at = now
            cursor = cursor_of(self._events.epoch, self.reached)
            self._writer.put(cursor_message(channels, cursor))

    def push(self, entries: Sequence[Entry]) -> bool:
        self._told = True
        return super().push(entries)

    def _give(self, found: Sequence[Entry]) -> None:
        if found:
            self._told_at = asyncio.get_running_loop().time()
        super()._give(found)

    def _may_park(self) -> bool:
        return super()._may_park() and self.position >= self._highest_floor

    def _cut(self, entries: Sequence[Entry]) -> tuple[Sequence[Entry], int | None]:
        if not entries or entries[0].position > self._highest_floor:
            return entries, None
        return [entry for entry in entries if self._is_new(entry)], None

    def _is_new(self, entry: Entry) -> bool:
        return entry.position > self._floors.get(channel_of(entry.kind) or "", 0)

    def _turn(self, turned: int, shown: Sequence[Entry]) -> None:
        """Nothing changes in an event feed."""

    def _expired(self, earliest: int) -> ApiError:
        return self._events.expired(earliest)


class ChunkFeed(Feed):
    """A session's chunks. `until`: it is over with this turn's `done`; None: it stays.
    `skip`: nothing is told before this turn has ended; 0: everything is."""

    def __init__(
        self,
        writer: SocketWriter,
        ended: Ended,
        supervisor: Supervisor,
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
            supervisor.hub,
            supervisor.log,
            session_id,
            after,
            page_entries=_COMPACT_ENTRIES if compacted else PAGE_ENTRIES,
            page_bytes=_COMPACT_BYTES if compacted else PAGE_BYTES,
        )
        self.session_id = session_id
        self.until = until
        self.skip = skip
        self._states = supervisor.states
        self._compacted = compacted

    @property
    def form(self) -> ChunkForm:
        return ChunkForm(
            self._writer.window_bits,
            self.session_id,
            compacted=self._compacted,
            ends=self.until is not None,
        )

    def extend(self, turn: int) -> None:
        """Stay for this turn as well."""
        if self.until is not None and turn > self.until:
            self.until, self.over = turn, False
            if not self.attached:
                self._writer.behind(self)

    async def _catch_up(self, found: Sequence[Entry]) -> None:
        """Entries that were read can be ahead of their announcement: whoever has seen a `done`
        must find the turn ended, whatever it asks next."""
        ends = [entry.position for entry in found if entry.kind == "done"]
        if not ends:
            return
        state = await self._states.load(self.session_id)
        if state is not None and ends[-1] > state.end:
            await take_in(self._log, self.session_id, state)

    def _may_park(self) -> bool:
        return super()._may_park() and not self.skip

    def _cut(self, entries: Sequence[Entry]) -> tuple[Sequence[Entry], int | None]:
        if not self.skip and self.until is None:
            return entries, None
        shown: list[Entry] = []
        turned: int | None = None
        skip = self.skip
        for entry in entries:
            if not skip:
                shown.append(entry)
            if entry.kind != "done":
                continue
            turned = int(loads(entry.body)["turn"])
            if turned >= skip:
                skip = 0
            if self.until is not None and turned >= self.until:
                break
        return shown, turned

    def _turn(self, turned: int, shown: Sequence[Entry]) -> None:
        if turned >= self.skip:
            self.skip = 0
        self.over = self.until is not None and turned >= self.until
        if self.over and shown:
            # What follows was not told, but will be if the feed is extended.
            self.position = shown[-1].position

    def _expired(self, earliest: int) -> ApiError:
        return expired(earliest, self._log.epoch)
