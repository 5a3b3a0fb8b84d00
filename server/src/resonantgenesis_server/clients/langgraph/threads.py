"""Threads, runs and states of LangGraph's API, as sessions and turns show them.

A thread's name is the client's, and any UUID is one: a thread without runs is empty. A run is a
turn. Its id is a UUID that has the turn's number, and so has the id of the checkpoint behind it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

from ...codec.times import rfc3339
from ...model.errors import NotFound
from ...model.principal import Principal
from ...sessions.service import SessionService, described
from ...sessions.state import SessionState, TurnState
from ..names import SessionAlias
from .messages import MESSAGE_ID, MOST_MESSAGES, Json, interrupts_in, page_messages

PATH = "/langgraph"
PROTOCOL = "langgraph"
#: The entry of a session's metadata that names its thread.
THREAD = "thread_id"
_PAGE = 500
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_RUN_STATUS: Mapping[str, str] = {
    "queued": "pending",
    "running": "running",
    "waiting": "interrupted",
    "success": "success",
    "failed": "error",
    "timeout": "timeout",
    "cancelled": "interrupted",
}
_THREAD_STATUS: Mapping[str, str] = {
    "queued": "busy",
    "running": "busy",
    "waiting": "interrupted",
    "failed": "error",
    "timeout": "error",
}


def alias_of(thread_id: str) -> SessionAlias:
    return SessionAlias(PROTOCOL, None, thread_id)


def is_uuid(text: str) -> bool:
    return _UUID.fullmatch(text) is not None


def new_name(key: str | None = None) -> str:
    """A thread's name that nobody has given; with an Idempotency-Key the same on each repeat."""
    return str(uuid4() if key is None else uuid5(NAMESPACE_OID, key))


def run_id(session_id: str, turn: int, part: int = 0) -> str:
    """The id of a turn's run: the turn's number, then a digest of its session. A turn that has
    waited `part` times is a further run to clients of the thread protocol."""
    name = _numbered_uuid("run", session_id, turn)
    return f"{name[:-4]}{int(name[-4:], 16) ^ (part & 0xFFFF):04x}"


def checkpoint_id(session_id: str, turn: int) -> str:
    """The id of the state behind a turn; 0: of the state in which the thread began."""
    return _numbered_uuid("checkpoint", session_id, turn)


def step_of(turn: int, *, ended: bool) -> int:
    """The number of the state behind a turn, or behind the part of an open one that is told."""
    return 2 * turn + 1 if ended else 2 * turn - 1


def turn_of(run: str, session_id: str) -> int:
    """The turn of a run of this session. Raises NotFound."""
    turn = int(run[:8], 16) if is_uuid(run) else 0
    if not turn or run.lower()[:-4] != run_id(session_id, turn)[:-4]:
        raise NotFound("the thread has no such run")
    return turn


def _numbered_uuid(kind: str, session_id: str, number: int) -> str:
    digest = hashlib.sha256(f"{kind}\0{session_id}".encode()).hexdigest()
    # Version 8 is for layouts of one's own (RFC 9562, section 5.8).
    return str(UUID(f"{number:08x}{digest[:4]}8{digest[4:7]}8{digest[7:22]}"))


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread and its session, as they were when it was read."""

    thread_id: str
    session_id: str
    state: SessionState

    @property
    def agent_id(self) -> str:
        return "" if self.state.info is None else self.state.info.agent_id


def name_of(session: Mapping[str, Any], principal: Principal) -> str:
    """The thread's name: the client's own, if the session was made for it, else the session's."""
    named = session["metadata"].get(THREAD)
    own = isinstance(named, str) and alias_of(named).session_id(principal) == session["session_id"]
    return named if own and isinstance(named, str) else session["session_id"]


