"""A session's state, folded from its control stream.

A session owns two streams of one group: `SESSION` with its chunks, which viewers read, and
`SESSION/turns` with the records below, which are written in the same append as the chunks they
belong to. So a turn's end and its `done` are visible together, and nothing else needs to know.

kind        body
session     {session_id, organization_id, subject, agent_id, context, metadata, created_at}
queued      {turn, …the request: see Request}
started     {turn, first}                the position of its first chunk
ended       {turn, status, last, …}      the position of its `done`
withdrawn   {turn}                       cancelled while it waited; its `ended` follows in its turn
stopped     {turn}                       cancelled while it ran; so it ends, even over a crash
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import orjson

from ..codec.json import dumps, memory_of
from ..log.base import Entry, NewEntry

#: Session status for the status of its newest turn.
_STATUS_OF_TURN = {
    "queued": "queued",
    "running": "running",
    "success": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
    "timeout": "timeout",
}
SessionStatus = Literal[
    "created", "queued", "running", "waiting", "completed", "failed", "cancelled", "timeout"
]

#: No session has more turns than this that are not over; see MAX_OPEN_TURNS.
_OPEN_WINDOW = 64
#: Turns of one session whose `done` is still to come, withdrawn ones included.
MAX_OPEN_TURNS = 32


def control_stream(session_id: str) -> str:
    """The stream of a session's turn records; the chunks' stream is the session id itself."""
    return f"{session_id}/turns"


def session_of(control: str) -> str:
    """The session a control stream belongs to."""
    return control.partition("/")[0]


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What a session is from its making on."""

    session_id: str
    organization_id: str
    agent_id: str
    subject: str | None
    context: dict[str, Any]
    metadata: dict[str, Any]
    created_at: float

    def record(self) -> NewEntry:
        return NewEntry("session", dumps(_said(self)))


@dataclass(frozen=True, slots=True)
class Request:
    """What a turn was asked for; durable from the moment it is queued."""

    goal: str
    agent_id: str
    context: dict[str, Any] = field(default_factory=dict)
    model: str | None = None
    tools: list[str] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    max_steps: int = 10
    timeout_seconds: float = 120.0
    on_disconnect: str = "continue"
    key: str | None = None
    key_id: str = ""
    request_id: str = ""

    def record(self, turn: int) -> NewEntry:
        return NewEntry("queued", dumps({"turn": turn, **_said(self)}))


def _said(told: SessionInfo | Request) -> dict[str, Any]:
    """Its fields; `asdict` would copy all that is in them."""
    return {each.name: getattr(told, each.name) for each in fields(told)}


def request_of(record: bytes) -> Request:
    """What was asked for, from the body of its record."""
    body = orjson.loads(record)
    del body["turn"]
    return Request(**body)


@dataclass(slots=True)
class TurnState:
    """One turn. `first` and `last` are chunk positions (0: not yet); `record` the position of
    its request in the control stream."""

    turn: int
    goal_digest: bytes
    record: int
    key: str | None
    queued_at: float
    key_id: str = ""
    request_id: str = ""
    status: str = "queued"
    first: int = 0
    last: int = 0
    started_at: float = 0.0
    ended_at: float = 0.0
    withdrawn: bool = False
    stopped: bool = False

    @property
    def over(self) -> bool:
        """Whether the turn has ended, or was withdrawn and only its `done` is to come."""
        return self.withdrawn or self.status not in {"queued", "running"}


def digest(goal: str) -> bytes:
    """For comparing goals without keeping them."""
    return hashlib.sha256(goal.encode("utf-8", "surrogatepass")).digest()[:16]


