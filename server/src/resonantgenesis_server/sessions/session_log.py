"""The two streams of one session, as the one process writes them that owns the session."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from .. import metrics
from ..codec.events import events_append
from ..log.base import Append, LogError, LogOverloaded, NewEntry, StaleWriter, trim_in_steps
from ..model.errors import Internal
from ..model.events import NewEvent
from .cache import take_in
from .events import TurnEvents
from .node import Node
from .outcome import TurnOutcome
from .state import (
    SessionInfo,
    SessionState,
    TurnState,
    control_stream,
    ended_record,
    started_record,
)

log_ = structlog.get_logger("resonantgenesis.turns")

#: Past every position; reading after it gives a stream's info and no entries.
_END = 2**31


class SessionLog:
    """Appends to a session's streams, each under the condition that they end where we think.

    `state` is kept by the supervisor from the log's announcements: when an append has returned,
    `state` already shows it. `head` is the last position of the chunks' stream. Whoever writes
    holds `lock`. All raise LogError.

    An append that failed may have taken all the same (its answer was lost); then `unsure` is set,
    and `look_again` has to find out before anything else is written.
    """

    def __init__(self, session_id: str, state: SessionState, node: Node) -> None:
        self.session_id = session_id
        self.control = control_stream(session_id)
        self.state = state
        self.head = state.end
        self.lock = asyncio.Lock()
        #: A turn that ran when we took the session over has chunks that the state does not tell.
        self.unsure = state.running is not None
        self._node = node

    @property
    def info(self) -> SessionInfo:
        if self.state.info is None:
            raise Internal("the session has no beginning")
        return self.state.info

    async def look_again(self) -> None:
        """Read where the streams end."""
        if not self.unsure:
            return
        log = self._node.log
        await take_in(log, self.session_id, self.state)
        page = await log.read(self.session_id, _END, limit=1)
        self.head = 0 if page.info is None else page.info.head
        self.unsure = False

    async def record(
        self, records: Sequence[NewEntry], *, pending: bool, events: Sequence[NewEvent] = ()
    ) -> None:
        organization = events[0].metadata["organization_id"] if events else ""
        control = Append(
            self.control,
            records,
            fence=self._node.fence,
            expect=self.state.position,
            pending=pending,
        )
        await self._append(control, *events_append(organization, events))

    async def begin(self, turn: TurnState, goal: str) -> None:
        """Record the start of a turn that waited."""
        started = TurnEvents.of(self.info, turn).started(goal)
        record = started_record(turn.turn, self.head + 1)
        await self.record([record], pending=True, events=[started])

    async def end(self, turn: TurnState, ending: TurnOutcome) -> None:
        """Append a turn's last chunks, its record and its events together."""
        last = self.head + len(ending.chunks)
        others = any(t.turn != turn.turn for t in self.state.unended)
        told = TurnEvents.of(self.info, turn)
        steps = [told.step_completed(*chunk.step) for chunk in ending.chunks if chunk.step]
        failure = ending.failure
        code, words = (failure.code, failure.message) if failure else (None, None)
        fence = self._node.fence
        await self._append(
            Append(
                self.control,
                [ended_record(turn.turn, ending.status, last)],
                fence=fence,
                expect=self.state.position,
                pending=others,
            ),
            Append(
                self.session_id,
                [NewEntry(chunk.kind, chunk.body) for chunk in ending.chunks],
                fence=fence,
                expect=self.head,
            ),
            *events_append(
                told.organization_id,
                [*steps, *told.ended(ending.status, ending.usage, code, words)],
            ),
        )
        self.head = last
        metrics.turn_ended(ending.status, code)
        say = log_.info if failure else log_.debug
        say(
            "turn ended",
            agent=self.info.agent_id,
            status=ending.status,
            code=code,
            duration_ms=ending.usage["duration_ms"],
        )

    async def _append(self, *appends: Append) -> None:
        try:
            await self._node.log.append(*appends)
        except (StaleWriter, LogOverloaded):
            raise  # refused, so certainly not taken
        except (LogError, asyncio.CancelledError):
            self.unsure = True
            raise


async def trim_oldest(node: Node, state: SessionState, session_id: str, head: int) -> None:
    """Trim whole ended turns, oldest first, while the session holds more than the limit.

    What cannot be trimmed now is trimmed after the next turn.
    """
    surplus = head - node.limits.chunks_per_session
    if surplus < 1:
        return
    before = 0
    for turn in state.turns[:-1]:
        if not turn.last or turn.first > surplus:
            break
        before = turn.last + 1
    if not before:
        return
    try:
        page = await node.log.read(session_id, before - 2, limit=1)
        earliest = 1 if page.info is None else page.info.earliest
        await trim_in_steps(node.log, session_id, earliest, before)
    except LogError as error:
        log_.error("session could not be trimmed", session=session_id, error=str(error))
