"""Starting and joining turns: sessions made, keys honoured, rules of resume checked."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from ..agents.tools.toolbox import CheckTools
from ..codec.json import dumps
from ..events.system_events import ORGANIZATION, Reached, ignore_limit
from ..log.base import PositionConflict
from ..model.errors import (
    ApiError,
    Conflict,
    Forbidden,
    InvalidRequest,
    RateLimited,
    SessionBusy,
    SessionNotFound,
)
from ..model.ids import is_id, new_id
from ..model.principal import Principal
from .idempotency import Claim, TurnIdempotency, check_key, key_digest
from .state import Request, SessionInfo, SessionState, digest
from .supervisor import Supervisor

_RACES = 3


class TurnStarter:
    """Answers execute for every transport. Raises ApiError, and LogError when the log fails."""

    def __init__(
        self,
        supervisor: Supervisor,
        keys: TurnIdempotency,
        admit: Callable[[str], None],
        check_tools: CheckTools,
        turns: TurnLimit,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`admit` raises an ApiError for an organization that may not start a turn now,
        `check_tools` one for tools that there are not, `turns` for a key that has too many."""
        self._supervisor = supervisor
        self._keys = keys
        self._admit = admit
        self._check_tools = check_tools
        self._turns = turns
        self._now = now

    async def authorize(self, principal: Principal, session_id: str) -> SessionState:
        """The session, if this caller may see it; else SessionNotFound, whatever the reason."""
        state = await self._supervisor.states.load(session_id) if is_id(session_id) else None
        if state is None or not _may_see(principal, session_id, state):
            raise SessionNotFound("no such session")
        return state

    async def create(
        self,
        principal: Principal,
        spec: CreateSpec,
        request_id: str,
        session_id: str | None = None,
    ) -> SessionState:
        """A session without turns; with `session_id`, the one that has this id if there is one."""
        info = await self._new_session(principal, spec, session_id)
        made = None if session_id is None else await self._supervisor.states.load(session_id)
        if made is not None:
            return made
        async with self._supervisor.session(info.session_id, new=True) as session:
            await session.create(info, principal.key_id, request_id)
            return session.state

    async def execute(
        self, principal: Principal, spec: ExecuteSpec, *, key: str | None, request_id: str
    ) -> TurnRef:
        """Start, queue or join a turn; durable when this returns."""
        if key is None:
            return await self._without_key(principal, spec, request_id)
        check_key(key)
        async with self._keys.alone(principal, key):
            standing = await self._keys.find(principal, key)
            if standing is None:
                return await self._without_key(principal, spec, request_id, key)
            if standing.fingerprint != spec.fingerprint():
                raise Conflict("this Idempotency-Key was used for another request")
            await self.authorize(principal, standing.session_id)
            return TurnRef(standing.session_id, standing.turn, spec.resume_from, joined=True)

    async def find_by_key(self, principal: Principal, key: str) -> TurnRef | None:
        """The turn that an Idempotency-Key names; waits for one that is just being started."""
        check_key(key)
        async with self._keys.alone(principal, key):
            standing = await self._keys.find(principal, key)
        if standing is None:
            return None
        return TurnRef(standing.session_id, standing.turn, joined=True)

    # -- inside ----------------------------------------------------------------------------

    async def _without_key(
        self, principal: Principal, spec: ExecuteSpec, request_id: str, key: str | None = None
    ) -> TurnRef:
        if spec.session_id is None:
            if spec.joins:
                problem = "needs the session_id, or the Idempotency-Key, of the stream"
                raise InvalidRequest.field(spec.place_name, problem)
            with self._turns.starting(principal):
                return await self._start_new(principal, spec, request_id, key)
        state = await self.authorize(principal, spec.session_id)
        _check_names(principal, spec, state.info)
        if spec.resume_from is not None:
            return self._join(spec.session_id, state, spec)
        with self._turns.starting(principal):
            return await self._start_next(principal, state.info, spec, request_id, key)

    def _join(self, session_id: str, state: SessionState, spec: ExecuteSpec) -> TurnRef:
        current = state.current
        if current is None:
            raise InvalidRequest.field(spec.place_name, "the session has no turn to join")
        if current.goal_digest != digest(spec.goal):
            raise Conflict(
                f"the session's turn has another goal; leave out {spec.place_name} to start one"
            )
        return TurnRef(session_id, current.turn, spec.resume_from, joined=True)

    async def _start_new(
        self, principal: Principal, spec: ExecuteSpec, request_id: str, key: str | None
    ) -> TurnRef:
        if spec.agent_id is None:
            raise InvalidRequest.field("agent_id", "is required")
        info = await self._new_session(
            principal, CreateSpec(spec.agent_id, spec.context, {}, spec.subject)
        )
        request = await self._request(principal, spec, info, request_id, key)
        if key is not None:
            await self._keys.claim(principal, key, Claim(info.session_id, 1, spec.fingerprint()))
        try:
            async with self._supervisor.session(info.session_id, new=True) as session:
                turn = await session.start(request, if_busy=spec.if_busy, new=info)
        except ApiError:
            await self._release(principal, key)
            raise
        return TurnRef(info.session_id, turn.turn)

    async def _start_next(
        self,
        principal: Principal,
        info: SessionInfo | None,
        spec: ExecuteSpec,
        request_id: str,
        key: str | None,
    ) -> TurnRef:
        if info is None:
            raise SessionNotFound("no such session")
        request = await self._request(principal, spec, info, request_id, key)

        async def promise(number: int) -> None:
            """Name the turn by its key before it is recorded; see TurnIdempotency."""
            if key is not None:
                claim = Claim(info.session_id, number, spec.fingerprint())
                await self._keys.claim(principal, key, claim)

        for _ in range(_RACES):
            try:
                async with self._supervisor.session(info.session_id) as session:
                    turn = await session.start(request, if_busy=spec.if_busy, promise=promise)
                    return TurnRef(info.session_id, turn.turn)
            except PositionConflict:  # what we thought was refused has taken; look again
                await self._release(principal, key)
            except ApiError:
                await self._release(principal, key)
                raise
        raise SessionBusy("too many requests for one session at once", retry_after=1)

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
        await self._supervisor.agents.resolve(principal.organization_id, spec.agent_id)
        return SessionInfo(
            session_id=session_id or new_id("sess"),
            organization_id=principal.organization_id,
            agent_id=spec.agent_id,
            subject=subject,
            context=spec.context,
            metadata=spec.metadata,
            # Whole microseconds, as the records keep them: the list and the session say the same.
            created_at=round(self._now(), 6),
        )

    async def _request(
        self,
        principal: Principal,
        spec: ExecuteSpec,
        info: SessionInfo,
        request_id: str,
        key: str | None,
    ) -> Request:
        self._admit(info.organization_id)
        if spec.tools:
            await self._check_tools(spec.tools)
        agent = await self._supervisor.agents.resolve(info.organization_id, info.agent_id)
        defaults = Request(goal="", agent_id="")
        limits = self._supervisor.limits
        steps = spec.max_steps or _number(agent.defaults.get("max_steps"), defaults.max_steps)
        seconds = spec.timeout_seconds or _number(
            agent.defaults.get("timeout_seconds"), defaults.timeout_seconds
        )
        return Request(
            goal=spec.goal,
            agent_id=info.agent_id,
            context=spec.context,
            model=spec.model,
            tools=spec.tools,
            metadata=spec.metadata,
            max_steps=min(int(steps), limits.max_steps),
            timeout_seconds=min(seconds, limits.max_timeout),
            on_disconnect=spec.on_disconnect,
            key=None if key is None else key_digest(key),
            key_id=principal.key_id,
            request_id=request_id,
        )


