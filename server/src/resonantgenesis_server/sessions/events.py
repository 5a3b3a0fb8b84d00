"""The platform events of sessions and turns; their ids follow from what happened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from ..log.base import Entry
from ..model.events import NewEvent
from ..model.ids import event_id
from ..model.limits import KIB
from .chunks import beginning
from .state import SessionInfo, TurnState

#: Bytes of JSON of a goal that its event tells: all that the limit's default lets come.
_GOAL = 6 * 64 * KIB
#: Error codes that are the agent's doing; only these are told as agent.error.
_AGENT_CODES = frozenset({"AGENT_FAILED", "MODEL_UNAVAILABLE", "MAX_STEPS", "RATE_LIMITED"})


#: Written with the deletion of a session's streams: what follows from it is done by whoever is
#: told, now or at the next start.
SESSION_DELETED = "session.deleted"
#: Those that tell of a change of the session itself.
SESSION_EVENTS = frozenset(
    {
        "session.created",
        "session.started",
        "session.completed",
        "session.failed",
        "session.cancelled",
        SESSION_DELETED,
    }
)


def _metadata(info: SessionInfo, key_id: str | None, request_id: str | None) -> dict[str, Any]:
    said: dict[str, Any] = {
        "organization_id": info.organization_id,
        "key_id": key_id,
        "request_id": request_id,
    }
    if info.subject is not None:
        said["subject"] = info.subject
    return said


def session_created(info: SessionInfo, key_id: str, request_id: str) -> NewEvent:
    data = {"session_id": info.session_id, "agent_id": info.agent_id, "metadata": info.metadata}
    return NewEvent(
        event_id(info.session_id, "session.created"),
        "session.created",
        data,
        _metadata(info, key_id, request_id),
    )


def session_deleted(info: SessionInfo, key_id: str | None, request_id: str | None) -> NewEvent:
    """`key_id` and `request_id` None: nobody asked for it, its time was over."""
    said = _metadata(info, key_id, request_id)
    data = {"session_id": info.session_id, "agent_id": info.agent_id}
    return NewEvent(event_id(info.session_id, SESSION_DELETED), SESSION_DELETED, data, said)


def session_of_event(entry: Entry) -> str:
    """The session that one of these events tells of."""
    return str(orjson.loads(entry.body)["data"]["session_id"])


class TurnEvents:
    """Events of one turn."""

    def __init__(self, info: SessionInfo, turn: int, key_id: str, request_id: str) -> None:
        self.organization_id = info.organization_id
        self._info = info
        self._turn = turn
        self._metadata = _metadata(info, key_id, request_id)

    @classmethod
    def of(cls, info: SessionInfo, turn: TurnState) -> TurnEvents:
        return cls(info, turn.turn, turn.key_id, turn.request_id)

    def started(self, goal: str) -> NewEvent:
        told = beginning(goal, _GOAL)
        more = {} if told == goal else {"goal_truncated": True}
        return self._event("session.started", {"goal": told, **more})

    def step_completed(self, step: int, name: str, duration_ms: int) -> NewEvent:
        data = {"step": step, "name": name, "duration_ms": duration_ms}
        return self._event("session.step.completed", data, step)

    def ended(
        self, status: str, usage: Mapping[str, int], error_code: str | None, error: str | None
    ) -> list[NewEvent]:
        """What belongs into the append of a turn's `done`."""
        tokens = usage["input_tokens"] + usage["output_tokens"]
        data: dict[str, Any] = {
            "status": status,
            "steps": usage["steps"],
            "duration_ms": usage["duration_ms"],
            "tokens_used": tokens,
        }
        kind = "session.completed"
        if status == "cancelled":
            kind = "session.cancelled"
        elif status != "success":
            kind = "session.failed"
            data |= {"error_code": error_code, "error": error}
        recorded = self._event("billing.usage.recorded", {"status": status, **usage})
        events = [self._event(kind, data), recorded]
        if error_code in _AGENT_CODES:
            events.append(self._event("agent.error", {"error_code": error_code, "error": error}))
        return events

    def _event(self, kind: str, data: Mapping[str, Any], *detail: int) -> NewEvent:
        info = self._info
        named = {"session_id": info.session_id, "agent_id": info.agent_id, "turn": self._turn}
        return NewEvent(
            event_id(info.session_id, self._turn, kind, *detail),
            kind,
            {**named, **data},
            self._metadata,
        )
