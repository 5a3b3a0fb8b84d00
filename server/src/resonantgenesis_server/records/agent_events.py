"""The events that a change of an agent makes (PROTOCOL.md, section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..model.events import NewEvent
from ..model.ids import new_id
from .base import AgentRecord, Told

#: Characters of the instructions that an event shows; the agent itself has them all.
SHOWN_INSTRUCTIONS = 1_000
_FIELDS = ("name", "engine", "instructions", "model", "tools", "defaults")


def agent_event(
    kind: str, agent: AgentRecord, told: Told, changes: Mapping[str, Any] | None = None
) -> NewEvent:
    """`kind` is created, updated or deleted.

    The id is random: it is made once and kept with the change, so a repeat on the way to the log
    has the same one.
    """
    metadata: dict[str, Any] = {
        "organization_id": agent.organization_id,
        "key_id": told.key_id,
        "request_id": told.request_id,
    }
    if told.subject is not None:
        metadata["subject"] = told.subject
    data = {"agent_id": agent.id, "name": agent.name, "changes": dict(changes or {})}
    return NewEvent(new_id("evt"), f"agent.{kind}", data, metadata)


def changed_fields(before: AgentRecord, after: AgentRecord) -> dict[str, Any]:
    """The new values of the fields that differ."""
    return {
        name: _shown(name, getattr(after, name))
        for name in _FIELDS
        if getattr(before, name) != getattr(after, name)
    }


def _shown(name: str, value: Any) -> Any:
    if name == "instructions" and value is not None:
        return value[:SHOWN_INSTRUCTIONS]
    return value
