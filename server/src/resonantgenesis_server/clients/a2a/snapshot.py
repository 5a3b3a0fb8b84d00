"""A task as it is: found by its id, and folded from what its turn has said."""

from __future__ import annotations

from ...codec.json import loads
from ...codec.times import rfc3339
from ...model.errors import SessionNotFound
from ...model.principal import Principal
from ...sessions.history import EntryGone
from ...sessions.request import TurnRef
from ...sessions.service import SessionService
from ...sessions.state import SessionState, TurnState
from ..json_rpc import RpcError, RpcId
from ..names import turn_named
from ..streams import turn_chunks
from .encode import TaskFrames, TaskInfo
from .errors import NO_TASK

#: The key under which a turn keeps the client's name of its session.
CONTEXT = "a2a_context_id"


async def task_turn(
    service: SessionService, principal: Principal, agent_id: str, task_id: str
) -> tuple[TurnRef, TurnState]:
    """The turn of a task of this agent that the caller sees. Raises RpcError."""
    named = turn_named(task_id)
    try:
        session = await service.authorize(principal, named[0] if named else "")
    except SessionNotFound:
        session = None
    turn = None
    if session is not None and session.info is not None and session.info.agent_id == agent_id:
        turn = session.turn(named[1]) if named else None
    if named is None or turn is None:
        raise RpcError(NO_TASK, "there is no such task")
    return TurnRef(*named), turn


async def task_frames(
    service: SessionService,
    ref: TurnRef,
    *,
    is_old: bool,
    is_proto: bool = False,
    rpc_id: RpcId | None = None,
) -> TaskFrames:
    """The fold of a task, before its first chunk. Raises RpcError."""
    state = await service.states.load(ref.session_id)
    turn = None if state is None else state.turn(ref.turn)
    if state is None or turn is None:
        raise RpcError(NO_TASK, "the task was deleted")
    try:
        asked = await service.supervisor.history.request(ref.session_id, turn)
    except EntryGone:
        raise RpcError(NO_TASK, "the task was deleted") from None
    context_id = asked.metadata.get(CONTEXT, ref.session_id)
    info = TaskInfo(ref.session_id, ref.turn, context_id, asked.goal, is_old, is_proto)
    return TaskFrames(info, rpc_id)


async def task_so_far(
    service: SessionService,
    ref: TurnRef,
    *,
    is_old: bool,
    is_proto: bool = False,
    rpc_id: RpcId | None = None,
    until: int | None = None,
) -> tuple[TaskFrames, int]:
    """The task as it is now, and the number of its events; `until`: as it was at this time, in
    microseconds since 1970."""
    task = await task_frames(service, ref, is_old=is_old, is_proto=is_proto, rpc_id=rpc_id)
    count = 0
    async for entry in turn_chunks(service, ref):
        if until is not None and entry.at > until:
            break
        count += len(task.frames(entry.kind, loads(entry.body)))
    state = await service.states.load(ref.session_id)
    turn = None if state is None else state.turn(ref.turn)
    if state is not None and turn is not None:
        if turn.first and task.state == "SUBMITTED":
            task.state = "WORKING"  # it has begun, and said nothing yet
        task.changed_at = rfc3339(changed_at(state, turn) if until is None else until / 1e6)
    return task, count


def changed_at(session: SessionState, turn: TurnState) -> float:
    """When the task has last changed, in seconds since 1970."""
    return turn.ended_at if turn.last else session.updated_at
