"""What the nodes of one store ask each other about sessions.

Reading needs nobody else: the log shows everything. Only the node that runs a session's turns can
start, queue and stop turns of it; the others ask it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from ..calls import Calls, NoAnswer
from ..log.base import PositionConflict, StaleWriter
from ..model.errors import Unavailable
from ..model.principal import Principal
from .answers import InputRequest, InputResult
from .ownership import Elsewhere
from .request import TurnRef, TurnRequest
from .session import Session
from .session_list import SessionList
from .start import TurnStarter
from .supervisor import Supervisor

T = TypeVar("T")
#: Changes a session that is written here; see `SessionPeers.ask`.
Change = Callable[[Session, Mapping[str, Any]], Awaitable[Any]]
#: Seconds after which a request gives up on a node that neither answers nor is declared dead.
_PATIENCE = 20.0
#: Seconds between two looks at where a session runs.
_PAUSE = 0.1
#: Attempts while others write the session.
_RACES = 3


class SessionPeers:
    """Does things where a session runs: here, or by a call to its node."""

    def __init__(
        self,
        supervisor: Supervisor,
        starter: TurnStarter,
        session_list: SessionList,
        calls: Calls | None,
    ) -> None:
        """`calls` is None for a process that is alone."""
        self._supervisor = supervisor
        self._starter = starter
        self._list = session_list
        self._calls = calls
        self._changes: dict[str, Change] = {}
        if calls is not None:
            calls.handlers |= {
                "execute": self._execute,
                "cancel": self._cancel,
                "answer": self._answer,
                "expire": self._expire,
                "settle": self._settle,
                "viewed": self._viewed,
            }

    async def execute(
        self, principal: Principal, request: TurnRequest, *, key: str | None, request_id: str
    ) -> TurnRef:
        """Start, queue or join a turn where its session runs; see TurnStarter."""
        try:
            return await self._starter.execute(principal, request, key=key, request_id=request_id)
        except Elsewhere:
            # A call may be done without an answer, and is repeated then: the key makes it one turn.
            named = key or f"call {secrets.token_hex(16)}"
        return await self._where_it_runs(
            lambda: self._starter.execute(principal, request, key=named, request_id=request_id),
            "execute",
            {
                "principal": {**asdict(principal), "scopes": sorted(principal.scopes)},
                "request": _known_to_all(request),
                "key": named,
                "request_id": request_id,
            },
            lambda ref: TurnRef(**ref),
        )

    def offer(self, verb: str, change: Change) -> None:
        """Let all nodes ask for this change of a session; see `ask`."""
        self._changes[verb] = change
        if self._calls is not None:
            self._calls.handlers[verb] = lambda args: _not_further(self._change(verb, args))

    async def ask(self, verb: str, args: Mapping[str, Any], *, kept: bool = False) -> Any:
        """Make an offered change to the session `args["session_id"]`, where its turns run. `args`
        and the answer have JSON forms. `kept`: also to one that only its forks see."""
        args = {**args, "kept": kept}
        return await self._where_it_runs(
            lambda: self._change(verb, args), verb, args, lambda answer: answer
        )

    async def _change(self, verb: str, args: Mapping[str, Any]) -> Any:
        for _ in range(_RACES):
            try:
                opened = self._supervisor.session(args["session_id"], kept=args["kept"])
                async with opened as session:
                    return await self._changes[verb](session, args)
            except Elsewhere:
                raise
            except (PositionConflict, StaleWriter):
                continue  # another node has just written here
        raise NoAnswer("the session is written by several nodes at once")

    async def cancel(self, session_id: str, turn: int | None) -> list[int]:
        """Cancel where the session runs; the numbers of the turns that end so."""
        return await self._where_it_runs(
            lambda: self._cancel_here(session_id, turn),
            "cancel",
            {"session_id": session_id, "turn": turn},
            list,
        )

    async def answer(
        self, session_id: str, request: InputRequest, key_id: str, request_id: str
    ) -> InputResult:
        """Answer what a turn asks, where its session runs; if it runs nowhere, here."""
        return await self._where_it_runs(
            lambda: self._answer_here(session_id, request, key_id, request_id),
            "answer",
            {
                "session_id": session_id,
                "request": asdict(request),
                "key_id": key_id,
                "request_id": request_id,
            },
            lambda result: InputResult(**result),
        )

    async def expire(self, session_id: str) -> int:
        """Record which asks have expired, where the session runs; returns how many."""
        return await self._where_it_runs(
            lambda: self._here(session_id, Session.expire),
            "expire",
            {"session_id": session_id},
            int,
        )

    async def _cancel_here(self, session_id: str, turn: int | None) -> list[int]:
        return await self._here(session_id, lambda session: session.cancel(turn))

    async def _answer_here(
        self, session_id: str, request: InputRequest, key_id: str, request_id: str
    ) -> InputResult:
        return await self._here(
            session_id, lambda session: session.answer(request, key_id, request_id)
        )

    async def _here(self, session_id: str, work: Callable[[Session], Awaitable[T]]) -> T:
        for _ in range(_RACES):
            try:
                async with self._supervisor.session(session_id) as session:
                    return await work(session)
            except Elsewhere:
                raise
            except (PositionConflict, StaleWriter):
                continue  # another node has just written here
        raise NoAnswer("the session is written by several nodes at once")

    async def settle(self, organization_id: str) -> None:
        """Return when the list shows all of this organization that the log showed before."""
        if self._calls is None:
            await self._list.settle()
            return
        did = await self._calls.all_do("settle", {})
        await self._list.settle_all(organization_id, others_did=did)

    async def is_viewed(self, session_id: str, seconds: float) -> bool:
        """Whether somebody reads the session at another node, or has within so many seconds."""
        if self._calls is None:
            return False
        args = {"session_id": session_id, "seconds": seconds}
        return any(await self._calls.ask_all("viewed", args))

    async def _where_it_runs(
        self,
        here: Callable[[], Awaitable[T]],
        verb: str,
        args: Mapping[str, Any],
        read: Callable[[Any], T],
    ) -> T:
        deadline = asyncio.get_running_loop().time() + _PATIENCE
        while True:
            try:
                return await here()
            except Elsewhere as error:
                if self._calls is None:
                    raise
                node = error.node
            try:
                return read(await self._calls.call(node, verb, args))
            except NoAnswer:
                if asyncio.get_running_loop().time() >= deadline:
                    raise Unavailable(
                        "the node that runs this session does not answer", retry_after=1
                    ) from None
            await asyncio.sleep(_PAUSE)

    # -- asked by other nodes --------------------------------------------------------------

    async def _execute(self, args: Mapping[str, Any]) -> dict[str, Any]:
        named = dict(args["principal"])
        principal = Principal(**{**named, "scopes": frozenset(named["scopes"])})
        request = TurnRequest(**args["request"])
        execute = self._starter.execute(
            principal, request, key=args["key"], request_id=args["request_id"]
        )
        return asdict(await _not_further(execute))

    async def _cancel(self, args: Mapping[str, Any]) -> list[int]:
        return await _not_further(self._cancel_here(args["session_id"], args["turn"]))

    async def _answer(self, args: Mapping[str, Any]) -> dict[str, Any]:
        request = InputRequest(**args["request"])
        answer = self._answer_here(args["session_id"], request, args["key_id"], args["request_id"])
        return asdict(await _not_further(answer))

    async def _expire(self, args: Mapping[str, Any]) -> int:
        return await _not_further(self._here(args["session_id"], Session.expire))

    async def _settle(self, _args: Mapping[str, Any]) -> None:
        await self._list.settle()

    async def _viewed(self, args: Mapping[str, Any]) -> bool:
        return self._supervisor.states.is_viewed(args["session_id"], args["seconds"])


async def _not_further(work: Awaitable[T]) -> T:
    """A call is not passed on: whoever made it looks again."""
    try:
        return await work
    except Elsewhere as error:
        raise NoAnswer from error


def _known_to_all(request: TurnRequest) -> dict[str, Any]:
    """Nodes of earlier versions do not know the place in a trace, and most turns have none."""
    fields = asdict(request)
    if not request.traceparent:
        del fields["traceparent"]
    return fields
