"""The caller of a request, as authentication finds it, and what is told when it meets a limit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from .errors import Forbidden

#: What scopes can be about; each with `:read` or `:write`, and `*` for everything.
RESOURCES = (
    "agents", "sessions", "events", "files", "teams", "webhooks", "usage", "keys", "tokens",
)  # fmt: skip
SCOPES = frozenset({"*", *(f"{r}:{mode}" for r in RESOURCES for mode in ("read", "write"))})


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller.

    An API key has no `subject` and sees its whole organization. A client token may be bound to a
    subject, to one session, to one agent, and ends at `expires_at` (seconds since 1970);
    `signed_by` is the id of the key that signed it.
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

    @property
    def is_bound(self) -> bool:
        """Whether it sees less than its organization."""
        return (self.subject, self.session_id, self.agent_id) != (None, None, None)

    @property
    def idempotency_scope(self) -> str:
        """Within its organization: callers of the same one share their Idempotency-Keys. A token's
        is what it is bound to, so that it cannot learn of the keys of others, nor take them."""
        if self.session_id is None and self.agent_id is None:
            subject = self.subject or ""
            if not subject.startswith("["):  # what a list below looks like
                return subject
        return json.dumps([self.subject, self.session_id, self.agent_id])

    def subject_of_new(self, named: str | None) -> str | None:
        """Who something new belongs to, where the caller named this subject. Raises `Forbidden`
        when it is bound and named another than its own."""
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
