"""What a session needs of the process it runs in."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from ..agents.base import Agent, Turn
from ..feed.hub import Hub
from ..log.base import EventLog
from ..model.limits import Limits
from .files import SessionFiles
from .state import Request, SessionInfo, SessionState, TurnState
from .turn import Ending, Failure


class Prepared:
    """A turn ready to run."""

    __slots__ = ("_files", "agent", "request", "turn")

    def __init__(
        self, agent: Agent, turn: Turn, request: Request, files: SessionFiles | None = None
    ) -> None:
        self.agent = agent
        self.turn = turn
        self.request = request
        self._files = files

    def close(self) -> None:
        """The turn is over: an agent that goes on all the same can store nothing any more."""
        if self._files is not None:
            self._files.close()


class Node(Protocol):
    """The process as its sessions see it."""

    log: EventLog
    hub: Hub
    limits: Limits
    fence: int
    draining: bool
    stopped: asyncio.Event

    async def request(self, session_id: str, turn: TurnState) -> Request:
        """What a turn was asked for. Raises LogUnavailable."""
        ...

    async def prepare(
        self, info: SessionInfo, state: SessionState, turn: TurnState, request: Request
    ) -> Prepared:
        """The agent and its view of the turn; raises ApiError, e.g. when the agent is gone."""
        ...

    async def ending_from_log(
        self,
        session_id: str,
        turn: TurnState,
        failure: Failure | None,
        usage: Mapping[str, int] | None = None,
    ) -> Ending:
        """How a turn failed, or was cancelled, that said what the log holds of it; `usage` is what
        its run counted, if there is one to ask. Raises LogUnavailable."""
        ...

    def own(self, task: asyncio.Task[None]) -> None:
        """Keep a task until it ends; it is cancelled when the process stops."""
        ...

    def retire(self, session_id: str) -> None:
        """The session may have nothing left to do."""
        ...
