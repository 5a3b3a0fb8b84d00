"""The sessions that are in memory: one state each, and what was announced of their chunks.

A state is folded from the log when somebody first asks for it. The log's announcements keep it up
to date as long as it stays here.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence

from ..feed.hub import Hub
from ..log.base import Entry, EventLog
from ..model.errors import SessionNotFound
from .lineage import FirstTurns
from .session_log import SessionLog
from .state import SessionState, control_stream, session_of

#: States kept of sessions that nobody writes now, and bytes of memory for all of them.
_CACHED, _CACHED_BYTES = 10_000, 256 << 20
_SUFFIX = control_stream("")


class _Reading:
    """A session that is being read from the log, and what was announced of it meanwhile."""

    __slots__ = ("announced", "deleted")

    def __init__(self) -> None:
        self.announced = 0
        self.deleted = False


class SessionCache:
    """At most one state per session, which is therefore the current one.

    `changed` is called with a state each time it has moved on. A session that is written in this
    process is pinned: its SessionLog knows more than its state.
    """

    def __init__(
        self,
        log: EventLog,
        hub: Hub,
        changed: Callable[[SessionState], None] = lambda _state: None,
        is_alone: Callable[[], bool] = lambda: True,
    ) -> None:
        self.log = log
        self.hub = hub
        self._changed = changed
        self._is_alone = is_alone
        self._cache: OrderedDict[str, SessionState] = OrderedDict()
        #: The weight with which each cached state was counted, and the sum.
        self._weights: dict[str, int] = {}
        self._weight = 0
        self._pinned: dict[str, SessionLog] = {}
        #: When a session that another node writes was read for a moment, in the loop's seconds.
        self._viewed: OrderedDict[str, float] = OrderedDict()
        self._readings: dict[str, list[_Reading]] = {}

    def committed(self, stream: str, entries: Sequence[Entry]) -> None:
        """Called by the log, in commit order, before readers get the entries."""
        if not stream.endswith(_SUFFIX):
            return
        session_id = session_of(stream)
        for reading in self._readings.get(session_id, ()):
            reading.announced = entries[-1].position
        state = self.known(session_id)
        if state is not None and entries[0].position > state.position + 1:
            self._uncache(session_id)  # another node has written in between
        elif state is not None:
            state.apply(entries)
            if session_id in self._cache:
                self._weigh(session_id, state)
            self._changed(state)

    # -- readers ---------------------------------------------------------------------------

    async def load(self, session_id: str) -> SessionState | None:
        """The current state; None if there is no such session. Raises LogUnavailable."""
        state = await self.kept(session_id)
        return None if state is None or state.deleted else state

    async def kept(self, session_id: str) -> SessionState | None:
        """Like `load`, and also of a session that was deleted and that its forks still show."""
        state = self.known(session_id)
        if state is None:
            state = await self._read(session_id)
        elif not self._is_live(session_id, state):
            state = await self._bring_up(session_id, state)
        return None if state is None or state.info is None else state

    async def inherited(self, state: SessionState) -> list[FirstTurns]:
        """The parts of other sessions with which this one begins, the oldest first. A part that the
        log has lost is left out. Raises LogUnavailable."""
        spans: list[FirstTurns] = []
        for ancestor in () if state.info is None else state.info.lineage:
            inherited = await self.kept(ancestor.session_id)
            if inherited is not None:
                spans.append(FirstTurns(ancestor.session_id, inherited, ancestor.turn))
        return spans

    def _is_live(self, session_id: str, state: SessionState) -> bool:
        """Whether announcements keep the state up to date; else it is read on at each use. While
        this process runs a session's turns nobody else writes the session."""
        if self._is_alone():
            return True
        # Of a turn that rests any node may take the answer.
        return session_id in self._pinned and bool(state.open_turns) and not state.rests

    async def _bring_up(self, session_id: str, state: SessionState) -> SessionState | None:
        if session_id in self._pinned:  # its writer says when that state moves on
            state = SessionState()
        if not await state.take_in(self.log, session_id):
            self.forget(session_id)  # deleted by another node
            return None
        if session_id in self._cache:
            self._weigh(session_id, state)
        return state

    def announced(self, session_id: str, state: SessionState) -> int | None:
        """The last position of the chunks that was announced; None if memory does not hold it."""
        head = self.hub.head(session_id)
        if head:
            return head
        if state.running is None and self._is_alone():
            return state.told  # every chunk is of a turn that has ended, or tells where it waits
        pinned = self._pinned.get(session_id)
        return None if pinned is None else pinned.announced

    async def keep_up(
        self, session_id: str, entries: Sequence[Entry], state: SessionState | None = None
    ) -> None:
        """Bring the state up to chunks that were read, before a client sees them.

        Chunks read from the log can be ahead of their announcement. A client that has seen a
        `done` must find the turn ended, whatever it asks next; and one that has seen a `waiting`
        must find what the turn waits for. `state` is that of the session, if the caller has it.
        """
        told = last_told(entries)
        if not told:
            return
        state = state or await self.load(session_id)
        if state is not None and told > state.told:
            await state.take_in(self.log, session_id)

    async def check_kept(self, session_id: str) -> None:
        """Raise SessionNotFound if the session was deleted.

        For a reader that found no chunk of the session. Waits for a deletion under way until it is
        announced; after that nobody finds the session.
        """
        state = await self.load(session_id)
        pinned = self._pinned.get(session_id)
        if pinned is not None:
            await pinned.check_kept()
        elif state is None:
            raise SessionNotFound("no such session")

    def viewed(self, session_id: str) -> None:
        """Note that somebody has just read the session, if only for a moment."""
        pinned = self._pinned.get(session_id)
        if pinned is not None:
            pinned.viewed()
            return
        self._viewed[session_id] = asyncio.get_running_loop().time()
        self._viewed.move_to_end(session_id)
        while len(self._viewed) > _CACHED:
            self._viewed.popitem(last=False)

    def is_viewed(self, session_id: str, seconds: float) -> bool:
        """Whether somebody reads the session here, or has within so many seconds."""
        if self.hub.is_watched(session_id) or self.hub.is_watched(control_stream(session_id)):
            return True
        viewed = self._viewed.get(session_id, -seconds)
        return asyncio.get_running_loop().time() - viewed < seconds

    # -- the writer ------------------------------------------------------------------------

    async def _read(self, session_id: str) -> SessionState | None:
        state = SessionState()
        reading = _Reading()
        self._readings.setdefault(session_id, []).append(reading)
        try:
            while not reading.deleted:
                if await state.take_in(self.log, session_id) >= reading.announced:
                    break
        finally:
            self._readings[session_id].remove(reading)
            if not self._readings[session_id]:
                del self._readings[session_id]
        # Another reader of the same session may have been first; its state is the one in use.
        known = self.known(session_id)
        if known is not None or reading.deleted or state.info is None:
            return known
        return self.keep(session_id, state)

    def keep(self, session_id: str, state: SessionState) -> SessionState:
        """Let the log's announcements keep this state up to date."""
        self._cache[session_id] = state
        self._cache.move_to_end(session_id)
        self._weigh(session_id, state)
        return state

    def _weigh(self, session_id: str, state: SessionState) -> None:
        self._weight += state.weight - self._weights.get(session_id, 0)
        self._weights[session_id] = state.weight
        while len(self._cache) > _CACHED or (self._weight > _CACHED_BYTES and len(self._cache) > 1):
            self._uncache(next(iter(self._cache)))

    def _uncache(self, session_id: str) -> None:
        self._cache.pop(session_id, None)
        self._weight -= self._weights.pop(session_id, 0)

    def pin(self, written: SessionLog) -> None:
        """Keep the state of a session that is written here, until `unpin`."""
        self._pinned[written.session_id] = written
        self._uncache(written.session_id)

    def unpin(self, session_id: str) -> None:
        written = self._pinned.pop(session_id, None)
        if written is not None and written.state.info is not None:
            self.keep(session_id, written.state)

    def forget(self, session_id: str) -> None:
        """Drop a session that was deleted, or whose state cannot be trusted any more."""
        self._uncache(session_id)
        self._pinned.pop(session_id, None)
        for reading in self._readings.get(session_id, ()):
            reading.deleted = True

    def known(self, session_id: str) -> SessionState | None:
        """The state, if it is in memory."""
        pinned = self._pinned.get(session_id)
        if pinned is not None:
            return pinned.state
        if session_id in self._cache:
            self._cache.move_to_end(session_id)
            return self._cache[session_id]
        return None


#: Kinds of chunks whose append has a record.
_TOLD = frozenset({"done", "waiting", "input"})


def last_told(entries: Sequence[Entry]) -> int:
    """The position of the last entry that a record tells; 0: there is none."""
    for entry in reversed(entries):
        if entry.kind in _TOLD:
            return entry.position
    return 0
