"""The messages of a worker's socket (PROTOCOL.md, section 8)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ...agents.workers.assignment import WorkerMessage
from ...model.errors import InvalidRequest
from ..api.session_models import validated
from ..schemas import Body, JsonObject, LongText, Word

PATH = "/v1/agents/{agent_id}/serve"
#: Turns that one worker may take at once, at most.
MAX_CAPACITY = 1_000
_MAX_NAME = 200

AssignmentId = Annotated[str, Field(min_length=1, max_length=128)]
Seq = Annotated[int, Field(ge=1, le=2**53)]


class HeldBody(Body):
    """An assignment that the worker has. `is_over`: its handler has ended already."""

    assignment: AssignmentId
    is_over: bool = False


class HelloMessage(Body):
    """The first message of a socket."""

    type: Literal["hello"]
    worker_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{16,64}$")] = Field(
        description="Chosen by the worker at random, and the same on all of its sockets."
    )
    name: Annotated[str, Field(max_length=_MAX_NAME)] = Field(
        default="", description="For people, such as host and process."
    )
    capacity: int = Field(ge=1, le=MAX_CAPACITY, description="Turns that it takes at once.")
    assignments: Annotated[list[HeldBody], Field(max_length=4 * MAX_CAPACITY)] = Field(
        default_factory=list
    )


class AssignmentError(Body):
    """Why the turn fails; the `error` chunk has the same fields."""

    message: LongText
    code: Word | None = None
    retryable: bool | None = None
    retry_after: float | None = None


class ChunksMessage(Body):
    """Chunks of a turn. A chunk is a text, or an object with `type`."""

    type: Literal["chunks"]
    assignment: AssignmentId
    seq: Seq = Field(description="Counts the messages of the assignment from 1.")
    chunks: list[LongText | JsonObject] = Field(default_factory=list, max_length=10_000)
    is_last: bool = Field(default=False, description="The turn is over.")
    error: AssignmentError | None = Field(
        default=None, description="With `is_last`: the turn fails."
    )


class EndedMessage(Body):
    """The handler of a turn that was cancelled, or that is no more, has ended."""

    type: Literal["ended"]
    assignment: AssignmentId


class DrainMessage(Body):
    """The worker takes no more turns, and ends those that it has."""

    type: Literal["drain"]


class HeartbeatMessage(Body):
    """A sign of life."""

    type: Literal["heartbeat"]


WORKER_MESSAGES: dict[str, type[Body]] = {
    "hello": HelloMessage,
    "chunks": ChunksMessage,
    "ended": EndedMessage,
    "drain": DrainMessage,
    "heartbeat": HeartbeatMessage,
}


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid")


class KeptAssignment(_Said):
    assignment: str
    seq: int = Field(description="Of the newest message that has come; 0: none has.")


class Welcome(_Said):
    """The answer to `hello`. Assignments that it does not name are no more."""

    type: Literal["welcome"]
    worker_id: str
    assignments: list[KeptAssignment]
    heartbeat_seconds: float = Field(description="Silence after which a heartbeat is due.")
    grace_seconds: float = Field(description="How long the worker may be without a socket.")
    window_bytes: int = Field(
        description="Bytes of messages of one assignment that may wait for `ack`."
    )
    message_bytes: int = Field(description="Bytes of the largest message that is taken.")


class Assign(_Said):
    """A turn for the worker."""

    type: Literal["assign"]
    assignment: str
    turn: dict[str, Any]


class Ack(_Said):
    """The messages of the assignment up to `seq` are taken."""

    type: Literal["ack"]
    assignment: str
    seq: int


class CancelAssignment(_Said):
    """Nobody wants the turn's chunks any more. The worker answers `ended`."""

    type: Literal["cancel"]
    assignment: str


class HeartbeatEcho(_Said):
    """The answer to a heartbeat."""

    type: Literal["heartbeat"]


class ServerDrains(_Said):
    """The server is going to stop; a close with 1012 follows."""

    type: Literal["draining"]


class WorkerSocketError(_Said):
    """A message that was refused; the socket is closed."""

    type: Literal["error"]
    code: str
    message: str
    details: dict[str, Any] | None = None


SERVER_TO_WORKER: dict[str, type[BaseModel]] = {
    "welcome": Welcome,
    "assign": Assign,
    "ack": Ack,
    "cancelAssignment": CancelAssignment,
    "heartbeatEcho": HeartbeatEcho,
    "serverDrains": ServerDrains,
    "workerSocketError": WorkerSocketError,
}


def chunks_message(value: dict[str, Any]) -> tuple[str, WorkerMessage] | None:
    """The assignment and the message, if `value` is plain chunks; None: it is to be looked at by
    the model. Nearly every message is one, and the model would cost more than the rest."""
    assignment, seq, chunks = value.get("assignment"), value.get("seq"), value.get("chunks")
    if len(value) != 4 or type(seq) is not int or seq < 1 or not isinstance(chunks, list):
        return None
    return (assignment, WorkerMessage(seq, chunks)) if isinstance(assignment, str) else None


def understood(value: object, *, lenient: bool) -> Body:
    """The message that a worker sent. Raises InvalidRequest."""
    kind = value.get("type") if isinstance(value, dict) else None
    known = WORKER_MESSAGES.get(kind) if isinstance(kind, str) else None
    if known is None or not isinstance(value, dict):
        raise InvalidRequest.field("type", f"is one of {', '.join(WORKER_MESSAGES)}")
    return validated(known, value, lenient=lenient)