def _check_names(principal: Principal, spec: ExecuteSpec, info: SessionInfo | None) -> None:
    """What a request names beside its session must be the session's. Raises InvalidRequest, and
    Forbidden for a token that is bound and names somebody else."""
    if info is None:
        raise SessionNotFound("no such session")
    if spec.agent_id is not None and spec.agent_id != info.agent_id:
        raise InvalidRequest.field("agent_id", "is not the agent of this session")
    if spec.subject is not None and spec.subject != info.subject:
        principal.subject_of_new(spec.subject)
        raise InvalidRequest.field("subject", "is not the subject of this session")


def _number(value: object, default: float) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        return value
    return default


def _may_see(principal: Principal, session_id: str, state: SessionState) -> bool:
    info = state.info
    return (
        info is not None
        and info.organization_id == principal.organization_id
        and principal.subject in {None, info.subject}
        and principal.session_id in {None, session_id}
        and principal.agent_id in {None, info.agent_id}
    )


IfBusy = Literal["reject", "enqueue", "interrupt"]
OnDisconnect = Literal["continue", "cancel"]


@dataclass(frozen=True, slots=True)
class CreateSpec:
    """A session to make."""

    agent_id: str
    context: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class ExecuteSpec:
    """A turn to start or to join; PROTOCOL.md, section 4, says what each field means.

    `agent_id` may be None only with a session. None elsewhere: not given.
    """

    goal: str
    agent_id: str | None = None
    session_id: str | None = None
    context: dict[str, Any] = field(default_factory=dict)
    resume_from: int | None = None
    max_steps: int | None = None
    timeout_seconds: float | None = None
    model: str | None = None
    tools: list[str] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    subject: str | None = None
    if_busy: IfBusy = "reject"
    on_disconnect: OnDisconnect = "continue"
    #: It was sent before, and its answer broke off: whatever it says, no turn is started.
    again: bool = False

    @property
    def joins(self) -> bool:
        """Whether this never starts a turn."""
        after = self.resume_from
        return self.again or (after is not None and (after > 0 or self.session_id is not None))

    @property
    def place_name(self) -> str:
        """What the caller called `resume_from`."""
        return "Last-Event-ID" if self.again else "resume_from"

    def fingerprint(self) -> str:
        """Equal for what counts as the same body under an Idempotency-Key."""
        said = (
            self.goal,
            self.agent_id,
            self.session_id,
            self.context,
            self.max_steps,
            self.timeout_seconds,
            self.model,
            self.tools,
            self.metadata,
            self.subject,
            self.if_busy,
        )
        return hashlib.sha256(dumps(said)).hexdigest()


