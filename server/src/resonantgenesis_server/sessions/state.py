"""A session's state, folded from its control stream.

A session owns two streams of one group: `SESSION` with its chunks, which viewers read, and
`SESSION/turns` with the records below, which are written in the same append as the chunks they
belong to. So a turn's end and its `done` are visible together.

kind        body
session     {session_id, organization_id, subject, agent_id, context, metadata, created_at}
queued      {turn, …}                    the request: see `TurnRequest`
started     {turn, first}                the position of its first chunk
ended       {turn, status, last, …}      the position of its `done`
withdrawn   {turn}                       cancelled while it waited; its `ended` follows in its turn
stopped     {turn}                       cancelled while it ran: it ends so, even after a crash
waiting     {turn, position, calls, …}   it asks: `position` is that of its chunk `waiting`
parked      {turn}                       no process holds it any more while it waits
input       {turn, call_id, position, …} the answer to one call, or its expiry
resumed     {turn}                       every call is answered: it runs again
edited      {turn, …}                    the request of a turn that waits, once more and changed
message     {turn, message_id, content}  said to the turn while it is open
forked      {turn, session_id}           that session begins with this one up to the turn
released    {turn, session_id}           that fork is gone
deleted     {turn}                       gone for everybody but its forks, which keep its streams
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import orjson

from ..codec.json import dumps, memory_of
from ..log.base import Entry, EventLog, NewEntry

#: Session status for the status of its newest turn.
_STATUS_OF_TURN = {
    "queued": "queued",
    "running": "running",
    "waiting": "waiting",
    "success": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
    "timeout": "timeout",
}
SessionStatus = Literal[
    "created", "queued", "running", "waiting", "completed", "failed", "cancelled", "timeout"
]

#: Turns of one session whose `done` is still to come, withdrawn ones included.
MAX_OPEN_TURNS = 32
#: About how many bytes of memory a call takes that a turn waited for, with its answer.
_CALL_MEMORY = 600
#: Characters of the first goal that a list of sessions shows.
_LISTED_GOAL = 300
#: Pages of control records that are read into a state.
_PAGE_ENTRIES, _PAGE_BYTES = 2_000, 4 << 20


def control_stream(session_id: str) -> str:
    """The stream of a session's turn records; the chunks' stream is the session id itself."""
    return f"{session_id}/turns"


def session_of(control: str) -> str:
    """The session a control stream belongs to."""
    return control.partition("/")[0]


class Ancestor(NamedTuple):
    """The part of another session that a fork begins with: up to `turn`, which has ended."""

    session_id: str
    turn: int


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """The part of a session that never changes. `lineage` is that of a fork, the oldest first.
    `is_team`: its agent is a team."""

    session_id: str
    organization_id: str
    agent_id: str
    subject: str | None
    context: dict[str, Any]
    metadata: dict[str, Any]
    created_at: float
    lineage: tuple[Ancestor, ...] = ()
    is_team: bool = False

    @classmethod
    def of(cls, body: dict[str, Any]) -> SessionInfo:
        """From the body of its record."""
        lineage = tuple(Ancestor(*each) for each in body.pop("lineage", ()))
        return cls(**body, lineage=lineage)

    def record(self) -> NewEntry:
        # `asdict` would copy the context and the metadata.
        body = {each.name: getattr(self, each.name) for each in fields(self)}
        del body["lineage"]
        # Only forks and teams have the fields, which older versions do not know.
        if self.lineage:
            body["lineage"] = [list(each) for each in self.lineage]
        if not self.is_team:
            del body["is_team"]
        return NewEntry("session", dumps(body))


@dataclass(frozen=True, slots=True)
class OpenAsk:
    """A call that a turn waits for. `position` is that of its chunk `input_required`,
    `expires_at` a time of the store's clock, in seconds since 1970."""

    call_id: str
    kind: str
    tool: str
    position: int
    expires_at: float


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """An answer that stands. `position` is that of its chunk `input`, 0 where the turn has ended
    without it; answers with equal `digest` say the same."""

    position: int
    status: str
    digest: str


#: How a turn goes on behind its asks: its agent goes on by itself (`continue`), is run from its
#: start up to the asks (`replay`), or cannot go on without the process that asked (`never`).
Resume = Literal["continue", "replay", "never"]


