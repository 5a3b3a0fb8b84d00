"""Platform events: their channels, and the types that only the server writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Channel by the first segment of a type; PROTOCOL.md, section 5.
_CHANNEL_OF = {
    "session": "sessions",
    "agent": "agents",
    "team": "teams",
    "webhook": "webhooks",
    "billing": "billing",
    "system": "system",
    "app": "app",
}
CHANNELS = tuple(_CHANNEL_OF.values())
PREFIXES = tuple(_CHANNEL_OF)

#: Types that only the server writes. Users may publish other team.*, billing.* and system.* types.
SERVER_TYPES = frozenset(
    {
        "session.created",
        "session.started",
        "session.step.completed",
        "session.waiting",
        "session.resumed",
        "session.completed",
        "session.failed",
        "session.cancelled",
        "session.deleted",
        "agent.created",
        "agent.updated",
        "agent.deleted",
        "agent.error",
        "team.created",
        "team.updated",
        "team.deleted",
        "team.task.assigned",
        "team.task.completed",
        "team.task.failed",
        "team.execution.started",
        "team.execution.completed",
        "team.execution.failed",
        "team.execution.cancelled",
        "webhook.sent",
        "webhook.failed",
        "webhook.disabled",
        "billing.usage.recorded",
        "billing.limit.reached",
        "system.node.started",
        "system.node.draining",
        "system.limit.reached",
        "system.audit.agent.created",
        "system.audit.agent.updated",
        "system.audit.agent.deleted",
        "system.audit.certificate.read",
        "system.audit.key.created",
        "system.audit.key.revoked",
        "system.audit.link.created",
        "system.audit.organization.created",
        "system.audit.organization.updated",
        "system.audit.organization.deleted",
        "system.audit.secret.retired",
        "system.audit.secret.rotated",
        "system.audit.signing_key.rotated",
        "system.audit.subject.deleted",
        "system.audit.team.created",
        "system.audit.team.updated",
        "system.audit.team.deleted",
        "system.audit.token.created",
        "system.audit.token.renewed",
        "system.audit.webhook.created",
        "system.audit.webhook.updated",
        "system.audit.webhook.rotated",
        "system.audit.webhook.deleted",
    }
)
#: The beginning of the types that tell of administrative acts.
AUDIT = "system.audit."
#: First segments under which users may publish.
PUBLISHABLE = frozenset({"app", "team", "billing", "system"})


def channel_of(kind: str) -> str | None:
    """The channel of an event type; None for a type of no channel."""
    return _CHANNEL_OF.get(kind.partition(".")[0])


def prefix_of(channel: str) -> str | None:
    """The first segment of a channel's types; None for no channel."""
    return next((first for first, name in _CHANNEL_OF.items() if name == channel), None)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event that is not written yet. `created_at` and `cursor` come with the commit."""

    id: str
    type: str
    data: Mapping[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)


def event_stream(organization_id: str) -> str:
    """The log stream of an organization's events."""
    return f"events:{organization_id}"


def audit_stream(organization_id: str) -> str:
    """The log stream that has an organization's acts of administration once more: they are kept
    longer than its events."""
    return f"audit:{organization_id}"