@dataclass(frozen=True, slots=True)
class TurnRef:
    """A turn that was started, queued or joined. `resume_from` as the caller gave it."""

    session_id: str
    turn: int
    resume_from: int | None = None
    joined: bool = False


NAME = "running_turns"
#: Seconds that a client is told to wait: when a turn will end, nobody knows.
_RETRY_AFTER = 1.0


class TurnLimit:
    """Counts from what the log announces, so turns that a restart found count as well."""

    def __init__(
        self, most: int, reached: Reached = ignore_limit, *, of_organization: int = 0
    ) -> None:
        """`most` of a key and `of_organization`; 0: any number."""
        self._most = most
        self._of_organization = of_organization
        self._reached = reached
        #: By the id of a key or an organization.
        self._turns: Counter[str] = Counter()
        self._ids_of: dict[str, list[str]] = {}

    def count(self, whose: str) -> int:
        """Turns of this key or organization that run, wait or are just being started."""
        return self._turns[whose]

    def changed(self, state: SessionState) -> None:
        """A session's state has moved on."""
        if state.info is None:
            return
        session_id = state.info.session_id
        ids = [turn.key_id for turn in state.unended]
        if self._of_organization:
            ids += [state.info.organization_id] * len(ids)
        before = self._ids_of.get(session_id, [])
        if ids == before:
            return
        if ids:
            self._ids_of[session_id] = ids
        else:
            del self._ids_of[session_id]
        for whose in ids:
            self._turns[whose] += 1
        for whose in before:
            self._less(whose)

    @contextmanager
    def starting(self, principal: Principal) -> Iterator[None]:
        """A turn is started within this block, and counted by `changed` before it ends. Raises
        RateLimited; what is being started counts, or a hundred at once would all find room."""
        key_id, organization_id = principal.key_id, principal.organization_id
        if not principal.is_bootstrap:
            self._check(principal, key_id, self._most, "key", NAME)
            self._check(
                principal,
                organization_id,
                self._of_organization,
                "organization",
                ORGANIZATION + NAME,
            )
        self._turns.update((key_id, organization_id))
        try:
            yield
        finally:
            self._less(key_id)
            self._less(organization_id)

    def _check(self, principal: Principal, whose: str, most: int, who: str, name: str) -> None:
        if not most or self._turns[whose] < most:
            return
        self._reached(principal, name, most)
        raise RateLimited(
            f"this {who} may have {most} turns that run or wait at once; start more when some"
            " have ended",
            details={"limit": name, "most": most},
            retry_after=_RETRY_AFTER,
        )

    def _less(self, whose: str) -> None:
        self._turns[whose] -= 1
        if not self._turns[whose]:
            del self._turns[whose]
