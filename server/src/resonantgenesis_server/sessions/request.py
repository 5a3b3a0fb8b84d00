"""Requests for a session to make, and for a turn to start or to join."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from ..codec.json import dumps
from ..log.base import NewEntry

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
class TurnRequest:
    """The request of a turn; PROTOCOL.md, section 4, says what each field means.

    `agent_id` may be None only with a session. `max_steps` and `timeout_seconds` are 0 where the
    caller leaves the choice to the agent; TurnStarter fills them in, and the caller's `key` (the
    digest of its Idempotency-Key), `key_id` and `request_id`.
    """

    goal: str
    agent_id: str | None = None
    context: dict[str, Any] = field(default_factory=dict)
    model: str | None = None
    tools: list[str] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    max_steps: int = 0
    timeout_seconds: float = 0.0
    on_disconnect: OnDisconnect = "continue"
    #: Turns before the session's own, as pairs of a goal and its output: some protocols send the
    #: conversation with each request.
    past: list[tuple[str, str]] = field(default_factory=list)
    #: In the place of the agent's.
    instructions: str | None = None
    #: The last turn of the session, which this one regenerates; 0: none.
    replace_turn: int = 0
    #: Tools that the client runs, each {name, description, schema}.
    client_tools: list[dict[str, Any]] = field(default_factory=list)
    key: str | None = None
    key_id: str = ""
    request_id: str = ""
    #: The place in a trace that the turn belongs to; empty if there is none.
    traceparent: str = ""
    # The fields below say which turn is meant, and are not recorded with it.
    session_id: str | None = None
    #: Without `session_id`: the id of the session, which is made if it is not there.
    own_id: str | None = None
    subject: str | None = None
    if_busy: IfBusy = "reject"
    resume_from: int | None = None
    #: The agent runs a bounded number of turns at once: the turn waits for a slot.
    needs_slot: bool = False
    #: The request was sent before, and its answer broke off: it never starts a turn.
    again: bool = False
    #: Its Idempotency-Key names this turn from now on, if it has named another one.
    renews_key: bool = False

    @property
    def joins(self) -> bool:
        """Whether the request never starts a turn."""
        after = self.resume_from
        return self.again or (after is not None and (after > 0 or self.session_id is not None))

    @property
    def position_name(self) -> str:
        """The caller's name of `resume_from`."""
        return "Last-Event-ID" if self.again else "resume_from"

    def fingerprint(self) -> str:
        """Equal for requests with the same body under an Idempotency-Key."""
        body: tuple[Any, ...] = (
            self.goal,
            self.agent_id,
            # The first request of such a session makes it, and its repeat finds it.
            None if self.session_id == self.own_id else self.session_id,
            self.context,
            self.max_steps or None,
            self.timeout_seconds or None,
            self.model,
            self.tools,
            self.metadata,
            self.subject,
            self.if_busy,
        )
        body = (*body, *(value for name in _OPTIONAL if (value := getattr(self, name))))
        return hashlib.sha256(dumps(body)).hexdigest()

    def record(self, turn: int) -> NewEntry:
        """The control record that queues the turn."""
        body = {"turn": turn, **{name: getattr(self, name) for name in _RECORDED}}
        names = (*_OPTIONAL, "traceparent")
        body |= {name: value for name in names if (value := getattr(self, name))}
        return NewEntry("queued", dumps(body))

    @classmethod
    def of(cls, record: bytes) -> TurnRequest:
        """The request in the body of its record."""
        body = orjson.loads(record)
        del body["turn"]
        return cls(**body)


#: Recorded only where they have a value: versions from before do not know them.
_OPTIONAL = ("replace_turn", "client_tools", "past", "instructions")
_RECORDED = (
    "goal",
    "agent_id",
    "context",
    "model",
    "tools",
    "metadata",
    "max_steps",
    "timeout_seconds",
    "on_disconnect",
    "key",
    "key_id",
    "request_id",
)


@dataclass(frozen=True, slots=True)
class TurnRef:
    """A turn that was started, queued or joined. `resume_from` as the caller gave it."""

    session_id: str
    turn: int
    resume_from: int | None = None
    joined: bool = False