@dataclass(slots=True)
class TurnWaits:
    """The part of a turn that asks. `asks` are those without an answer, `answers` those of the
    whole turn, by call_id. `record` is the position of the newest `waiting` in the control stream.
    `held`: the agent waits in the process that asked."""

    asks: dict[str, OpenAsk]
    answers: dict[str, GivenAnswer]
    record: int
    resume: Resume
    held: bool


class Posted(NamedTuple):
    """A message to a turn; `record` is its position in the control stream."""

    message_id: str
    record: int
    digest: bytes
    size: int


@dataclass(slots=True)
class TurnState:
    """One turn. `first` and `last` are chunk positions (0: not yet); `record` the position of
    its request in the control stream; `told` the newest chunk position that the records tell.
    `waits` is None for a turn that never asked."""

    turn: int
    goal_digest: bytes
    record: int
    key: str | None
    queued_at: float
    key_id: str = ""
    request_id: str = ""
    traceparent: str = ""
    status: str = "queued"
    first: int = 0
    last: int = 0
    started_at: float = 0.0
    ended_at: float = 0.0
    withdrawn: bool = False
    stopped: bool = False
    told: int = 0
    waits: TurnWaits | None = None
    #: The turn that it regenerates, and the one that has regenerated it; 0: none.
    replaces: int = 0
    replaced_by: int = 0
    #: The messages that came while it was open.
    messages: tuple[Posted, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether its `done` is still to come."""
        return self.status in {"running", "queued", "waiting"}

    @property
    def asks(self) -> list[OpenAsk]:
        """The calls that it waits for."""
        return [] if self.waits is None else list(self.waits.asks.values())

    @property
    def rests(self) -> bool:
        """Whether nothing is to be done for it before an answer, an expiry or a cancel."""
        return (
            self.status == "waiting"
            and not self.stopped
            and self.waits is not None
            and not self.waits.held
        )


def _listed(goal: str) -> str:
    """The part of a first goal that a list shows. A PostgreSQL text has no NUL."""
    return goal[:_LISTED_GOAL].replace("\0", " ")


def digest(goal: str) -> bytes:
    """Compares goals without keeping them."""
    return hashlib.sha256(goal.encode("utf-8", "surrogatepass")).digest()[:16]


class SessionState:
    """The fold. `position` is that of the last control record taken in."""

    __slots__ = (
        "_initial_memory", "_waits_memory", "context", "context_turn", "deleted",
        "first_goal", "forks", "info", "memory", "message_turns", "position", "turns", "updated_at",
    )  # fmt: skip

    def __init__(self) -> None:
        self.info: SessionInfo | None = None
        self.context: dict[str, Any] = {}
        #: About how many bytes the state takes, and how many of them the session began with.
        self.memory = self._initial_memory = self._waits_memory = 0
        self.turns: list[TurnState] = []
        #: The beginning of the first turn's.
        self.first_goal = ""
        self.position = 0
        self.updated_at = 0.0
        #: The turn of each message, by the message's id.
        self.message_turns: dict[str, int] = {}
        #: The forks that show this session, with the times of their records.
        self.forks: dict[str, float] = {}
        #: The last turn whose request has changed the context.
        self.context_turn = 0
        #: Whether only its forks still see it.
        self.deleted = False

    def apply(self, entries: Iterable[Entry]) -> None:
        """Apply control records, in order; records applied before are skipped."""
        for entry in entries:
            if entry.position <= self.position:
                continue
            self._apply_one(entry.kind, orjson.loads(entry.body), entry)
            self.position = entry.position
            self.updated_at = entry.at / 1e6

    def _apply_one(self, kind: str, body: dict[str, Any], entry: Entry) -> None:
        if kind == "session":
            self.info = SessionInfo.of(body)
            self.context = self.info.context
            self.memory = self._initial_memory = memory_of(entry.body)
            return
        if self._of_forks(kind, body, entry):
            return
        number = int(body["turn"])
        if kind == "queued":
            self._queued(number, body, entry)
            return
        turn = self.turns[number - 1]
        if kind == "started":
            turn.status = "running"
            turn.first = body["first"]
            turn.started_at = entry.at / 1e6
        elif kind == "withdrawn":
            turn.withdrawn = True
            replaced = self.turn(turn.replaces)
            if replaced is not None and replaced.replaced_by == number:
                replaced.replaced_by = 0  # since this one never runs
        elif kind == "stopped":
            turn.stopped = True
        elif kind in {"edited", "message"}:
            self._of_clients(turn, kind, body, entry)
        elif kind == "ended":
            turn.status = body["status"]
            turn.first = turn.first or body["last"]
            turn.last = turn.told = body["last"]
            turn.ended_at = entry.at / 1e6
            if turn.waits is not None:
                for call_id in turn.waits.asks:
                    turn.waits.answers[call_id] = GivenAnswer(0, "cancelled", "")
                turn.waits.asks = {}
        else:
            _apply_waits(turn, kind, body, entry.position)
            self._waits_memory += _CALL_MEMORY * len(body.get("calls", ()))

    def _of_forks(self, kind: str, body: dict[str, Any], entry: Entry) -> bool:
        """Whether the record is about who still sees the session."""
        if kind == "forked":
            self.forks[body["session_id"]] = entry.at / 1e6
        elif kind == "released":
            self.forks.pop(body["session_id"], None)
        elif kind == "deleted":
            self.deleted = True
        else:
            return False
        return True

    def _of_clients(self, turn: TurnState, kind: str, body: dict[str, Any], entry: Entry) -> None:
        """A change of a turn that waits, or a message to an open one."""
        if kind == "edited":
            turn.record = entry.position
            turn.goal_digest = digest(body["goal"])
            if turn.turn == 1:
                self.first_goal = _listed(body["goal"])
            return
        content = digest(body["content"])
        posted = Posted(body["message_id"], entry.position, content, len(entry.body))
        turn.messages = (*turn.messages, posted)
        self.message_turns[posted.message_id] = turn.turn

    def _queued(self, number: int, body: dict[str, Any], entry: Entry) -> None:
        if body["context"]:
            self.context = {**self.context, **body["context"]}
            self.context_turn = number
            self.memory = self._initial_memory + memory_of(dumps(self.context))
        if number == 1:
            self.first_goal = _listed(body["goal"])
        replaces = body.get("replace_turn") or 0
        self.turns.append(
            TurnState(
                number,
                digest(body["goal"]),
                entry.position,
                body["key"],
                entry.at / 1e6,
                body["key_id"],
                body["request_id"],
                body.get("traceparent", ""),
                replaces=replaces,
            )
        )
        if replaces:
            self.turns[replaces - 1].replaced_by = number

    @property
    def weight(self) -> int:
        """About how many bytes of memory the state takes."""
        small = 400 * len(self.message_turns) + 200 * len(self.forks)
        small += 4 * len(self.first_goal)
        return 1_000 + 500 * len(self.turns) + small + self.memory + self._waits_memory

    # -- what follows from the records ---------------------------------------------------

    @property
    def open_turns(self) -> list[TurnState]:
        """The turns whose `done` is still to come, in order, withdrawn ones included."""
        count = 0
        for turn in reversed(self.turns):  # turns end in the order in which they were queued
            if not turn.is_open:
                break
            count += 1
        return self.turns[len(self.turns) - count :]

    @property
    def running(self) -> TurnState | None:
        """The open turn that runs."""
        for turn in reversed(self.turns):  # read some ten times for each stream that opens
            if not turn.is_open:
                break
            if turn.status == "running":
                return turn
        return None

    @property
    def waiting(self) -> TurnState | None:
        """The open turn that waits for answers. The turns behind it are queued."""
        first = self.first_open
        return first if first is not None and first.status == "waiting" else None

    @property
    def first_open(self) -> TurnState | None:
        """The turn that runs, waits or comes next."""
        return next(iter(self.open_turns), None)

    @property
    def rests(self) -> bool:
        """Whether nothing is to be done before an answer, an expiry or a cancel."""
        first = self.first_open
        return first is not None and first.rests

    @property
    def busy(self) -> bool:
        """Whether an open turn runs, or waits and was not withdrawn."""
        return any(not turn.withdrawn for turn in self.open_turns)

    @property
    def end(self) -> int:
        """The position of the newest `done`; 0: none yet."""
        for turn in reversed(self.turns):
            if turn.last:
                return turn.last
        return 0

    @property
    def told(self) -> int:
        """The newest chunk position that the records tell. While no turn runs, it is the last
        chunk."""
        for turn in reversed(self.turns):
            if turn.told:
                return turn.told
        return 0

    @property
    def status(self) -> str:
        """The session's status as PROTOCOL.md, section 4, names it."""
        if self.running is not None:
            return "running"
        if self.waiting is not None:
            return "waiting"
        if not self.turns:
            return "created"
        if self.busy:
            return "queued"
        newest = self.turns[-1]
        return "cancelled" if newest.withdrawn else _STATUS_OF_TURN[newest.status]

    @property
    def current(self) -> TurnState | None:
        """The running turn, else the newest that has chunks, else the first that is queued."""
        running = self.running
        if running is not None:
            return running
        for turn in reversed(self.turns):
            if turn.first:
                return turn
        return self.turns[0] if self.turns else None

    def turn(self, number: int) -> TurnState | None:
        return self.turns[number - 1] if 1 <= number <= len(self.turns) else None

    # -- reading ---------------------------------------------------------------------------

    async def take_in(self, log: EventLog, session_id: str) -> int:
        """Bring the state up to what the log shows now; its position, 0 if there is no such
        session. Raises LogUnavailable.

        A reader of a session's chunks can be ahead of the announcements that keep the state. The
        state must not be older than the chunks that the reader has seen.
        """
        while True:
            page = await log.read(
                control_stream(session_id),
                self.position,
                limit=_PAGE_ENTRIES,
                max_bytes=_PAGE_BYTES,
            )
            self.apply(page.entries)
            if page.at_end:
                return 0 if page.info is None else self.position


def _apply_waits(turn: TurnState, kind: str, body: dict[str, Any], position: int) -> None:
    """Apply a record of a turn that asks. Records of a newer version change nothing."""
    waits = turn.waits
    if kind == "waiting":
        turn.status = "waiting"
        turn.told = body["position"]
        answers = {} if waits is None else waits.answers
        asks = {call["call_id"]: OpenAsk(**call) for call in body["calls"]}
        turn.waits = TurnWaits(asks, answers, position, body["resume"], body["held"])
    elif waits is None:
        return
    elif kind == "parked":
        waits.held = False
    elif kind == "input":
        turn.told = body["position"]
        waits.asks.pop(body["call_id"], None)
        given = GivenAnswer(body["position"], body["status"], body["digest"])
        waits.answers[body["call_id"]] = given
    elif kind == "resumed":
        turn.status = "running"


def waiting_record(
    turn: int,
    position: int,
    calls: Iterable[OpenAsk],
    *,
    resume: Resume,
    held: bool,
    **more: Any,
) -> NewEntry:
    """`more` is what the turn needs to go on: see `Stretch`."""
    listed = [{each.name: getattr(call, each.name) for each in fields(call)} for call in calls]
    body = {"turn": turn, "position": position, "calls": listed, "resume": resume, "held": held}
    return NewEntry("waiting", dumps(body | more))


def parked_record(turn: int) -> NewEntry:
    return NewEntry("parked", dumps({"turn": turn}))


def input_record(
    turn: int, call_id: str, given: GivenAnswer, key_id: str | None, request_id: str | None
) -> NewEntry:
    """`key_id` and `request_id` are None for an expiry."""
    body = {
        "turn": turn,
        "call_id": call_id,
        "position": given.position,
        "status": given.status,
        "digest": given.digest,
        "key_id": key_id,
        "request_id": request_id,
    }
    return NewEntry("input", dumps(body))


def resumed_record(turn: int) -> NewEntry:
    return NewEntry("resumed", dumps({"turn": turn}))


def started_record(turn: int, first: int) -> NewEntry:
    return NewEntry("started", dumps({"turn": turn, "first": first}))


def withdrawn_record(turn: int) -> NewEntry:
    return NewEntry("withdrawn", dumps({"turn": turn}))


def stopped_record(turn: int) -> NewEntry:
    return NewEntry("stopped", dumps({"turn": turn}))


def edited_record(queued: NewEntry) -> NewEntry:
    """The record of a changed request; `queued` is the one of a new turn with that request."""
    return NewEntry("edited", queued.body)


def message_record(turn: int, message_id: str, content: str) -> NewEntry:
    return NewEntry("message", dumps({"turn": turn, "message_id": message_id, "content": content}))


def forked_record(turn: int, session_id: str) -> NewEntry:
    return NewEntry("forked", dumps({"turn": turn, "session_id": session_id}))


def released_record(turn: int, session_id: str) -> NewEntry:
    return NewEntry("released", dumps({"turn": turn, "session_id": session_id}))


def deleted_record(turn: int) -> NewEntry:
    return NewEntry("deleted", dumps({"turn": turn}))


def ended_record(turn: int, status: str, last: int) -> NewEntry:
    return NewEntry("ended", dumps({"turn": turn, "status": status, "last": last}))
