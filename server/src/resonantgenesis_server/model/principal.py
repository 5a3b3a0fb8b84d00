"""The authenticated caller of a request, and the callback for a limit that it meets."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from .errors import Forbidden

#: The nouns of scopes. Each has `:read` and `:write`; the scope `*` stands for all.
RESOURCES = (
    "agents", "sessions", "events", "files", "teams", "webhooks", "usage", "keys", "tokens",
    "subjects",
)  # fmt: skip
#: Takes turns of agents as a worker.
SERVE = "agents:serve"
#: Sees the organization's live figures.
METRICS = "metrics:read"
#: Sees who has administered what.
AUDIT = "audit:read"
SCOPES = frozenset(
    {"*", SERVE, METRICS, AUDIT, *(f"{r}:{mode}" for r in RESOURCES for mode in ("read", "write"))}
)


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller.

    An API key has no `subject` and sees its whole organization. A client token may be bound to a
    subject, to a session and to an agent. It ends at `expires_at` (seconds since 1970). `signed_by`
    is the id of the signing key. The token of a sign-in can be renewed until `renewable_until`.
    """

    organization_id: str
    key_id: str
    scopes: frozenset[str]
    subject: str | None = None
    session_id: str | None = None
    agent_id: str | None = None
    expires_at: float | None = None
    is_bootstrap: bool = False
    signed_by: str | None = None
    renewable_until: float | None = None

    @property
    def is_bound(self) -> bool:
        """Whether the caller sees less than its organization."""
        return (self.subject, self.session_id, self.agent_id) != (None, None, None)

    @property
    def idempotency_scope(self) -> str:
        """The scope of its Idempotency-Keys in the organization; callers of one scope share them.

        The scope of a token follows from its bounds. So it can neither learn nor take the
        Idempotency-Keys of others.
        """
        if self.session_id is None and self.agent_id is None:
            subject = self.subject or ""
            if not subject.startswith("["):  # else it could equal a list below
                return subject
        return json.dumps([self.subject, self.session_id, self.agent_id])

    def subject_of_new(self, named: str | None) -> str | None:
        """The subject of a new thing, for which the caller named the subject `named` (or none).

        Raises `Forbidden` if the caller is bound and named another subject than its own.
        """
        if self.is_bound and named not in {None, self.subject}:
            own = "without a subject" if self.subject is None else "to another subject"
            raise Forbidden(f"this token is bound {own}; leave `subject` out")
        return self.subject or named

    def allows(self, scope: str) -> bool:
        """Whether `scope` (e.g. `sessions:write`) is granted."""
        return "*" in self.scopes or scope in self.scopes


#: The prefix of limits that an organization's keys share.
ORGANIZATION = "organization_"

#: Takes the principal that met a limit, the limit's name and its value. Never waits or raises.
Reached = Callable[[Principal, str, int], None]


def ignore_limit(_principal: Principal, _name: str, _limit: int) -> None:
    """The `Reached` of a server without events."""
