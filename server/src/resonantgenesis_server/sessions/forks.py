"""Forks: sessions that begin with the turns of another one, which are read where they are.

The original's control stream names its forks: first the original is told of a fork, then the fork
is made. A session that has forks is never trimmed. If it is deleted, it is gone for everybody, but
its streams stay until its last fork has gone. The row of such a session has the status DELETED, so
that `Forks.sweep` finds what a dead process has left.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson
import structlog

from ..log.base import EventLog, LogError, PositionConflict, StaleWriter, stream_info
from ..model.errors import (
    ApiError,
    Conflict,
    Forbidden,
    InvalidRequest,
    SessionNotFound,
)
from ..model.ids import new_id
from ..model.principal import Principal
from ..records.base import StoreError
from ..records.sessions import SessionRepository
from .peers import SessionPeers
from .range import expired
from .session import Session
from .session_list import SessionList
from .state import (
    Ancestor,
    SessionInfo,
    SessionState,
    TurnState,
    control_stream,
    forked_record,
    released_record,
)
from .supervisor import Supervisor

log_ = structlog.get_logger("resonantgenesis.sessions")

#: Forks of one session that are kept at once, and sessions in the line of a fork.
MAX_FORKS, MAX_GENERATIONS = 1_000, 100
#: Seconds after which a fork that was announced to its original is made, or never.
_MAKING = 600.0
_SESSIONS = 100
_PAGE = 2_000


class Forks:
    """Makes forks, and removes what only they have kept. Raises ApiError, LogError, StoreError."""

    def __init__(
        self,
        supervisor: Supervisor,
        peers: SessionPeers,
        session_list: SessionList,
        records: SessionRepository,
        authorize: Callable[[Principal, str], Awaitable[SessionState]],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._supervisor = supervisor
        self._peers = peers
        self._list = session_list
        self._records = records
        self._authorize = authorize
        self._now = now
        peers.offer("fork", _add_fork)
        peers.offer("release", self._release_here)

    async def fork(
        self,
        principal: Principal,
        session_id: str,
        turn: int | None,
        metadata: Mapping[str, Any] | None,
        *,
        request_id: str,
        fork_id: str | None = None,
    ) -> SessionState:
        """A session whose conversation is that of this one up to the turn, else up to the last that
        has ended. With `fork_id`, an existing fork of this id is returned unchanged. Goes on when
        its caller is cancelled."""
        if principal.session_id is not None:
            raise Forbidden("this token is bound to one session and cannot make another")
        state = await self._authorize(principal, session_id)
        existing = None if fork_id is None else await self._supervisor.states.load(fork_id)
        if existing is not None:
            return existing
        lineage = await self._lineage(session_id, state, turn)
        info = await self._info(state, lineage, metadata, fork_id or new_id("sess"))
        return await self._supervisor.detached(self._make(info, principal.key_id, request_id))

    async def _lineage(
        self, session_id: str, state: SessionState, turn: int | None
    ) -> tuple[Ancestor, ...]:
        inherited = () if state.info is None else state.info.lineage
        number = _last_ended(state) if turn is None else turn
        own = state.turn(number)
        if number == 0 and inherited:
            return inherited
        if own is None:
            count = len(state.turns)
            has = "one turn" if count == 1 else f"{count or 'no'} turns"
            raise InvalidRequest.field("turn", f"the session has {has}")
        if not own.last:
            raise Conflict(f"turn {number} has not ended")
        if len(inherited) >= MAX_GENERATIONS:
            raise Conflict(f"a fork has at most {MAX_GENERATIONS} generations")
        info = await stream_info(self._supervisor.log, session_id)
        if info is None:
            raise SessionNotFound("no such session")
        if info.earliest > own.first:
            raise expired(info.earliest, self._supervisor.log.epoch)
        return (*inherited, Ancestor(session_id, number))

    async def _info(
        self,
        state: SessionState,
        lineage: tuple[Ancestor, ...],
        metadata: Mapping[str, Any] | None,
        fork_id: str,
    ) -> SessionInfo:
        origin = state.info
        if origin is None:
            raise SessionNotFound("no such session")
        await self._supervisor.agents.resolve(origin.organization_id, origin.agent_id)
        context = origin.context
        if lineage != origin.lineage:
            context = await context_up_to(self._supervisor.log, state, lineage[-1])
        return SessionInfo(
            session_id=fork_id,
            organization_id=origin.organization_id,
            agent_id=origin.agent_id,
            subject=origin.subject,
            context=context,
            metadata=dict(origin.metadata if metadata is None else metadata),
            created_at=round(self._now(), 6),
            lineage=lineage,
            is_team=origin.is_team,
        )

    async def _make(self, info: SessionInfo, key_id: str, request_id: str) -> SessionState:
        origin = info.lineage[-1]
        args = {"session_id": origin.session_id, "turn": origin.turn, "fork": info.session_id}
        await self._peers.ask("fork", args, kept=True)
        try:
            async with self._supervisor.session(info.session_id, True) as session:
                await session.create(info, key_id, request_id)
                return session.state
        except (PositionConflict, StaleWriter):
            # Another node has just made it, for the same Idempotency-Key.
            existing = await self._supervisor.states.load(info.session_id)
            if existing is None:
                raise
            return existing

    # -- ends ------------------------------------------------------------------------------

    async def released(self, info: SessionInfo) -> None:
        """The fork is deleted: its original need not keep its part any more. A failure is logged;
        `sweep` does the rest."""
        try:
            await self._release([info.session_id], [each.session_id for each in info.lineage])
            await self._list.flush()
        except (ApiError, LogError, StoreError) as error:
            log_.warning("a fork is still to be released", fork=info.session_id, error=str(error))

    async def _release(self, forks: Sequence[str], lineage: Sequence[str]) -> None:
        """Tell the last of the line; if that was kept for these forks alone, it is a released fork
        of the one before."""
        for session_id in reversed(lineage):
            args = {"session_id": session_id, "forks": list(forks)}
            try:
                if not await self._peers.ask("release", args, kept=True):
                    return
            except SessionNotFound:
                return
            self._list.forget(session_id)
            forks = [session_id]

    async def _release_here(self, session: Session, args: Mapping[str, Any]) -> bool:
        """Returns whether the session was kept for these forks alone, and is gone now."""
        log = session.log
        async with log.lock:
            await log.look_again()
            known = [fork for fork in args["forks"] if fork in log.state.forks]
            turn = len(log.state.turns)
            if known:
                await log.record([released_record(turn, fork) for fork in known], pending=None)
            if not log.state.deleted or log.state.forks:
                return False
            await log.delete(None)
        self._supervisor.dropped(session.session_id)
        return True

    async def sweep(self) -> int:
        """Remove deleted sessions whose forks are gone. Returns how many."""
        removed, after = 0, ""
        while True:
            rows = await self._records.deleted(after=after, limit=_SESSIONS)
            for row in rows:
                removed += await self._sweep_one(row.id)
            await self._list.flush()
            if len(rows) < _SESSIONS:
                return removed
            after = rows[-1].id

    async def _sweep_one(self, session_id: str) -> bool:
        state = await self._supervisor.states.kept(session_id)
        if state is None or state.info is None:
            self._list.forget(session_id)
            return True
        before = self._now() - _MAKING
        old = [fork for fork, at in state.forks.items() if at < before]
        gone = [fork for fork in old if not await _exists(self._supervisor.log, fork)]
        if len(gone) < len(state.forks) and not gone:
            return False
        await self._release(gone, [*(each.session_id for each in state.info.lineage), session_id])
        return await self._supervisor.states.kept(session_id) is None


def _last_ended(state: SessionState) -> int:
    """The newest turn that has ended with its own chunks; 0: none."""
    ended = (turn for turn in reversed(state.turns) if turn.last and not turn.withdrawn)
    return next((turn.turn for turn in ended), 0)


async def _exists(log: EventLog, session_id: str) -> bool:
    return await stream_info(log, control_stream(session_id)) is not None


async def _add_fork(session: Session, args: Mapping[str, Any]) -> None:
    """Record a fork. Raises Conflict beyond MAX_FORKS, and SessionNotFound if the session is
    deleted and not kept for others."""
    log = session.log
    async with log.lock:
        await log.look_again()
        state, fork = log.state, args["fork"]
        if fork in state.forks:
            return
        if log.deleted or (state.deleted and not state.forks):
            raise SessionNotFound("no such session")
        if len(state.forks) >= MAX_FORKS:
            raise Conflict(f"the session has {MAX_FORKS} forks; delete some")
        await log.record([forked_record(args["turn"], fork)], pending=None)


async def context_up_to(log: EventLog, state: SessionState, place: Ancestor) -> dict[str, Any]:
    """The session's context as the turn of `place` had it. Raises LogUnavailable."""
    if state.context_turn <= place.turn:
        return state.context
    turn: TurnState = state.turns[place.turn - 1]
    context = {} if state.info is None else state.info.context
    after = 0
    while after < turn.record:
        page = await log.read(control_stream(place.session_id), after, limit=_PAGE)
        for entry in page.entries:
            after = entry.position
            if entry.kind == "queued":
                body = orjson.loads(entry.body)
                if body["turn"] > place.turn:
                    return context
                context = {**context, **body["context"]}
        if page.at_end:
            break
    return context
