"""What callers ask for, and what they get back; no transport in it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

from ..codec.json import dumps

IfBusy = Literal["reject", "enqueue", "interrupt"]
OnDisconnect = Literal["continue", "cancel"]


@dataclass(frozen=True, slots=True)
class CreateSpec:
    """A session to make."""

    agent_id: str
    context: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class ExecuteSpec:
    """A turn to start or to join; PROTOCOL.md, section 4, says what each field means.

    `agent_id` may be None only with a session. None elsewhere: not given.
    """

    goal: str
    agent_id: str | None = None
    session_id: str | None = None
    context: dict[str, Any] = field(default_factory=dict)
    resume_from: int | None = None
    max_steps: int | None = None
    timeout_seconds: float | None = None
    model: str | None = None
    tools: list[str] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    subject: str | None = None
    if_busy: IfBusy = "reject"
    on_disconnect: OnDisconnect = "continue"
    #: It was sent before, and its answer broke off: whatever it says, no turn is started.
    again: bool = False

    @property
    def joins(self) -> bool:
        """Whether this never starts a turn."""
        after = self.resume_from
        return self.again or (after is not None and (after > 0 or self.session_id is not None))

    @property
    def place_name(self) -> str:
        """What the caller called `resume_from`."""
        return "Last-Event-ID" if self.again else "resume_from"

    def fingerprint(self) -> str:
        """Equal for what counts as the same body under an Idempotency-Key."""
        said = (
            self.goal,
            self.agent_id,
            self.session_id,
            self.context,
            self.max_steps,
            self.timeout_seconds,
            self.model,
            self.tools,
            self.metadata,
            self.subject,
            self.if_busy,
        )
        return hashlib.sha256(dumps(said)).hexdigest()


@dataclass(frozen=True, slots=True)
class TurnRef:
    """A turn that was started, queued or joined. `resume_from` as the caller gave it."""

    session_id: str
    turn: int
    resume_from: int | None = None
    joined: bool = False