def thread_json(thread_id: str, session: Mapping[str, Any]) -> Json:
    """A thread; `session` is as `SessionService` describes it."""
    agent_id = session["agent_id"]
    return {
        "thread_id": thread_id,
        "created_at": session["created_at"],
        "updated_at": session["updated_at"],
        "state_updated_at": session["updated_at"],
        "metadata": {**session["metadata"], "graph_id": agent_id, "assistant_id": agent_id},
        "status": _THREAD_STATUS.get(session["status"], "idle"),
        "config": {},
        "values": None,
        "interrupts": {},
    }


def empty_thread(thread_id: str, metadata: Mapping[str, Any] | None, now: float) -> Json:
    """A thread without runs."""
    at = rfc3339(now)
    none = {"agent_id": "", "created_at": at, "updated_at": at, "status": "created"}
    thread = thread_json(thread_id, none | {"metadata": {}})
    return thread | {"metadata": dict(metadata or {})}


def run_status(turn: TurnState) -> str:
    return _RUN_STATUS[turn.status]


def run_json(thread: Thread, turn: TurnState, metadata: Mapping[str, Any]) -> Json:
    at = rfc3339(turn.queued_at)
    return {
        "run_id": run_id(thread.session_id, turn.turn),
        "thread_id": thread.thread_id,
        "assistant_id": thread.agent_id,
        "created_at": at,
        "updated_at": rfc3339(turn.ended_at or turn.started_at or turn.queued_at),
        "status": run_status(turn),
        "metadata": {name: of for name, of in metadata.items() if name != MESSAGE_ID},
        "multitask_strategy": "enqueue",
        "kwargs": {},
    }


def assistant_json(agent_id: str, name: str, created_at: float, updated_at: float) -> Json:
    return {
        "assistant_id": agent_id,
        "graph_id": agent_id,
        "name": name or agent_id,
        "description": None,
        "config": {},
        "context": {},
        "metadata": {"created_by": "system"},
        "version": 1,
        "created_at": rfc3339(created_at),
        "updated_at": rfc3339(updated_at),
    }


def graph_json(agent_id: str) -> Json:
    """An agent is a graph of one node."""
    node = {"id": "agent", "type": "runnable", "data": {"id": ["agent"], "name": agent_id}}
    ends = [{"id": name, "type": "schema", "data": name} for name in ("__start__", "__end__")]
    edges = [
        {"source": "__start__", "target": "agent"},
        {"source": "agent", "target": "__end__"},
    ]
    return {"nodes": [ends[0], node, ends[1]], "edges": edges}


def schemas_json(agent_id: str) -> Json:
    message = {"type": "object", "properties": {"type": {"type": "string"}, "content": {}}}
    messages = {"messages": {"type": "array", "items": message}}
    state = {"type": "object", "properties": messages}
    anything = {"type": "object"}
    return {
        "graph_id": agent_id,
        "input_schema": state,
        "output_schema": state,
        "state_schema": state,
        "config_schema": anything,
        "context_schema": anything,
    }


