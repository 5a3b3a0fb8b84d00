"""Keeps the records' list of sessions in step with the log, whatever dies.

The log decides; a row follows from a session's own records. While the process runs, the log's
announcements say which sessions changed. Changes that a dead process has not written are found in
the events of the organizations: the append that makes, starts, ends or deletes a session writes an
event of it. The position up to which the events are taken in is kept with the rows, so a start
reads only newer events.

Of many nodes each writes the rows of its own commits. A node may commit, and die before it writes
the row; others find it dead some seconds later. So a position is kept only once it is as old as
HOLD_SECONDS: by then the row is written, or the node is known to be dead. The node that leads then
takes in the events since the kept positions, as a start does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from .. import metrics
from ..background import Background
from ..log.base import Entry, EventLog, LogError, Page
from ..log.shared import SharedLog
from ..model.events import event_stream
from ..records.access import OrganizationRepository, each_organization
from ..records.base import (
    ListPlace,
    SessionRecord,
    StoreError,
    StoreUnusable,
)
from ..records.sessions import DELETED, SessionRepository
from .session_log import SESSION_DELETED, SESSION_EVENTS, session_of_event
from .state import SessionState, control_stream, session_of

log_ = structlog.get_logger("resonantgenesis.session_list")
#: Seconds between two attempts.
_RETRY = 1.0
#: Seconds in which changes gather: a turn changes its session three times, and a transaction
#: costs more than the rest of a small turn. A reader of the list settles it first.
_GATHER = 0.1
#: Seconds between two writes of positions: after a crash, so many seconds of events are read again.
_PLACES = 1.0
#: Seconds after which a position is kept where other nodes live: longer than a dead node can go
#: unnoticed, together with the longest time from its commit to its row.
HOLD_SECONDS = 30.0
#: Events that change no session, after which the position is written all the same.
_FAR = 10_000
#: Events of an organization in one read of many; their bytes, and those of all.
_EVENTS, _PAGE_BYTES, _ALL_BYTES = 2_000, 1 << 20, 16 << 20
#: Sessions of a repair; of each the records, and their bytes, in one read of all; rows of a page.
_SESSIONS, _RECORDS, _RECORD_BYTES, _ROWS = 50, 200, 64 * 1024, 200
#: Seconds that a reader of the list waits until the list is up to date after a start.
_PATIENCE = 10.0
_STREAM = event_stream("")
#: Beyond every position.
_END = 1 << 62


@dataclass(slots=True)
class _Reached:
    """How far an organization's events were announced. `held` was the newest position at the time
    `since`, `settled` was one hold earlier."""

    newest: int
    held: int
    since: float
    settled: int = 0

    def move(self, now: float, newest: int, hold: float) -> None:
        self.newest = max(newest, self.newest)
        if now - self.since >= hold:
            self.settled, self.held, self.since = self.held, self.newest, now


class SessionList:
    """Writes changed sessions to the records: one row each, however often they changed.

    `committed` must be called with everything the log commits, after the states.
    """

    def __init__(
        self,
        sessions: SessionRepository,
        organizations: OrganizationRepository,
        log: EventLog,
        shared: SharedLog | None = None,
        *,
        hold: float = HOLD_SECONDS,
    ) -> None:
        """`shared` is the log once more, if other nodes may write it. `hold`: see HOLD_SECONDS; to
        be longer where a silent node is declared dead later."""
        self._sessions = sessions
        self._organizations = organizations
        self._log = log
        self._shared = shared
        self._hold = hold
        #: When a node was found gone, in the loop's seconds; and whether its changes are still to
        #: be taken in by this node.
        self._gone_at = -hold
        self._is_missing = False
        self._taking_in = asyncio.Lock()
        #: Changed sessions with their states; None: the state is not in memory.
        self._dirty: dict[str, SessionState | None] = {}
        self._removed: set[str] = set()
        self._removing = False
        #: By organization: the events announced, the last one that the rows show for certain, and
        #: the last one that this node has written as a place.
        self._reached: dict[str, _Reached] = {}
        self._kept: dict[str, int] = {}
        self._placed: dict[str, int] = {}
        self._placed_at = 0.0
        #: Set once the rows show what the log held at the start.
        self._ready = asyncio.Event()
        self._flushing = asyncio.Lock()
        self._loop = Background("session list", self._run)
        self._deaths = Background("session list of dead nodes", self._take_in_dead)

    def start(self) -> None:
        """Take in the changes of the last run, then whatever is announced."""
        self._loop.start()
        if self._shared is not None:
            self._deaths.start()

    async def ready(self, seconds: float) -> bool:
        """Whether the changes of the last run were taken in within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._ready.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Write the waiting changes and stop. The next start finds what could not be written."""
        await self._loop.close()
        await self._deaths.close()
        try:
            await self.flush(places=True)
        except (LogError, StoreError) as error:
            log_.warning("the list of sessions waits in the log", error=str(error))

    # -- announcements ---------------------------------------------------------------------

    def changed(self, state: SessionState) -> None:
        """A state in memory has moved on."""
        if state.info is not None:
            self._dirty[state.info.session_id] = state
            self._loop.wake()

    def committed(self, stream: str, entries: Sequence[Entry]) -> None:
        """Called by the log, in commit order, before readers get the entries."""
        kind = metrics.kind_of(stream)
        if kind == metrics.RECORDS:
            session_id = session_of(stream)
            state = self._dirty.get(session_id)
            if state is None or state.position < entries[-1].position:
                self._dirty[session_id] = None
                self._loop.wake()
        elif kind == metrics.EVENTS:
            self._announced(stream.removeprefix(_STREAM), entries)

    def _announced(self, organization_id: str, entries: Sequence[Entry]) -> None:
        position = entries[-1].position
        self._note(organization_id, position)
        for entry in entries:
            if entry.kind == SESSION_DELETED:
                self.forget(session_of_event(entry))
        if position - self._kept.get(organization_id, 0) >= _FAR:
            self._loop.wake()

    def _note(self, organization_id: str, position: int) -> None:
        now = asyncio.get_running_loop().time()
        reached = self._reached.get(organization_id)
        if reached is None:
            self._reached[organization_id] = _Reached(position, position, now)
        else:
            reached.move(now, position, self._hold)

    def forget(self, session_id: str) -> None:
        """Remove the row of a deleted session, after the write that may be under way."""
        self._dirty.pop(session_id, None)
        self._removed.add(session_id)
        self._loop.wake()

    def node_gone(self) -> None:
        """Another node lives no more. It may not have written its last changes."""
        self._gone_at = asyncio.get_running_loop().time()
        if self._shared is not None and self._shared.leads:
            self._is_missing = True
            self._deaths.wake()

    @property
    def waiting(self) -> int:
        """How many rows are still to be written or removed."""
        return len(self._dirty) + len(self._removed)

    # -- writing ---------------------------------------------------------------------------

    async def settle(self) -> None:
        """Return when the records show all that this node had committed at the time of the call.

        Raises StoreError if they cannot, or if the changes of the last run are still missing.
        """
        if not self._ready.is_set() and not await self.ready(_PATIENCE):
            raise StoreUnusable("the list of sessions is being brought up to date")
        await self.flush()

    async def settle_all(self, organization_id: str, *, others_did: bool) -> None:
        """Like `settle`, for what any node had committed of this organization, dead ones included.

        `others_did`: all other nodes have settled theirs. Raises LogError and StoreError.
        """
        await self.settle()
        now = asyncio.get_running_loop().time()
        if others_did and now - self._gone_at >= self._hold:
            return
        place: ListPlace | None = None
        if organization_id not in self._kept:
            places = await self._sessions.places()
            place = next((p for p in places if p.organization_id == organization_id), None)
        await self._take_in([organization_id], {} if place is None else {organization_id: place})

    async def removals(self) -> None:
        """Return when the records show no session, and no session's file, that was deleted before
        the call. Raises StoreError."""
        if self._removed or self._removing:
            await self.flush()

    async def flush(self, *, places: bool = False) -> None:
        """Write the announced changes; with `places` also their positions. Raises StoreError and
        LogError."""
        async with self._flushing:
            dirty, self._dirty = self._dirty, {}
            removed, self._removed = self._removed, set()
            reached = self._due_places(now=places)
            self._removing = bool(removed)
            try:
                if removed:  # first: a session may be made anew under its id
                    kept = await self._kept_for_forks(removed)
                    dirty = {**dirty, **kept}
                    await self._sessions.delete(list(removed - kept.keys()))
                await self._write_all(dirty, reached)
            except BaseException:
                self._removed |= removed
                left = {name: dirty[name] for name in dirty.keys() - self._removed}
                self._dirty = left | self._dirty
                raise
            finally:
                self._removing = False
            for place in reached:
                self._placed[place.organization_id] = place.position
                self._keep(place.organization_id, place.position)

    async def _write_all(
        self, dirty: dict[str, SessionState | None], reached: Sequence[ListPlace]
    ) -> None:
        """Write the rows of these sessions, which are removed from `dirty`, and then the places.
        While a database of the log is away the rows of the others' sessions are written."""
        lying: dict[int, dict[str, SessionState | None]] = {}
        for name, state in dirty.items():
            place = 0 if self._shared is None else self._shared.place_of(name)
            lying.setdefault(place, {})[name] = state
        failure: LogError | None = None
        for number, each in enumerate(lying.values(), start=1):
            is_last = number == len(lying) and failure is None
            try:
                await self._write(await self._states(each), reached if is_last else ())
            except LogError as error:
                failure = failure or error
            else:
                for name in each:
                    del dirty[name]
        if failure is not None:
            raise failure
        if reached and not lying:
            await self._write([], reached)

    def _keep(self, organization_id: str, position: int) -> None:
        self._kept[organization_id] = max(position, self._kept.get(organization_id, 0))

    async def _write(
        self,
        states: Sequence[SessionState],
        places: Sequence[ListPlace] = (),
        *,
        anew: bool = False,
    ) -> None:
        """Write the rows of these states. Among nodes the log is asked afterwards which sessions
        it still has: the row of one that was deleted at another node might be back. After a crash
        in between, the event of the deletion is taken in."""
        rows = [record_of(state) for state in states]
        await self._sessions.upsert_many(rows, places, anew=anew)
        if self._shared is None or self._shared.is_alone or not rows:
            return
        ends = {control_stream(row.id): _END for row in rows}
        pages = await self._shared.read_many(ends, limit=1, max_bytes=1)
        gone = [session_of(stream) for stream in ends if pages[stream].info is None]
        await self._sessions.delete(gone)

    async def _states(self, dirty: dict[str, SessionState | None]) -> list[SessionState]:
        known = [state for state in dirty.values() if state is not None]
        if len(known) == len(dirty):
            return known
        unknown = await self._read(name for name, state in dirty.items() if state is None)
        return [*known, *unknown.values()]

    async def _kept_for_forks(self, removed: set[str]) -> dict[str, SessionState | None]:
        """Those of the deleted sessions that their forks still show."""
        states = await self._read(removed)
        return {name: state for name, state in states.items() if state.deleted}

    def _due_places(self, *, now: bool) -> list[ListPlace]:
        """The positions that the rows show once all announced changes are written."""
        moment = asyncio.get_running_loop().time()
        if not self._ready.is_set() or not (now or moment - self._placed_at >= _PLACES):
            return []
        self._placed_at = moment
        is_whole = self._shared is None or (self._shared.is_alone and not self._is_missing)
        places: list[ListPlace] = []
        for name, reached in list(self._reached.items()):
            reached.move(moment, 0, self._hold)
            position = reached.newest if is_whole else reached.settled
            if position and position != self._placed.get(name):
                places.append(ListPlace(name, self._log.epoch, position))
            elif position == reached.newest:
                del self._reached[name]  # nothing is announced there that has no place
        return places

    async def _run(self) -> None:
        while not self._ready.is_set():
            try:
                await self._catch_up()
                self._ready.set()
            except (LogError, StoreError) as error:
                log_.error("session list is not up to date", error=str(error))
                await asyncio.sleep(_RETRY)
        while True:
            await self._loop.woken()
            await asyncio.sleep(_GATHER)
            try:
                await self.flush()
            except (LogError, StoreError) as error:
                log_.error("session list is behind", error=str(error))
                self._loop.wake()
                await asyncio.sleep(_RETRY)

    # -- changes of the last run, and of dead nodes ----------------------------------------

    async def _take_in_dead(self) -> None:
        while True:
            await self._deaths.woken()
            while self._is_missing:
                gone_at = self._gone_at
                try:
                    await self._catch_up()
                except (LogError, StoreError) as error:
                    log_.error("session list lacks changes of a dead node", error=str(error))
                    await asyncio.sleep(_RETRY)
                    continue
                self._is_missing = gone_at != self._gone_at

    async def _catch_up(self) -> None:
        places = {place.organization_id: place for place in await self._sessions.places()}
        async for page in each_organization(self._organizations):
            await self._take_in([organization.id for organization in page], places)

    async def _take_in(
        self, organization_ids: Sequence[str], places: Mapping[str, ListPlace]
    ) -> None:
        """Take in the sessions of which the organizations' events tell since their places."""
        async with self._taking_in:
            after = {name: self._begin(name, places.get(name)) for name in organization_ids}
            pages = await self._events(after)
            doubted = [name for name in after if not 0 < after[name] <= head_of(pages[name])]
            verified: set[str] = set()
            if doubted:
                # No place, or one of another history of the log: each row is compared with the log.
                after |= dict.fromkeys(doubted, 0)
                for name in await self._sessions.having(doubted):
                    verified |= await self._verify(name)
                pages = await self._events(after)
            while pages:
                changed = {name: None for page in pages.values() for name in changed_by(page)}
                await self._repair([name for name in changed if name not in verified])
                after = {
                    of: page.entries[-1].position for of, page in pages.items() if page.entries
                }
                await self._reach(after)
                # All later events are announced, or are other nodes' to write.
                pages = await self._events({of: after[of] for of in after if not pages[of].at_end})

    def _begin(self, organization_id: str, place: ListPlace | None) -> int:
        """The position of the last event that the rows show; 0: unknown."""
        kept = self._kept.get(organization_id, 0)
        if not kept and place is not None and place.epoch == self._log.epoch:
            return place.position
        return kept

    async def _events(self, after: Mapping[str, int]) -> dict[str, Page]:
        """A page of the events of each of these organizations."""
        if not after:
            return {}
        streams = {event_stream(name): position for name, position in after.items()}
        max_bytes = min(_PAGE_BYTES, _ALL_BYTES // len(streams))
        pages = await self._log.read_many(streams, limit=_EVENTS, max_bytes=max_bytes)
        return {name: pages[event_stream(name)] for name in after}

    async def _reach(self, positions: Mapping[str, int]) -> None:
        """The rows show the organizations' events up to these."""
        if positions and (self._shared is None or self._shared.is_alone):
            epoch = self._log.epoch
            reached = [ListPlace(name, epoch, position) for name, position in positions.items()]
            async with self._flushing:
                await self._sessions.upsert_many([], reached)
            self._placed |= positions
        for name, position in positions.items():
            self._keep(name, position)
            self._note(name, position)

    async def _verify(self, organization_id: str) -> set[str]:
        """Compare every row of the organization with the log. Returns the sessions of the rows."""
        found: set[str] = set()
        cursor: str | None = None
        while True:
            page = await self._sessions.list(organization_id, limit=_ROWS, cursor=cursor)
            names = [row.id for row in page.items]
            await self._repair(names)
            found.update(names)
            cursor = page.next_cursor
            if cursor is None:
                return found

    async def _repair(self, session_ids: Sequence[str]) -> None:
        """Write the rows of these sessions from the log."""
        for start in range(0, len(session_ids), _SESSIONS):
            async with self._flushing:
                asked = session_ids[start : start + _SESSIONS]
                states = await self._read(asked)
                await self._sessions.delete([name for name in asked if name not in states])
                # What another node writes meanwhile is newer.
                anew = self._shared is None or self._shared.is_alone
                await self._write(list(states.values()), anew=anew)

    async def _read(self, session_ids: Iterable[str]) -> dict[str, SessionState]:
        """The current states of these sessions, without those that the log does not have."""
        names, states = list(session_ids), dict[str, SessionState]()
        for start in range(0, len(names), _SESSIONS):
            streams = {control_stream(name): name for name in names[start : start + _SESSIONS]}
            pages = await self._log.read_many(
                dict.fromkeys(streams, 0), limit=_RECORDS, max_bytes=_RECORD_BYTES
            )
            for stream, name in streams.items():
                state = SessionState()
                state.apply(pages[stream].entries)
                if not pages[stream].at_end:
                    await state.take_in(self._log, name)
                if state.info is not None:
                    states[name] = state
        return states


def head_of(page: Page) -> int:
    """The position of the last event; 0: there is none."""
    return 0 if page.info is None else page.info.head


def changed_by(page: Page) -> list[str]:
    """The sessions that the events of a page have changed."""
    return [session_of_event(entry) for entry in page.entries if entry.kind in SESSION_EVENTS]


def record_of(state: SessionState) -> SessionRecord:
    """The session's row in the list."""
    info = state.info
    if info is None:
        raise ValueError("a session without its first record")
    return SessionRecord(
        id=info.session_id,
        organization_id=info.organization_id,
        subject=info.subject,
        agent_id=info.agent_id,
        status=DELETED if state.deleted else state.status,
        turns=len(state.turns),
        created_at=info.created_at,
        updated_at=state.updated_at,
        metadata=info.metadata,
        first_goal=state.first_goal,
        waiting=[
            {
                "call_id": ask.call_id,
                "kind": ask.kind,
                "tool": ask.tool,
                "expires_at": ask.expires_at,
            }
            for ask in (state.waiting.asks if state.waiting is not None else ())
        ],
    )
