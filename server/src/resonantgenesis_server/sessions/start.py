"""Starts and joins turns: makes sessions, honours Idempotency-Keys, checks the rules of resume."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import TypeVar

from ..agents.base import CheckTools
from ..log.base import PositionConflict, StaleWriter
from ..model.errors import (
    ApiError,
    Conflict,
    Forbidden,
    InvalidRequest,
    SessionBusy,
    SessionNotFound,
)
from ..model.ids import new_id
from ..model.principal import Principal
from .cache import SessionCache
from .host import SessionHost
from .idempotency import Claim, KeyTaken, TurnIdempotency, check_key, key_digest
from .ownership import Elsewhere
from .request import CreateSpec, TurnRef, TurnRequest
from .session import Session
from .state import SessionInfo, SessionState, digest
from .turn_limit import TurnLimit

T = TypeVar("T")
#: Attempts to start a turn while others start turns of the session.
_RACES = 3
#: Seconds that a request waits for another node's with the same Idempotency-Key, and between looks.
_KEY_SECONDS, _KEY_PAUSE = 5.0, 0.05

#: Gives the writer of a session, by its id; True for a session that is just being made.
OpenSession = Callable[[str, bool], AbstractAsyncContextManager[Session]]
#: The session, if the caller may see it; else raises SessionNotFound.
Authorize = Callable[[Principal, str], Awaitable[SessionState]]


class TurnStarter:
    """Answers execute for every transport. Raises ApiError, and LogError when the log fails."""

    def __init__(
        self,
        host: SessionHost,
        states: SessionCache,
        open_session: OpenSession,
        authorize: Authorize,
        keys: TurnIdempotency,
        *,
        admit: Callable[[str], None],
        check_tools: CheckTools,
        turns: TurnLimit,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`admit` raises an ApiError for an organization that may not start a turn now,
        `check_tools` for unknown tools, `turns` for an API key that has too many turns."""
        self._host = host
        self._states = states
        self._open = open_session
        self._authorize = authorize
        self._keys = keys
        self._admit = admit
        self._check_tools = check_tools
        self._turn_limit = turns
        self._now = now

    async def create(
        self,
        principal: Principal,
        spec: CreateSpec,
        request_id: str,
        session_id: str | None = None,
    ) -> SessionState:
        """A session without turns. With `session_id`, an existing session of this id is returned
        unchanged."""
        info = await self._new_session(principal, spec, session_id)
        existing = None if session_id is None else await self._states.load(session_id)
        if existing is not None:
            return existing
        try:
            async with self._open(info.session_id, True) as session:
                await session.create(info, principal.key_id, request_id)
                return session.state
        except (PositionConflict, StaleWriter):
            # Another node has just made it, for the same Idempotency-Key.
            existing = None if session_id is None else await self._states.load(session_id)
            if existing is None:
                raise
            return existing

    async def execute(
        self, principal: Principal, request: TurnRequest, *, key: str | None, request_id: str
    ) -> TurnRef:
        """Start, queue or join a turn; durable when this returns."""
        request = replace(request, key_id=principal.key_id, request_id=request_id)
        if key is None:
            return await self._without_key(principal, request, None)
        check_key(key)
        async with self._keys.alone(principal, key):
            return await self._once_settled(lambda: self._with_key(principal, request, key))

    async def find_by_key(self, principal: Principal, key: str) -> TurnRef | None:
        """The turn that an Idempotency-Key names; waits for one that is just being started."""
        check_key(key)
        async with self._keys.alone(principal, key):
            claim = await self._once_settled(lambda: self._keys.find(principal, key))
        return None if claim is None else TurnRef(claim.session_id, claim.turn, joined=True)

    # -- inside ----------------------------------------------------------------------------

    async def _once_settled(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Repeat `ask` until no other node is using the Idempotency-Key."""
        deadline = time.monotonic() + _KEY_SECONDS
        while True:
            try:
                return await ask()
            except KeyTaken:
                if time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(_KEY_PAUSE)

    async def _with_key(self, principal: Principal, request: TurnRequest, key: str) -> TurnRef:
        claim = await self._keys.find(principal, key)
        if claim is not None and request.renews_key:
            await self._keys.release(principal, key)
            claim = None
        if claim is None:
            return await self._without_key(principal, request, key)
        if claim.fingerprint != request.fingerprint():
            raise Conflict("this Idempotency-Key was used for another request")
        await self._authorize(principal, claim.session_id)
        return TurnRef(claim.session_id, claim.turn, request.resume_from, joined=True)

    async def _without_key(
        self, principal: Principal, request: TurnRequest, key: str | None
    ) -> TurnRef:
        if request.own_id is not None and await self._states.load(request.own_id) is not None:
            request = replace(request, session_id=request.own_id)
        if request.session_id is None:
            if request.joins:
                problem = "needs the session_id, or the Idempotency-Key, of the stream"
                raise InvalidRequest.field(request.position_name, problem)
            if request.replace_turn:
                raise InvalidRequest.field("replace_turn", "needs the session_id of the turn")
            with self._turn_limit.starting(principal):
                return await self._start_new(principal, request, key)
        state = await self._authorize(principal, request.session_id)
        info = _named_session(principal, request, state)
        if request.resume_from is not None:
            return self._join(info.session_id, state, request)
        with self._turn_limit.starting(principal):
            return await self._start_next(principal, info, request, key)

    def _join(self, session_id: str, state: SessionState, request: TurnRequest) -> TurnRef:
        current = state.current
        if current is None:
            raise InvalidRequest.field(request.position_name, "the session has no turn to join")
        regenerates = current.replaces and current.replaces == request.replace_turn
        same = current.goal_digest == digest(request.goal) or (regenerates and not request.goal)
        if not same:
            raise Conflict(
                "the session's turn has another goal;"
                f" leave out {request.position_name} to start one"
            )
        return TurnRef(session_id, current.turn, request.resume_from, joined=True)

    async def _start_new(
        self, principal: Principal, request: TurnRequest, key: str | None
    ) -> TurnRef:
        if request.agent_id is None:
            raise InvalidRequest.field("agent_id", "is required")
        spec = CreateSpec(request.agent_id, request.context, {}, request.subject)
        info = await self._new_session(principal, spec, request.own_id)
        complete = await self._complete(request, info, key)
        if key is not None:
            claim = Claim(info.session_id, 1, request.fingerprint())
            await self._keys.claim(principal, key, claim)
        try:
            async with self._open(info.session_id, True) as session:
                turn = await session.start(complete, new=info)
        except (PositionConflict, StaleWriter):
            await self._release(principal, key)
            if request.own_id is None:
                raise
            # Another request has just made the session.
            return await self._start_next(principal, info, request, key)
        except ApiError:
            await self._release(principal, key)
            raise
        return TurnRef(info.session_id, turn.turn)

    async def _start_next(
        self, principal: Principal, info: SessionInfo, request: TurnRequest, key: str | None
    ) -> TurnRef:
        regenerated = await self._regenerated(info.session_id, request)
        complete = await self._complete(regenerated, info, key)

        claimed = False

        async def claim_key(number: int) -> None:
            """Claim the Idempotency-Key for the turn of this number; see TurnIdempotency."""
            nonlocal claimed
            if key is not None:
                claim = Claim(info.session_id, number, request.fingerprint())
                await self._keys.claim(principal, key, claim)
                claimed = True

        for _ in range(_RACES):
            try:
                async with self._open(info.session_id, False) as session:
                    turn = await session.start(complete, claim_key=claim_key)
                    return TurnRef(info.session_id, turn.turn)
            except Elsewhere:
                await self._release(principal, key if claimed else None)
                raise
            except (PositionConflict, StaleWriter):
                # An append that we took for refused has succeeded, or another node was first.
                await self._release(principal, key if claimed else None)
                claimed = False
            except ApiError:
                await self._release(principal, key if claimed else None)
                raise
        raise SessionBusy("too many requests for one session at once", retry_after=1)

    async def _regenerated(self, session_id: str, request: TurnRequest) -> TurnRequest:
        """The request, with the goal of the turn that it regenerates if it has none."""
        if not request.replace_turn or request.goal:
            return request
        state = await self._states.load(session_id)
        turn = None if state is None else state.turn(request.replace_turn)
        if turn is None:
            raise Conflict(f"turn {request.replace_turn} is not the last turn of the session")
        former = await self._host.history.request(session_id, turn)
        return replace(
            request,
            goal=former.goal,
            model=request.model or former.model,
            tools=former.tools if request.tools is None else request.tools,
            metadata=request.metadata or former.metadata,
        )

    async def _release(self, principal: Principal, key: str | None) -> None:
        if key is not None:
            await self._keys.release(principal, key)

    async def _new_session(
        self, principal: Principal, spec: CreateSpec, session_id: str | None = None
    ) -> SessionInfo:
        if principal.session_id is not None:
            raise Forbidden("this token is bound to one session and cannot make another")
        if principal.agent_id not in {None, spec.agent_id}:
            raise Forbidden("this token is bound to another agent")
        subject = principal.subject_of_new(spec.subject)
        agent = await self._host.agents.resolve(principal.organization_id, spec.agent_id)
        return SessionInfo(
            session_id=session_id or new_id("sess"),
            organization_id=principal.organization_id,
            agent_id=spec.agent_id,
            subject=subject,
            context=spec.context,
            metadata=spec.metadata,
            # Whole microseconds, as in the records: the list and the session show equal times.
            created_at=round(self._now(), 6),
            is_team=agent.is_team,
        )

    async def _complete(
        self, request: TurnRequest, info: SessionInfo, key: str | None
    ) -> TurnRequest:
        """The request as it is recorded, with a value for every field."""
        self._admit(info.organization_id)
        if request.tools:
            await self._check_tools(request.tools)
        agent = await self._host.agents.resolve(info.organization_id, info.agent_id)
        limits = self._host.limits
        steps = request.max_steps or agent.max_steps
        seconds = request.timeout_seconds or agent.timeout_seconds
        return replace(
            request,
            agent_id=info.agent_id,
            max_steps=min(steps, limits.max_steps),
            timeout_seconds=min(seconds, limits.max_timeout),
            key=None if key is None else key_digest(key),
            needs_slot=agent.concurrency > 0,
        )


def _named_session(principal: Principal, request: TurnRequest, state: SessionState) -> SessionInfo:
    """The session that the request names. Its agent and subject, if named, must be the session's.

    Raises InvalidRequest, and Forbidden for a token that is bound to another subject.
    """
    info = state.info
    if info is None:
        raise SessionNotFound("no such session")
    if request.agent_id is not None and request.agent_id != info.agent_id:
        raise InvalidRequest.field(
            "agent_id", f"is not the agent of this session, which is {info.agent_id!r}"
        )
    if request.subject is not None and request.subject != info.subject:
        principal.subject_of_new(request.subject)
        raise InvalidRequest.field("subject", "is not the subject of this session")
    return info
