"""Owns every running turn of this process: activation, the start-up sweep, the drain."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from ..agents.base import Agent
from ..feed.hub import Hub
from ..log.base import Entry, EventLog, LogError, Ownership
from ..model.errors import SessionNotFound
from ..model.limits import Limits
from .recovery import lost_runner_ending
from .session import Prepared, Session
from .state import Request, SessionInfo, SessionState, TurnState, session_of
from .states import States
from .transcript import Transcript

log_ = structlog.get_logger("resonantgenesis.supervisor")

#: Past every position; reading after it gives a stream's info and no entries.
_END = 2**31


@dataclass(frozen=True, slots=True)
class ResolvedAgent:
    """An agent with what its organization set for it."""

    agent: Agent
    instructions: str | None
    model: str | None
    tools: Sequence[str] | None
    defaults: Mapping[str, Any]


class AgentSource(Protocol):
    """Where agents come from."""

    async def resolve(self, organization_id: str, agent_id: str) -> ResolvedAgent:
        """Raises AgentNotFound, and Unavailable while that cannot be told."""
        ...


class OwnedLog(EventLog, Ownership, Protocol):
    """A log whose streams this process can own."""


class Supervisor:
    """The Node that sessions run in.

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
        changed: Callable[[SessionState], None] = lambda _state: None,
    ) -> None:
        self.log: EventLog = log
        self._ownership: Ownership = log
        self.hub = hub
        self.fence = fence
        self.limits = limits
        self.draining = False
        self.stopped = asyncio.Event()
        self.states = States(log, changed)
        self.transcript = Transcript(log)
        self._agents = agents
        self._active: dict[str, Session] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def committed(self, stream: str, entries: Sequence[Entry]) -> None:
        self.states.committed(stream, entries)

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
            self.retire(session)

    async def _activate(self, session_id: str, *, new: bool) -> Session:
        if new:
            state, head = SessionState(), 0
        else:
            loaded = await self.states.load(session_id)
            if loaded is None:
                raise SessionNotFound("no such session")
            state = loaded
            page = await self.log.read(session_id, _END, limit=1)
            head = 0 if page.info is None else page.info.head
            standing = self._active.get(session_id)
            if standing is not None:  # somebody else was faster
                return standing
        session = self._active[session_id] = Session(session_id, state, head, self)
        self.states.pin(session_id, state)
        return session

    def retire(self, session: Session) -> None:
        if session.idle and self._active.get(session.session_id) is session:
            del self._active[session.session_id]
            self.states.unpin(session.session_id)

    def drop(self, session_id: str) -> None:
        """Forget a session that was deleted."""
        self._active.pop(session_id, None)
        self.states.forget(session_id)

    @property
    def running(self) -> int:
        """How many sessions have a turn under way in this process."""
        return sum(1 for session in self._active.values() if session.state.running is not None)

    # -- Node ------------------------------------------------------------------------------

    def own(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log_.error("a turn's task failed", task=task.get_name(), exc_info=error)

    async def resolve(self, organization_id: str, agent_id: str) -> ResolvedAgent:
        """Raises AgentNotFound."""
        return await self._agents.resolve(organization_id, agent_id)

    async def request(self, session_id: str, turn: TurnState) -> Request:
        return await self.transcript.request(session_id, turn)

    async def prepare(
        self, info: SessionInfo, state: SessionState, turn: TurnState, request: Request
    ) -> Prepared:
        found = await self._agents.resolve(info.organization_id, request.agent_id)
        return await self.transcript.prepare(info, state, turn, request, found)

    # -- start and stop --------------------------------------------------------------------

    async def sweep(self) -> tuple[int, int]:
        """Close the turns whose process died and go on with those that waited; how many each.

        To be called once, before anything else is asked of this supervisor.
        """
        lost = resumed = 0
        for control in await self._ownership.pending():
            session_id = session_of(control)
            try:
                async with self.session(session_id) as session:
                    if session.state.running is not None:
                        ending = await lost_runner_ending(
                            self.transcript, session_id, session.state.running, self.limits
                        )
                        await session.close_orphan(ending, session.head)
                        lost += 1
                    if session.state.waiting:
                        session.resume()
                        resumed += 1
            except SessionNotFound:
                continue
            except LogError as error:
                log_.error("session could not be swept", session=session_id, error=str(error))
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

    async def close(self) -> None:
        """Cancel whatever still runs. What has no end in the log gets it at the next start."""
        self.draining = True
        self.stopped.set()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)
