"""What the sessions of one process share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext

import structlog

from ..agents.base import NO_FILES, AgentSource, TurnFiles
from ..codec.sse import aside_entry
from ..feed.hub import Hub
from ..log.base import EventLog
from ..model.errors import (
    ApiError,
)
from ..model.limits import Limits
from .agent_slots import AgentSlots, SlotTicket
from .history import TurnHistory
from .state import (
    SessionInfo,
)

log_ = structlog.get_logger("resonantgenesis.sessions")


#: The files of a turn, for the length of its `with` block.
OpenFiles = Callable[[SessionInfo], AbstractContextManager[TurnFiles]]


def no_files(_info: SessionInfo) -> AbstractContextManager[TurnFiles]:
    return nullcontext(NO_FILES)


async def _not_elsewhere(_session_id: str, _seconds: float) -> bool:
    """For a process that is alone."""
    return False


class SessionHost:
    """The parts of this process that its sessions share: log, hub, limits, agents, files, tasks."""

    def __init__(
        self,
        log: EventLog,
        hub: Hub,
        *,
        limits: Limits,
        agents: AgentSource,
        files: OpenFiles,
        now: Callable[[], float],
    ) -> None:
        """`now` gives the time, in seconds since 1970: after it asks expire."""
        self.log = log
        self.hub = hub
        self.limits = limits
        self.agents = agents
        self.files = files
        self.history = TurnHistory(log)
        self.now = now
        self.slots = AgentSlots()
        #: Whether a session is read at another node, or was within the last so many seconds.
        self.is_viewed_elsewhere: Callable[[str, float], Awaitable[bool]] = _not_elsewhere
        #: Whether other nodes write the log as well.
        self.is_shared = False
        self.draining = False
        self.stopped = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask_slot(
        self, owner: str, agent_id: str, granted: Callable[[], None]
    ) -> SlotTicket | None:
        """A place among the turns of an agent of the organization `owner`; None if their number has
        no bound."""
        try:
            agent = await self.agents.resolve(owner, agent_id)
        except ApiError:
            return None  # the turn will end with this error
        if not agent.concurrency:
            return None
        key = (agent_id,) if agent.is_shared else (owner, agent_id)
        return self.slots.ask(key, agent.concurrency, owner, granted)

    @asynccontextmanager
    async def slot(self, owner: str, agent_id: str) -> AsyncIterator[None]:
        """A place for a member of a team, once there is one."""
        granted = asyncio.Event()
        ticket = await self.ask_slot(owner, agent_id, granted.set)
        try:
            if ticket is not None:
                await granted.wait()
            yield
        finally:
            if ticket is not None:
                ticket.leave()

    def show_aside(self, session_id: str, body: bytes) -> None:
        """Show a chunk that is not stored to the session's viewers at this node."""
        self.hub.aside(session_id, aside_entry(body, session_id))

    def own(self, task: asyncio.Task[None]) -> None:
        """Keep a task until it ends; it is cancelled when the process stops."""
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log_.error("a turn's task failed", task=task.get_name(), exc_info=error)
