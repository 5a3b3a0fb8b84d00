"""Turns as tasks: in 2025-11-25 a part of the protocol, in 2026-07-28 its extension for tasks.

The id of a task is the session and the turn. So any turn is a task, whoever started it, and nothing
is kept of a task beside its turn.
"""

from __future__ import annotations

from ...codec.times import rfc3339
from ...model.errors import NotFound, SessionNotFound
from ...model.principal import Principal
from ...sessions.request import TurnRef
from ...sessions.service import SessionService
from ...sessions.state import SessionState, TurnState
from ..forms import elicitation
from ..json_rpc import INVALID_PARAMS, Json, RpcError
from ..names import turn_named
from .encode import turn_result, waiting_text

#: What the server says of itself in `initialize`.
CAPABILITY: Json = {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}
#: Milliseconds after which a client may ask again.
_POLL_INTERVAL = 1_000
#: Sessions of a page, each with one task.
_PAGE = 50
_STATUS = {
    "queued": "working",
    "running": "working",
    "waiting": "input_required",
    "success": "completed",
    "cancelled": "cancelled",
    "failed": "failed",
    "timeout": "failed",
}


class TaskReader:
    """Reads tasks as their clients see them."""

    def __init__(self, service: SessionService) -> None:
        self._service = service

    async def ref(self, principal: Principal, task_id: object) -> TurnRef:
        """The turn of a task. Raises RpcError for one that the caller does not see."""
        return (await self._find(principal, task_id))[0]

    async def open_ref(self, principal: Principal, task_id: object) -> TurnRef:
        """The turn of a task. Raises RpcError for one that is not there, or has ended."""
        ref, _, turn = await self._find(principal, task_id)
        if not turn.is_open:
            problem = f"the task has ended: {_STATUS[turn.status]}"
            raise RpcError(INVALID_PARAMS, problem)
        return ref

    async def task(self, principal: Principal, task_id: object) -> Json:
        """The task as 2025-11-25 has it."""
        ref, state, turn = await self._find(principal, task_id)
        found = _task(ref, state, turn)
        if turn.status in {"waiting", "failed", "timeout"}:
            ended = await self._service.result(ref, 0)
            if ended["status"] == "waiting":
                found["statusMessage"] = waiting_text(ended["waiting"])
            elif "error" in ended:
                found["statusMessage"] = ended["error"]["message"]
        return found

    async def detailed(self, principal: Principal, task_id: object, *, elicits: bool) -> Json:
        """The task of the extension, with its result or with what it asks. `elicits`: its client
        can ask a person."""
        ref, state, turn = await self._find(principal, task_id)
        ended = await self._service.result(ref, 0)
        found = _task(ref, state, turn)
        found["status"] = status = _STATUS[ended["status"]]
        if status == "input_required":
            asks = ended["waiting"]
            found["statusMessage"] = waiting_text(asks)
            found["inputRequests"] = (
                {ask["call_id"]: elicitation(ask) for ask in asks} if elicits else {}
            )
        elif status in {"completed", "failed"}:
            found["result"] = turn_result(ref, ended, is_modern=True)
        return _extended(found)

    async def seed(self, principal: Principal, task_id: object) -> Json:
        """A new task of the extension."""
        return _extended(_task(*await self._find(principal, task_id)))

    async def page(self, principal: Principal, cursor: str | None) -> Json:
        """The newest turn of each session, the newest sessions first."""
        page = await self._service.list_sessions(
            principal, agent_id=None, status=None, limit=_PAGE, cursor=cursor
        )
        tasks: list[Json] = []
        for item in page.items:
            try:
                state = await self._service.authorize(principal, item["session_id"])
            except SessionNotFound:  # deleted meanwhile
                continue
            if state.turns:
                ref = TurnRef(item["session_id"], state.turns[-1].turn)
                tasks.append(_task(ref, state, state.turns[-1]))
        return {"tasks": tasks} | ({"nextCursor": page.next_cursor} if page.next_cursor else {})

    async def _find(
        self, principal: Principal, task_id: object
    ) -> tuple[TurnRef, SessionState, TurnState]:
        named = turn_named(task_id) if isinstance(task_id, str) else None
        if named is not None:
            try:
                state = await self._service.authorize(principal, named[0])
                turn = state.turn(named[1])
            except (SessionNotFound, NotFound):
                turn = None
            if turn is not None:
                return TurnRef(*named), state, turn
        raise RpcError(INVALID_PARAMS, "no such task")


def task_id_of(ref: TurnRef) -> str:
    return f"{ref.session_id}.{ref.turn}"


def _task(ref: TurnRef, state: SessionState, turn: TurnState) -> Json:
    updated_at = turn.ended_at or max(turn.queued_at, turn.started_at)
    if turn.is_open and turn is state.current:
        updated_at = max(updated_at, state.updated_at)
    return {
        "taskId": task_id_of(ref),
        "status": _STATUS[turn.status],
        "createdAt": rfc3339(turn.queued_at),
        "lastUpdatedAt": rfc3339(updated_at),
        "ttl": None,  # as long as its session
        "pollInterval": _POLL_INTERVAL,
    }


def _extended(task: Json) -> Json:
    """A task with the names that the extension has. An agent that fails is a tool's result there,
    and no failure of the protocol."""
    task["ttlMs"], task["pollIntervalMs"] = task.pop("ttl"), task.pop("pollInterval")
    if task["status"] == "failed":
        task["status"] = "completed"
    return task
