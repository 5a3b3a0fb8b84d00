"""What other nodes commit, brought to the readers of this one.

A node announces its own commits itself. A stream that another node owns is *followed*: one task
reads, in one query for all followed streams, what was committed after the last entry that this
node's readers have, and announces it to them. So a node reads each entry once, whatever the number
of its readers, and readers do not know who wrote what they read. Each of several databases of one
store has a task and a query of its own: one that is away delays no others' readers.

A notice from the other node says that there is something to read. A lost notice delays by at most
`POLL_SECONDS` and loses nothing, because the position decides what is read, and not the notice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import islice

import structlog

from .. import metrics
from ..background import Background, Backoff
from ..log.base import Entry, LogError, Page, mark
from ..log.shared import FollowedLog
from .hub import Hub

log_ = structlog.get_logger("resonantgenesis.feed")

#: Every followed stream is read at least this often, in seconds, whatever notices say.
POLL_SECONDS = 1.0
#: While no notices arrive: as often as this, which is then a viewer's delay.
BLIND_POLL_SECONDS = 0.025
#: In one read: streams, and of each stream entries and bytes.
PAGE_STREAMS, PAGE_ENTRIES, PAGE_BYTES = 256, 500, 128 * 1024


class _Followed:
    """A stream of another node; the entries up to `position` were announced here."""

    __slots__ = ("due", "own", "position")

    def __init__(self, position: int) -> None:
        self.position = position
        #: It may hold more than was read.
        self.due = True
        #: The last position that this node has written itself meanwhile; 0: none.
        self.own = 0


class RemoteStreams:
    """Streams of other nodes, followed for the hub. One task, from `start` to `close`."""

    def __init__(self, log: FollowedLog, hub: Hub, gone: Callable[[str], None]) -> None:
        """`gone` is called with a stream that was found deleted."""
        self._log = log
        self._hub = hub
        self._gone = gone
        self._followed: dict[str, _Followed] = {}
        #: Names of followed streams by what a notice says of them.
        self._names: dict[int, set[str]] = {}
        self._loop = Background("remote streams", self._run)
        log.on_lost = self.lost
        log.on_notice = self.notice

    # -- called by the hub -----------------------------------------------------------------

    def follow(self, stream: str, after: int) -> None:
        """Announce what is committed after this position; harmless when that is done already."""
        if stream in self._followed:
            return
        owned = self._log.owned_from(stream)
        if owned is not None and owned <= after:
            return
        self._followed[stream] = _Followed(after)
        self._names.setdefault(mark(stream), set()).add(stream)
        self._loop.wake()

    def unfollow(self, stream: str) -> bool:
        """Nobody reads the stream here any more. Whether it was followed: then what the hub
        remembers of it grows old."""
        if self._followed.pop(stream, None) is None:
            return False
        names = self._names[mark(stream)]
        names.discard(stream)
        if not names:
            del self._names[mark(stream)]
        return True

    # -- called by the log -----------------------------------------------------------------

    def committed(self, stream: str, entries: Sequence[Entry]) -> None:
        """This node has committed these. A stream that was followed until now is read up to them
        first, so that readers get what the other node wrote before."""
        followed = self._followed.get(stream)
        if followed is None:
            self._hub.publish(stream, entries)
            return
        followed.own = entries[-1].position
        followed.due = True
        self._loop.wake()

    def lost(self, streams: Sequence[str]) -> None:
        """Other nodes have taken these streams from this one."""
        for stream in streams:
            position = self._hub.given(stream)
            if position is not None:
                self.follow(stream, position)

    def notice(self, marks: Sequence[int] | None) -> None:
        """Another node has committed to streams with these marks; None: to any."""
        if marks is None:
            for followed in self._followed.values():
                followed.due = True
            self._loop.wake()
            return
        for each in marks:
            for stream in self._names.get(each, ()):
                self._followed[stream].due = True
                self._loop.wake()

    # -- running ---------------------------------------------------------------------------

    def start(self) -> None:
        self._loop.start()

    async def close(self) -> None:
        await self._loop.close()

    @property
    def count(self) -> int:
        """How many streams are followed."""
        return len(self._followed)

    async def _run(self) -> None:
        backoff = Backoff(BLIND_POLL_SECONDS, POLL_SECONDS)
        while True:
            try:
                if not await self._read_due():
                    await self._pause()
                backoff.succeeded()
            except Exception as error:
                if not isinstance(error, LogError) or error.is_defect:
                    metrics.defect("other")
                    log_.error("other nodes' streams could not be read", exc_info=error)
                self.notice(None)
                await asyncio.sleep(backoff.failed())

    async def _pause(self) -> None:
        """Until a notice comes; without one, until everything is due again."""
        seconds = (
            POLL_SECONDS if self._log.gets_notices or not self._followed else BLIND_POLL_SECONDS
        )
        if not await self._loop.woken(seconds):
            self.notice(None)

    async def _read_due(self) -> bool:
        """One read of what is due; whether anything was."""
        everything = ((name, f.position) for name, f in self._followed.items() if f.due)
        due = dict(islice(everything, PAGE_STREAMS))
        if not due:
            return False
        for name in due:
            self._followed[name].due = False
        pages = await self._log.read_placed(due, limit=PAGE_ENTRIES, max_bytes=PAGE_BYTES)
        for name, page in pages.items():
            followed = self._followed.get(name)
            if followed is not None and followed.position == due[name]:  # else left meanwhile
                self._take(name, followed, page)
        self._hand_over()
        return True

    def _take(self, name: str, followed: _Followed, page: Page) -> None:
        if page.info is None:
            if followed.position:
                self.unfollow(name)
                self._gone(name)
            return
        followed.due = followed.due or not page.at_end
        if followed.position + 1 < page.info.earliest and page.info.head > followed.position:
            followed.position = page.info.earliest - 1
            self._hub.skip(name, page.info.head)
        if page.entries:
            followed.position = page.entries[-1].position
            self._hub.publish(name, page.entries)

    def _hand_over(self) -> None:
        """Streams that this node has come to own, and that were read up to its own entries."""
        for name, followed in tuple(self._followed.items()):
            owned = self._log.owned_from(name)
            if owned is not None and max(owned, followed.own) <= followed.position:
                self.unfollow(name)


class SpreadStreams:
    """The streams of other nodes in several databases, followed in each by itself."""

    def __init__(
        self,
        parts: Sequence[FollowedLog],
        place_of: Callable[[str], int],
        hub: Hub,
        gone: Callable[[str], None],
    ) -> None:
        """`place_of` says which of the parts holds a stream. `gone`: see RemoteStreams."""
        self._each = [RemoteStreams(part, hub, gone) for part in parts]
        self._place_of = place_of

    def follow(self, stream: str, after: int) -> None:
        self._each[self._place_of(stream)].follow(stream, after)

    def unfollow(self, stream: str) -> bool:
        return self._each[self._place_of(stream)].unfollow(stream)

    def committed(self, stream: str, entries: Sequence[Entry]) -> None:
        self._each[self._place_of(stream)].committed(stream, entries)

    def start(self) -> None:
        for remote in self._each:
            remote.start()

    async def close(self) -> None:
        for remote in self._each:
            await remote.close()

    @property
    def count(self) -> int:
        """How many streams are followed."""
        return sum(remote.count for remote in self._each)


def remote_streams(
    parts: Sequence[FollowedLog],
    place_of: Callable[[str], int],
    hub: Hub,
    gone: Callable[[str], None],
) -> RemoteStreams | SpreadStreams:
    """What follows the streams of other nodes in these databases; see SpreadStreams."""
    if len(parts) == 1:
        return RemoteStreams(parts[0], hub, gone)
    return SpreadStreams(parts, place_of, hub, gone)
