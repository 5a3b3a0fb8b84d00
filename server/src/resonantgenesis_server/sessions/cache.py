"""Session states in memory: folded from the log when first asked for, then kept up to date by
the log's announcements while they stay here."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from ..log.base import Entry, EventLog
from .state import SessionState, control_stream, session_of

#: States kept of sessions that nobody writes now, and how much memory they may take.
_CACHED, _CACHED_BYTES = 10_000, 256 << 20
_SUFFIX = control_stream("")
_PAGE_ENTRIES, _PAGE_BYTES = 2_000, 4 << 20


class _Reading:
    """A session being read from the log: what was announced of it meanwhile."""

    __slots__ = ("announced", "deleted")

    def __init__(self) -> None:
        self.announced = 0
        self.deleted = False


class SessionCache:
    """At most one state per session, which is therefore the current one.

    `changed` is called with a state each time it has moved on.
    """

    def __init__(self, log: EventLog, changed: Callable[[SessionState], None]) -> None:
        self._log = log
        self._changed = changed
        self._cache: OrderedDict[str, SessionState] = OrderedDict()
        #: What each cached state was counted as, and the sum.
        self._weights: dict[str, int] = {}
        self._weight = 0
        self._pinned: dict[str, SessionState] = {}
        self._readings: dict[str, list[_Reading]] = {}

    def committed(self, stream: str, entries: Sequence[Entry]) -> None:
        """From the log, in commit order, before readers are told."""
        if not stream.endswith(_SUFFIX):
            return
        session_id = session_of(stream)
        for reading in self._readings.get(session_id, ()):
            reading.announced = entries[-1].position
        state = self.known(session_id)
        if state is not None:
            state.apply(entries)
            if session_id in self._cache:
                self._weigh(session_id, state)
            self._changed(state)

    async def load(self, session_id: str) -> SessionState | None:
        """The state as of now; None if there is no such session. Raises LogUnavailable."""
        state = self.known(session_id) or await self._read(session_id)
        return None if state is None or state.info is None else state

    async def _read(self, session_id: str) -> SessionState | None:
        state = SessionState()
        reading = _Reading()
        self._readings.setdefault(session_id, []).append(reading)
        try:
            while not reading.deleted:
                if await take_in(self._log, session_id, state) >= reading.announced:
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
        """Put a state under the log's announcements."""
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

    def pin(self, session_id: str, state: SessionState) -> None:
        """Keep the state, whatever else is asked for, until `unpin`."""
        self._pinned[session_id] = state
        self._uncache(session_id)

    def unpin(self, session_id: str) -> None:
        state = self._pinned.pop(session_id, None)
        if state is not None and state.info is not None:
            self.keep(session_id, state)

    def forget(self, session_id: str) -> None:
        """The session was deleted, or its state cannot be trusted any more."""
        self._uncache(session_id)
        self._pinned.pop(session_id, None)
        for reading in self._readings.get(session_id, ()):
            reading.deleted = True

    def known(self, session_id: str) -> SessionState | None:
        """The state, if it is in memory."""
        state = self._pinned.get(session_id)
        if state is None and session_id in self._cache:
            self._cache.move_to_end(session_id)
            state = self._cache[session_id]
        return state


async def take_in(log: EventLog, session_id: str, state: SessionState) -> int:
    """Bring a state up to what the log shows now; its position. Raises LogUnavailable.

    Who reads a session's chunks can be ahead of the announcements that keep its state; what it
    tells of them must not be older than what it has read.
    """
    while True:
        page = await log.read(
            control_stream(session_id), state.position, limit=_PAGE_ENTRIES, max_bytes=_PAGE_BYTES
        )
        state.apply(page.entries)
        if page.at_end:
            return state.position
