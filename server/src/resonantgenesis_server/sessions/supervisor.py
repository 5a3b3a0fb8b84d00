"""Owns every running turn of this process: activation, the start-up sweep, the drain."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import structlog

from .. import metrics
from ..agents.base import AgentSource
from ..feed.hub import Hub
from ..files.service import FileService
from ..log.base import Entry, LogError, Ownership
from ..model.errors import SessionNotFound
from ..model.limits import Limits
from .cache import SessionCache
from .events import SESSION_DELETED, session_of_event
from .node import Node, OwnedLog
from .session import Session
from .state import SessionState, control_stream, session_of

log_ = structlog.get_logger("resonantgenesis.supervisor")

T = TypeVar("T")
#: How long the start waits for the ends of turns whose process died.
_SWEEP_SECONDS = 30.0
_CLOSE_SECONDS = 5.0


class Supervisor(Node):
    """The node with the sessions that are open in it.

    `committed` is to be called with everything the log commits, before readers are told.
    """

    def __init__(
        self,
        log: OwnedLog,
        hub: Hub,
        *,
        fence: int,
        limits: Limits,
        agents: AgentSource,
        files: FileService | None = None,
        changed: Callable[[SessionState], None] = lambda _state: None,
    ) -> None:
        super().__init__(log, hub, fence=fence, limits=limits, agents=agents, files=files)
        self._ownership: Ownership = log
        #: Tasks that did not end when `close` told them to.
        self.stuck = 0
        self.states = SessionCache(log, changed)
        self._active: dict[str, Session] = {}
        self._requests: set[asyncio.Task[Any]] = set()

    def committed(self, stream: str, entries: Sequence[Entry]) -> None:
        if metrics.kind_of(stream) != metrics.EVENTS:
            self.states.committed(stream, entries)
            return
        for entry in entries:
            if entry.kind == SESSION_DELETED:
                self._deleted(session_of_event(entry))

    def _deleted(self, session_id: str) -> None:
        """The log has let go of the session: all here does in the same moment, and its readers'
        streams end."""
        session = self._active.pop(session_id, None)
        if session is not None:
            session.deleted = True
        self.states.forget(session_id)
        for stream in (session_id, control_stream(session_id)):
            self.hub.delete(stream)

    # -- sessions --------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def session(self, session_id: str, *, new: bool = False) -> AsyncIterator[Session]:
        """The session's writer, for the length of the block. Raises SessionNotFound."""
        session = self._active.get(session_id)
        if session is None:
            session = await self._activate(session_id, new=new)
        session.users += 1
        try:
            yield session
        finally:
            session.users -= 1
            self.retire(session_id)

    async def _activate(self, session_id: str, *, new: bool) -> Session:
        state = SessionState() if new else await self.states.load(session_id)
        if state is None:
            raise SessionNotFound("no such session")
        standing = self._active.get(session_id)
        if standing is not None:  # somebody else was faster
            return standing
        # Nothing is awaited between loading and pinning, so the state cannot fall behind.
        session = self._active[session_id] = Session(session_id, state, self, self.retire)
        self.states.pin(session_id, state)
        if state.open_turns:
            session.resume()
        return session

    def retire(self, session_id: str) -> None:
        session = self._active.get(session_id)
        if session is None or not session.idle:
            return
        del self._active[session_id]
        if session.unsure or session.deleted:
            self.states.forget(session_id)
        else:
            self.states.unpin(session_id)

    def announced(self, session_id: str) -> int | None:
        """The last position of a session's chunks that was announced; None: it is not known here.
        Of a session at rest, its state says that."""
        session = self._active.get(session_id)
        return None if session is None else session.announced

    def viewed(self, session_id: str) -> None:
        """Somebody has just read the session, if only for a moment."""
        session = self._active.get(session_id)
        if session is not None:
            session.viewed()

    async def delete(
        self, session_id: str, key_id: str | None = None, request_id: str | None = None
    ) -> None:
        """Remove the session's log and end its readers. Raises SessionNotFound, and SessionBusy
        while turns are open."""
        async with self.session(session_id) as session:
            await session.delete(key_id, request_id)
            if self._active.get(session_id) is session:  # a repeat, of which nobody was told
                self._deleted(session_id)

    async def check_there(self, session_id: str) -> None:
        """To be asked by who has found no chunk of a session that it has looked up: raises
        SessionNotFound if the session was deleted since, but not before that was announced, so
        that nobody finds it after this."""
        async with self.session(session_id) as session:
            await session.settled()
            if session.deleted:
                raise SessionNotFound("no such session")

    async def detached(self, work: Coroutine[Any, Any, T]) -> T:
        """Do this to its end, whatever becomes of the caller."""
        task = asyncio.create_task(work)
        self._requests.add(task)
        task.add_done_callback(self._answered)
        return await asyncio.shield(task)

    def _answered(self, task: asyncio.Task[Any]) -> None:
        self._requests.discard(task)
        if not task.cancelled():
            task.exception()  # the caller's affair, if it is still there

    @property
    def running(self) -> int:
        """How many sessions have a turn under way in this process."""
        return sum(1 for session in self._active.values() if session.state.running is not None)

    def open_turns(self) -> tuple[int, int]:
        """How many turns run in this process, and how many wait for their own."""
        unended = [turn for session in self._active.values() for turn in session.state.unended]
        running = sum(turn.status == "running" for turn in unended)
        return running, len(unended) - running

    # -- start and stop --------------------------------------------------------------------

    async def sweep(self) -> tuple[int, int]:
        """Close the turns whose process died and go on with those that waited; how many each.

        To be called once, before anything else is asked of this supervisor. What cannot be closed
        within _SWEEP_SECONDS, since the log is failing, is closed when it no longer is.
        """
        lost = resumed = 0
        adopted: list[asyncio.Task[bool]] = []
        for control in await self._ownership.pending():
            session_id = session_of(control)
            try:
                async with self.session(session_id) as session:
                    lost += session.state.running is not None
                    resumed += bool(session.state.waiting)
                    adopted.append(asyncio.create_task(session.adopted.wait()))
            except SessionNotFound:
                continue
            except LogError as error:
                log_.error("session could not be swept", session=session_id, error=str(error))
        if adopted:
            _, late = await asyncio.wait(adopted, timeout=_SWEEP_SECONDS)
            for task in late:
                task.cancel()
        return lost, resumed

    async def drain(self, seconds: float) -> None:
        """No new turns; those that run have `seconds` to end, then they are cancelled."""
        self.draining = True
        await self._settle(seconds)
        for session in list(self._active.values()):
            running = session.state.running
            if running is not None:
                with contextlib.suppress(LogError):
                    await session.cancel(running.turn)
        await self._settle(5 * self.limits.cancel_grace + 1)

    async def _settle(self, seconds: float) -> None:
        """Wait until no session has work, at most `seconds`."""
        pumps = {s.pump for s in self._active.values() if s.pump is not None}
        if pumps:
            await asyncio.wait(pumps, timeout=seconds)

    async def close(self) -> int:
        """Cancel whatever still runs. What has no end in the log gets it at the next start.

        How many tasks did not end within _CLOSE_SECONDS: agents that ignore their cancellation,
        for which an event loop that is closed in the usual way would wait for ever.
        """
        self.draining = True
        self.stopped.set()
        tasks = [*self._tasks, *self._requests]
        for task in tasks:
            task.cancel()
        if not tasks:
            return 0
        await asyncio.wait(tasks, timeout=_CLOSE_SECONDS)
        # Turns that were ended just now may have left their agent to us.
        running = [task for task in (*self._tasks, *self._requests) if not task.done()]
        for task in running:
            log_.error("a task could not be ended", task=task.get_name())
        self.stuck = len(running)
        return self.stuck
