"""A turn as a task of A2A: the task as it is, and the events that change it.

Versions 1.0 and 0.3 have the same events in other words. An event has no number, so a client that
comes back first gets the task as it is, and then what follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..forms import elicitation
from ..frames import Chunk, TurnFrames, data_frame
from ..json_rpc import Json, RpcId, rpc_result

#: The artifact that the agent's text is.
_ARTIFACT = "answer"
_STATES = {"success": "COMPLETED", "cancelled": "CANCELED"}


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """What an encoder needs to know of a turn: `context_id` is the client's name of the session,
    `goal` the user's message. `is_old`: the client speaks 0.3; `is_proto`: in the JSON of its
    Protocol Buffers, as HTTP+JSON has it."""

    session_id: str
    turn: int
    context_id: str
    goal: str
    is_old: bool
    is_proto: bool = False

    @property
    def task_id(self) -> str:
        return f"{self.session_id}.{self.turn}"


class TaskFrames(TurnFrames):
    """The events of one turn, as answers to the request `rpc_id`; None: by themselves."""

    __slots__ = (
        "_asks", "_begun", "_failure", "_info", "_rpc_id", "_said", "_text", "changed_at", "state",
    )  # fmt: skip

    is_counted = True

    def __init__(self, info: TaskInfo, rpc_id: RpcId | None) -> None:
        self._info = info
        self._rpc_id = rpc_id
        self._begun = False
        self._text: list[str] = []
        self._asks: list[Json] = []
        self._failure: str | None = None
        #: The state of the task, and the agent's message about it.
        self.state = "SUBMITTED"
        self._said: Json | None = None
        #: When its state was recorded, which chunks do not tell.
        self.changed_at: str | None = None

    @property
    def key(self) -> tuple[object, ...]:
        return ("a2a", self._info, self._rpc_id)

    def copy(self) -> Self:
        other = super().copy()
        other._text = [*self._text]
        other._asks = [*self._asks]
        return other

    def frames(self, kind: str, chunk: Chunk) -> list[bytes]:
        return [self._frame(event) for event in self._events(kind, chunk)]

    def snapshot(self) -> bytes:
        """The frame of the task as it is."""
        return self._frame({"kind": "task", **self.task()})

    def task(self, history: int | None = None, *, artifacts: bool = True) -> Json:
        """The task as it is, with at most so many messages of its history."""
        task: Json = {
            "id": self._info.task_id,
            "contextId": self._info.context_id,
            "status": self._status(),
        }
        if self._text and artifacts:
            task["artifacts"] = [self._artifact("".join(self._text))]
        if history is None or history > 0:
            task["history"] = [self._message("user", [self._part(self._info.goal)])]
        return task

    def result(
        self, history: int | None = None, *, is_bare: bool = False, artifacts: bool = True
    ) -> Json:
        """The task as the result of a request. 1.0 wraps the task where it could be a message."""
        task = self.task(history, artifacts=artifacts)
        if self._is_json:
            return {"kind": "task", **task}
        return task if is_bare else {"task": task}

    def go_on(self) -> None:
        """The task works again: what it asked was answered."""
        self.state, self._said, self.changed_at = "WORKING", None, None

    # -- events ----------------------------------------------------------------------------

    def _events(self, kind: str, chunk: Chunk) -> Iterator[Json]:
        if not self._begun:
            self._begun = True
            self.state = "WORKING"
            yield {"kind": "task", **self.task()}
        encode = _ENCODERS.get(kind)
        if encode is not None:
            yield from encode(self, chunk)

    def _message_chunk(self, chunk: Chunk) -> Iterator[Json]:
        event = {
            "kind": "artifact-update",
            **self._place(),
            "artifact": self._artifact(chunk["content"]),
            "append": bool(self._text),
        }
        self._text.append(chunk["content"])
        yield event

    def _ask(self, chunk: Chunk) -> Iterator[Json]:
        self._asks.append(dict(chunk))
        yield from ()

    def _wait(self, _chunk: Chunk) -> Iterator[Json]:
        asks, self._asks = self._asks, []
        parts: list[Json] = []
        for ask in asks:
            form = elicitation(ask)["params"]
            parts.append(self._part(form["message"]))
            asked = {"call_id": ask["call_id"], "kind": ask["kind"]}
            parts.append(self._part(asked | {"schema": form["requestedSchema"]}))
        self.state = "INPUT_REQUIRED"
        self._said = self._message("agent", parts)
        yield self._changed()

    def _answered(self, _chunk: Chunk) -> Iterator[Json]:
        if self.state == "INPUT_REQUIRED":
            self.go_on()
            yield self._changed()

    def _error(self, chunk: Chunk) -> Iterator[Json]:
        self._failure = chunk["message"]
        yield from ()

    def _done(self, chunk: Chunk) -> Iterator[Json]:
        self.state = _STATES.get(chunk["status"], "FAILED")
        self._said = None
        if self._failure is not None:
            self._said = self._message("agent", [self._part(self._failure)])
        yield self._changed()

    def _changed(self) -> Json:
        event: Json = {"kind": "status-update", **self._place(), "status": self._status()}
        if self._info.is_old:
            event["final"] = self.state != "WORKING"
        return event

    # -- the words of the versions ---------------------------------------------------------

    @property
    def _is_json(self) -> bool:
        """Whether the words are those of the JSON schema of 0.3, which 1.0 has no more."""
        return self._info.is_old and not self._info.is_proto

    def _frame(self, event: Json) -> bytes:
        if not self._is_json:
            event = {_NAMES[event.pop("kind")]: event}
        return data_frame(event if self._rpc_id is None else rpc_result(self._rpc_id, event))

    def _place(self) -> Json:
        return {"taskId": self._info.task_id, "contextId": self._info.context_id}

    def _status(self) -> Json:
        state = self.state
        said = state.lower().replace("_", "-") if self._is_json else f"TASK_STATE_{state}"
        if self._info.is_proto and state == "CANCELED":
            said = "TASK_STATE_CANCELLED"
        status: Json = {"state": said}
        if self._said is not None:
            status["message"] = self._said
        if self.changed_at is not None:
            status["timestamp"] = self.changed_at
        return status

    def _artifact(self, text: str) -> Json:
        return {"artifactId": _ARTIFACT, "parts": [self._part(text)]}

    def _message(self, role: str, parts: list[Json]) -> Json:
        is_json = self._is_json
        return {
            **({"kind": "message"} if is_json else {}),
            "messageId": f"msg_{self._info.task_id}.{role}",
            **self._place(),
            "role": role if is_json else f"ROLE_{role.upper()}",
            "content" if self._info.is_proto else "parts": parts,
        }

    def _part(self, value: str | Mapping[str, Any]) -> Json:
        name = "text" if isinstance(value, str) else "data"
        if self._info.is_proto and name == "data":
            return {"data": {"data": value}}
        return {"kind": name, name: value} if self._is_json else {name: value}


_NAMES = {"task": "task", "status-update": "statusUpdate", "artifact-update": "artifactUpdate"}
_ENCODERS: Mapping[str, Callable[[TaskFrames, Chunk], Iterator[Json]]] = {
    "message": TaskFrames._message_chunk,
    "input_required": TaskFrames._ask,
    "waiting": TaskFrames._wait,
    "input": TaskFrames._answered,
    "error": TaskFrames._error,
    "done": TaskFrames._done,
}
