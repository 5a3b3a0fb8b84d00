"""The process as its sessions see it: one log, one hub, one fence, and the tasks of their turns."""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from ..agents.base import AgentSource
from ..feed.hub import Hub
from ..files.service import FileService
from ..log.base import EventLog, Ownership
from ..model.limits import Limits
from .files import SessionFiles
from .history import PreparedTurn, TurnHistory
from .state import Request, SessionInfo, SessionState, TurnState

log_ = structlog.get_logger("resonantgenesis.supervisor")


class OwnedLog(EventLog, Ownership, Protocol):
    """A log whose streams this process can own."""


class Node:
    """What all sessions of a process share. The supervisor is a node that owns sessions."""

    def __init__(
        self,
        log: OwnedLog,
        hub: Hub,
        *,
        fence: int,
        limits: Limits,
        agents: AgentSource,
        files: FileService | None,
    ) -> None:
        self.log: EventLog = log
        self.hub = hub
        self.fence = fence
        self.limits = limits
        self.agents = agents
        self.transcript = TurnHistory(log)
        self.draining = False
        self.stopped = asyncio.Event()
        self._files = files
        self._tasks: set[asyncio.Task[None]] = set()

    def own(self, task: asyncio.Task[None]) -> None:
        """Keep a task until it ends; it is cancelled when the process stops."""
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def prepare(
        self, info: SessionInfo, state: SessionState, turn: TurnState, request: Request
    ) -> PreparedTurn:
        """The agent and its view of the turn. Raises ApiError, e.g. when the agent is gone."""
        agent = await self.agents.resolve(info.organization_id, request.agent_id)
        files = None if self._files is None else SessionFiles(self._files, info)
        return await self.transcript.prepare(info, state, turn, request, agent, files)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log_.error("a turn's task failed", task=task.get_name(), exc_info=error)