class SessionState:
    """The fold. `position` is that of the last control record taken in."""

    __slots__ = ("_made_of", "context", "info", "memory", "position", "turns", "updated_at")

    def __init__(self) -> None:
        self.info: SessionInfo | None = None
        self.context: dict[str, Any] = {}
        #: About how many bytes it is made of, and those that it began with and keeps.
        self.memory = self._made_of = 0
        self.turns: list[TurnState] = []
        self.position = 0
        self.updated_at = 0.0

    def apply(self, entries: Iterable[Entry]) -> None:
        """Take in control records, in order; those already taken in are skipped."""
        for entry in entries:
            if entry.position <= self.position:
                continue
            self._apply_one(entry.kind, orjson.loads(entry.body), entry)
            self.position = entry.position
            self.updated_at = entry.at / 1e6

    def _apply_one(self, kind: str, body: dict[str, Any], entry: Entry) -> None:
        if kind == "session":
            self.info = SessionInfo(**body)
            self.context = self.info.context
            self.memory = self._made_of = memory_of(entry.body)
            return
        number = int(body["turn"])
        if kind == "queued":
            if body["context"]:
                self.context = {**self.context, **body["context"]}
                self.memory = self._made_of + memory_of(dumps(self.context))
            self.turns.append(
                TurnState(
                    number,
                    digest(body["goal"]),
                    entry.position,
                    body["key"],
                    entry.at / 1e6,
                    body["key_id"],
                    body["request_id"],
                )
            )
            return
        turn = self.turns[number - 1]
        if kind == "started":
            turn.status = "running"
            turn.first = body["first"]
            turn.started_at = entry.at / 1e6
        elif kind == "withdrawn":
            turn.withdrawn = True
        elif kind == "stopped":
            turn.stopped = True
        elif kind == "ended":
            turn.status = body["status"]
            turn.first = turn.first or body["last"]
            turn.last = body["last"]
            turn.ended_at = entry.at / 1e6

    @property
    def weight(self) -> int:
        """About how many bytes of memory the state takes."""
        return 1_000 + 500 * len(self.turns) + self.memory

    # -- questions -------------------------------------------------------------------------

    @property
    def running(self) -> TurnState | None:
        return next(
            (t for t in reversed(self.turns[-_OPEN_WINDOW:]) if t.status == "running"), None
        )

    @property
    def waiting(self) -> list[TurnState]:
        """Queued turns in order, those withdrawn included: their `done` is still to come."""
        return [t for t in self.turns[-_OPEN_WINDOW:] if t.status == "queued"]

    @property
    def busy(self) -> bool:
        """Whether a turn runs, or waits and was not withdrawn."""
        return any(not turn.over for turn in self.turns[-_OPEN_WINDOW:])

    @property
    def unended(self) -> list[TurnState]:
        """The turns whose `done` is still to come, in order, withdrawn ones included."""
        return [t for t in self.turns[-_OPEN_WINDOW:] if t.status in {"queued", "running"}]

    @property
    def open_turns(self) -> bool:
        """Whether any turn's `done` is still to come."""
        return any(turn.status in {"queued", "running"} for turn in self.turns[-_OPEN_WINDOW:])

    @property
    def end(self) -> int:
        """The position of the newest `done`; 0: none yet."""
        return next((turn.last for turn in reversed(self.turns) if turn.last), 0)

    @property
    def status(self) -> str:
        """The session's status as PROTOCOL.md, section 4, names it."""
        if self.running is not None:
            return "running"
        if not self.turns:
            return "created"
        if self.busy:
            return "queued"
        newest = self.turns[-1]
        return "cancelled" if newest.withdrawn else _STATUS_OF_TURN[newest.status]

    @property
    def current(self) -> TurnState | None:
        """The running turn, else the newest that has chunks, else the first that waits."""
        running = self.running
        if running is not None:
            return running
        started = next((t for t in reversed(self.turns) if t.first), None)
        return started or (self.turns[0] if self.turns else None)

    def turn(self, number: int) -> TurnState | None:
        return self.turns[number - 1] if 1 <= number <= len(self.turns) else None


def started_record(turn: int, first: int) -> NewEntry:
    return NewEntry("started", dumps({"turn": turn, "first": first}))


def withdrawn_record(turn: int) -> NewEntry:
    return NewEntry("withdrawn", dumps({"turn": turn}))


def stopped_record(turn: int) -> NewEntry:
    return NewEntry("stopped", dumps({"turn": turn}))


def ended_record(turn: int, status: str, last: int) -> NewEntry:
    return NewEntry("ended", dumps({"turn": turn, "status": status, "last": last}))