class ThreadReader:
    """Reads what a thread says. Raises ApiError and LogError."""

    def __init__(self, service: SessionService) -> None:
        self._service = service

    async def messages(
        self, principal: Principal, thread: Thread, *, limit: int = MOST_MESSAGES
    ) -> list[Json]:
        """The newest messages of the session's pages, the oldest first."""
        found: list[Json] = []
        cursor: str | None = None
        while len(found) < limit:
            page = await self._service.conversations.messages(
                principal, thread.session_id, limit=min(_PAGE, limit - len(found)), cursor=cursor
            )
            found[:0] = page.messages
            cursor = page.next_cursor
            if cursor is None:
                break
        return found

    async def before(self, principal: Principal, thread: Thread, turn: int) -> list[Json]:
        """LangChain's messages of the turns before this one."""
        pages = await self.messages(principal, thread)
        return page_messages([each for each in pages if _is_before(each, thread, turn)])

    async def describe(self, principal: Principal, thread: Thread) -> Json:
        """The thread with its values."""
        pages = await self.messages(principal, thread)
        interrupts = {each["id"]: [each] for each in _open(pages)}
        values = {"messages": page_messages(pages)}
        described_thread = thread_json(thread.thread_id, described(thread.state))
        return described_thread | {"values": values, "interrupts": interrupts}

    async def values(self, principal: Principal, thread: Thread, turn: int) -> Json:
        """The thread's values behind a turn, as a run answers with them."""
        pages = await self.messages(principal, thread)
        shown = [each for each in pages if _is_before(each, thread, turn + 1)]
        values: Json = {"messages": page_messages(shown)}
        interrupts = _open(shown)
        return values | {"__interrupt__": interrupts} if interrupts else values

    async def states(
        self, principal: Principal, thread: Thread, *, limit: int, before: int | None = None
    ) -> list[Json]:
        """The states behind the turns that began, the newest first; `before`: only those before
        this turn."""
        pages = await self.messages(principal, thread)
        turns = [turn for turn in thread.state.turns if turn.first and not turn.replaced_by]
        if before is not None:
            turns = [turn for turn in turns if turn.turn < before]
        found: list[Json] = []
        for index in range(len(turns) - 1, max(len(turns) - 1 - limit, -1), -1):
            shown = [each for each in pages if _is_before(each, thread, turns[index].turn + 1)]
            earlier = turns[index - 1].turn if index else None
            found.append(_state_json(thread, turns[index], shown, earlier))
        return found


def empty_state(thread_id: str) -> Json:
    """The state of a thread without runs."""
    return {
        "values": {},
        "next": [],
        "tasks": [],
        "metadata": {},
        "created_at": None,
        "checkpoint": {"thread_id": thread_id, "checkpoint_ns": "", "checkpoint_id": None},
        "parent_checkpoint": None,
        "interrupts": [],
    }


def _is_before(message: Mapping[str, Any], thread: Thread, turn: int) -> bool:
    number: int = message["turn"]
    return message["session_id"] != thread.session_id or number < turn


def _open(pages: Sequence[Mapping[str, Any]]) -> list[Json]:
    """The interrupts that the newest answer waits for."""
    return interrupts_in(pages[-1]["parts"]) if pages and pages[-1]["status"] == "waiting" else []


def _state_json(
    thread: Thread, turn: TurnState, shown: Sequence[Mapping[str, Any]], earlier: int | None
) -> Json:
    interrupts = _open(shown)
    failed = turn.status in {"failed", "timeout"}
    tasks: list[Json] = []
    if turn.is_open or failed:
        error = _error(shown) if failed else None
        task = {"id": run_id(thread.session_id, turn.turn), "name": "agent", "error": error}
        more = {"checkpoint": None, "state": None, "result": None, "path": ["__pregel_pull"]}
        tasks = [task | more | {"interrupts": interrupts}]
    run, step = run_id(thread.session_id, turn.turn), step_of(turn.turn, ended=not turn.is_open)
    return empty_state(thread.thread_id) | {
        "values": {"messages": page_messages(shown)},
        "next": ["agent"] if tasks else [],
        "tasks": tasks,
        "metadata": {"run_id": run, "source": "loop", "step": step, "writes": None},
        "created_at": rfc3339(turn.ended_at or turn.started_at),
        "checkpoint": _checkpoint(thread, turn.turn),
        "parent_checkpoint": None if earlier is None else _checkpoint(thread, earlier),
        "interrupts": interrupts,
    }


def _checkpoint(thread: Thread, turn: int) -> Json:
    named = {"thread_id": thread.thread_id, "checkpoint_ns": "", "checkpoint_map": {}}
    return named | {"checkpoint_id": checkpoint_id(thread.session_id, turn)}


def _error(shown: Sequence[Mapping[str, Any]]) -> str | None:
    parts = shown[-1]["parts"] if shown else ()
    return next((part["message"] for part in parts if part["type"] == "error"), None)
