"""Owns the sessions that are written in this process: activation, the sweep, the drain.

Only `Supervisor` decides that this process may write a session, with which fence, and which
running turn is an orphan.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import structlog

from .. import metrics
from ..agents.base import AgentSource
from ..feed.hub import Hub
from ..log.base import Entry, EventLog, LogError
from ..model.errors import SessionNotFound
from ..model.limits import Limits
from .cache import SessionCache
from .host import OpenFiles, SessionHost, no_files
from .ownership import Elsewhere, Ownership
from .session import Session
from .session_log import SESSION_DELETED, SessionLog, session_of_event
from .state import SessionState, control_stream, session_of

log_ = structlog.get_logger("resonantgenesis.supervisor")

T = TypeVar("T")
#: How long the start waits for the ends of turns whose process died.
_SWEEP_SECONDS = 30.0
_CLOSE_SECONDS = 5.0
#: Seconds that the cancellations at the end of the drain may take to be written.
_CANCEL_SECONDS = 1.0


class Supervisor(SessionHost):
    """The sessions that are open in this process.

    `committed` must be called with everything the log commits, before readers get it.
    """

    def __init__(
        self,
        log: EventLog,
        hub: Hub,
        *,
        ownership: Ownership,
        limits: Limits,
        agents: AgentSource,
        files: OpenFiles = no_files,
        changed: Callable[[SessionState], None] = lambda _state: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(log, hub, limits=limits, agents=agents, files=files, now=now)
        self._ownership = ownership
        self.is_shared = ownership.node > 0
        #: Tasks that `close` cancelled and that did not end.
        self.stuck = 0
        self.states = SessionCache(log, hub, changed, lambda: ownership.is_alone)
        self.history.inherited = self.states.inherited
        self._active: dict[str, Session] = {}
        self._requests: set[asyncio.Task[Any]] = set()

    def committed(self, stream: str, entries: Sequence[Entry]) -> None:
        if metrics.kind_of(stream) != metrics.EVENTS:
            self.states.committed(stream, entries)
            return
        for entry in entries:
            if entry.kind == SESSION_DELETED:
                self.dropped(session_of_event(entry))

    def gone(self, stream: str) -> None:
        """Another node has deleted this stream."""
        if metrics.kind_of(stream) == metrics.EVENTS:
            self.hub.delete(stream)
        else:
            self.dropped(session_of(stream))

    def dropped(self, session_id: str) -> None:
        """Drop a session that the log has deleted, and end its readers' streams."""
        session = self._active.pop(session_id, None)
        if session is not None:
            session.log.deleted = True
        self.states.forget(session_id)
        for stream in (session_id, control_stream(session_id)):
            self.hub.delete(stream)

    # -- sessions --------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def session(
        self, session_id: str, new: bool = False, *, kept: bool = False
    ) -> AsyncIterator[Session]:
        """The session's writer, for the length of the block. `kept`: also that of a session that
        only its forks see. Raises SessionNotFound, and Elsewhere if another node runs the
        session."""
        session = self._active.get(session_id)
        if session is not None and session.log.lost:
            self._drop(session)
            session = None
        if session is None:
            session = await self._activate(session_id, new, kept)
        session.users += 1
        try:
            yield session
        finally:
            session.users -= 1
            self.retire(session_id)

    async def _activate(self, session_id: str, new: bool, kept: bool) -> Session:
        state, fence = SessionState(), self._ownership.fence
        if not new:
            state, fence = await self._take(session_id, kept)
        existing = self._active.get(session_id)
        if existing is not None:  # another caller was faster
            return existing
        # Nothing is awaited between taking and pinning, so the state cannot fall behind.
        log = SessionLog(self.log, session_id, state, fence=fence, take=self._ownership.take)
        session = self._active[session_id] = Session(log, self, self.retire)
        self.states.pin(log)
        if state.open_turns:
            session.resume()
        return session

    async def _take(self, session_id: str, kept: bool) -> tuple[SessionState, int]:
        """The session's state, and the fence to write with."""
        while True:
            load = self.states.kept if kept else self.states.load
            state = await load(session_id)
            if state is None:
                raise SessionNotFound("no such session")
            position = state.position
            taken = await self._ownership.take(control_stream(session_id), position)
            if taken is None:
                await state.take_in(self.log, session_id)
            elif state.position == position:  # else the fence may be older than the state
                return state, taken.fence

    def _drop(self, session: Session) -> None:
        """Another node writes the session now."""
        del self._active[session.session_id]
        self.states.forget(session.session_id)

    def retire(self, session_id: str) -> None:
        session = self._active.get(session_id)
        if session is None or not session.idle:
            return
        del self._active[session_id]
        if session.log.unsure or session.log.deleted or session.log.lost:
            self.states.forget(session_id)
        else:
            self.states.unpin(session_id)

    async def delete(
        self, session_id: str, key_id: str | None = None, request_id: str | None = None
    ) -> None:
        """Remove the session's streams and end its readers. Raises SessionNotFound, and SessionBusy
        while turns are open."""
        async with self.session(session_id) as session:
            await session.delete(key_id, request_id)
            if self._active.get(session_id) is session:  # a second deletion is not announced
                self.dropped(session_id)

    async def detached(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` to its end, also if the caller is cancelled."""
        task = asyncio.create_task(work)
        self._requests.add(task)
        task.add_done_callback(self._answered)
        return await asyncio.shield(task)

    def _answered(self, task: asyncio.Task[Any]) -> None:
        self._requests.discard(task)
        if not task.cancelled():
            task.exception()  # the caller handles it, unless it was cancelled

    @property
    def running(self) -> int:
        """How many sessions have a running turn in this process."""
        return sum(1 for session in self._active.values() if session.state.running is not None)

    @property
    def organizations(self) -> set[str]:
        """Those whose sessions are written in this process now."""
        infos = [session.state.info for session in self._active.values()]
        return {info.organization_id for info in infos if info is not None}

    def organization_of(self, session_id: str) -> str | None:
        """The organization of a session that is in memory; None if it is not."""
        state = self.states.known(session_id)
        return None if state is None or state.info is None else state.info.organization_id

    def open_turns(self, organization_id: str | None = None) -> tuple[int, int]:
        """How many turns run in this process, and how many are queued: of one organization or
        all."""
        turns = [
            turn
            for session in self._active.values()
            if organization_id in {None, self.organization_of(session.session_id)}
            for turn in session.state.open_turns
        ]
        running = sum(turn.status == "running" for turn in turns)
        queued = sum(turn.status == "queued" for turn in turns)
        return running, queued

    # -- start and stop --------------------------------------------------------------------

    async def sweep(self, pending: Sequence[str]) -> tuple[int, int]:
        """End the turns whose process died, and run those that waited. Returns both numbers.

        `pending` are the streams with unfinished work that no living process does. Turns that
        cannot be ended within _SWEEP_SECONDS, because the log fails, are ended when it works again.
        """
        lost = resumed = 0
        adopted: list[asyncio.Task[bool]] = []
        for control in pending:
            session_id = session_of(control)
            try:
                async with self.session(session_id) as session:
                    lost += session.state.running is not None
                    resumed += any(t.status == "queued" for t in session.state.open_turns)
                    adopted.append(asyncio.create_task(session.adopted.wait()))
            except (SessionNotFound, Elsewhere):
                continue
            except LogError as error:
                log_.error("session could not be swept", session=session_id, error=str(error))
        if adopted:
            _, late = await asyncio.wait(adopted, timeout=_SWEEP_SECONDS)
            for task in late:
                task.cancel()
        return lost, resumed

    async def drain(self, seconds: float) -> None:
        """Start no turn any more. Running turns have `seconds` to end, then they are cancelled;
        those that have no chunk and can begin again go on at the next start."""
        self.draining = True
        for session in self._active.values():
            session.look()
        await self._settle(seconds)
        cancels = [
            asyncio.create_task(self._cancel(session, turn.turn), name="cancel at the drain")
            for session in self._active.values()
            if (turn := session.state.first_open) is not None
            and turn.status != "queued"
            and not turn.rests
            and not session.can_begin_again
        ]
        for cancel in cancels:
            self.own(cancel)
        if cancels:
            # A log that is away may hold the sessions' locks; the agents stop without it.
            await asyncio.wait(cancels, timeout=_CANCEL_SECONDS)
        await self._settle(5 * self.limits.cancel_grace + 1)

    async def _cancel(self, session: Session, turn: int) -> None:
        with contextlib.suppress(LogError):
            await session.cancel(turn)

    async def _settle(self, seconds: float) -> None:
        """Wait until no session has work, at most `seconds`."""
        pumps = {s.pump for s in self._active.values() if s.pump is not None}
        if pumps:
            await asyncio.wait(pumps, timeout=seconds)

    async def close(self) -> int:
        """Cancel all tasks. Turns without an end in the log get it at the next start.

        Returns how many tasks did not end within _CLOSE_SECONDS. These are agents that ignore
        their cancellation; closing the event loop in the usual way would wait for them for ever.
        """
        self.draining = True
        self.stopped.set()
        tasks = [*self._tasks, *self._requests]
        for task in tasks:
            task.cancel()
        if not tasks:
            return 0
        await asyncio.wait(tasks, timeout=_CLOSE_SECONDS)
        # Turns that ended just now may have left us their agents' tasks.
        running = [task for task in (*self._tasks, *self._requests) if not task.done()]
        for task in running:
            log_.error("a task could not be ended", task=task.get_name())
        self.stuck = len(running)
        return self.stuck
