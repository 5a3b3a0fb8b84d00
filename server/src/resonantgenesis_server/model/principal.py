"""Who is asking: the outcome of authentication."""

from __future__ import annotations

from dataclasses import dataclass

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

    def allows(self, scope: str) -> bool:
        """Whether `scope` (e.g. `sessions:write`) is granted."""
        return "*" in self.scopes or scope in self.scopes
