"""Bodies of LangGraph's API: the fields that mean something here, and those that are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ...http.api.session_models import ExecuteBody, InputBody, validated
from ...http.schemas import Body, JsonObject, Name, Word
from ...model.errors import InvalidRequest
from ...model.limits import Limits
from ...sessions.answers import InputRequest
from ...sessions.request import IfBusy, TurnRequest
from .encode import SHOWN, SILENT
from .messages import MESSAGE_ID, Json

_USER = {"human", "user"}
#: Parts of `configurable` that are LangGraph's own.
_INTERNAL = ("thread_id", "run_id", "checkpoint", "langgraph", "__", "assistant_id", "graph_id")
Offset = Annotated[int, Field(ge=0, le=100_000)]
ThreadName = Annotated[str, Field(min_length=1, max_length=255)]


class CommandBody(BaseModel):
    """Answers to what a run asks; a graph's own state and edges cannot be changed."""

    model_config = ConfigDict(extra="allow")

    update: Any = None
    goto: Any = None

    @property
    def resumes(self) -> bool:
        return "resume" in (self.model_extra or {})

    @property
    def resume(self) -> Any:
        return (self.model_extra or {}).get("resume")


class ThreadRunBody(Body):
    """A run to start."""

    assistant_id: Name
    input: Any = None
    command: CommandBody | None = None
    config: JsonObject | None = None
    context: JsonObject | None = None
    metadata: JsonObject | None = None
    stream_mode: Word | Annotated[list[Word], Field(max_length=20)] | None = None
    stream_subgraphs: bool | None = None
    multitask_strategy: Word | None = None
    on_disconnect: Literal["continue", "cancel"] | None = None
    interrupt_before: Any = None
    interrupt_after: Any = None
    after_seconds: float | None = None
    webhook: Word | None = None

    def modes(self) -> frozenset[str]:
        """Raises InvalidRequest."""
        given = self.stream_mode or "values"
        return modes_of([given] if isinstance(given, str) else given)

    def check(self) -> None:
        """Raise InvalidRequest for what would silently not be done."""
        refused = {
            "interrupt_before": bool(self.interrupt_before),
            "interrupt_after": bool(self.interrupt_after),
            "after_seconds": bool(self.after_seconds),
            "webhook": bool(self.webhook),
            "command.update": self.command is not None and self.command.update is not None,
            "command.goto": self.command is not None and self.command.goto is not None,
        }
        for name, is_given in refused.items():
            if is_given:
                raise InvalidRequest.field(name, "is not offered here; leave it out")

    def if_busy(self, *, waits: bool) -> IfBusy:
        """`waits`: the thread has a run that asks. As LangGraph has it, a new run gives up what
        the former one has asked."""
        strategy = self.multitask_strategy or "enqueue"
        if waits and strategy == "enqueue":
            return "interrupt"
        if strategy == "reject":
            return "reject"
        if strategy == "enqueue":
            return "enqueue"
        if strategy == "interrupt":
            return "interrupt"
        raise InvalidRequest.field("multitask_strategy", "is reject, enqueue or interrupt")

    def request(self, limits: Limits, *, waits: bool) -> TurnRequest:
        """Raises InvalidRequest and PayloadTooLarge."""
        goal, state = goal_of(self.input)
        configured = (self.config or {}).get("configurable")
        given = configured if isinstance(configured, Mapping) else {}
        own = {name: of for name, of in given.items() if not name.startswith(_INTERNAL)}
        fields: Json = {
            "agent_id": self.assistant_id,
            "goal": goal,
            "context": {**own, **state, **(self.context or {})},
            "metadata": {**(self.metadata or {}), **_message_id(self.input)},
            "if_busy": self.if_busy(waits=waits),
            "on_disconnect": self.on_disconnect or "continue",
        }
        return validated(ExecuteBody, fields).request(limits)


class ThreadBody(Body):
    """A thread to make."""

    thread_id: ThreadName | None = None
    metadata: JsonObject | None = None
    if_exists: Word | None = None


class ThreadQuery(Body):
    """A search for threads."""

    metadata: JsonObject | None = None
    values: JsonObject | None = None
    ids: Annotated[list[ThreadName], Field(max_length=100)] | None = None
    status: Word | None = None
    limit: Annotated[int, Field(ge=1, le=1_000)] = 10
    offset: Offset = 0
    select: Annotated[list[Word], Field(max_length=20)] | None = None


class AssistantQuery(Body):
    """A search for assistants."""

    graph_id: Word | None = None
    name: Word | None = None
    limit: Annotated[int, Field(ge=1, le=1_000)] = 10
    offset: Offset = 0


class CheckpointBody(BaseModel):
    checkpoint_id: Word | None = None


class HistoryQuery(Body):
    """Past states of a thread."""

    limit: Annotated[int, Field(ge=1, le=1_000)] = 10
    before: CheckpointBody | Word | None = None


def modes_of(names: list[str]) -> frozenset[str]:
    """The modes of these names that have events; none named: all but `events` and the older form
    of messages. Raises InvalidRequest."""
    if not names:
        return frozenset({"values", "updates", "messages-tuple", "custom"})
    unknown = [name for name in names if name not in SHOWN and name not in SILENT]
    if unknown:
        raise InvalidRequest.field("stream_mode", f"is one or more of {', '.join(SHOWN)}")
    return frozenset(names) & frozenset(SHOWN)


def goal_of(value: Any) -> tuple[str, Json]:
    """The text of the user's last messages, and the other fields of the state. Raises
    InvalidRequest."""
    if isinstance(value, str):
        return value, {}
    state = dict(value) if isinstance(value, Mapping) else {}
    given = state.pop("messages", None)
    listed = given if isinstance(given, list) else [given]
    said: list[str] = []
    for message in reversed(listed):
        role, text = _said(message)
        if role not in _USER:
            break
        said.append(text)
    goal = "\n\n".join(text for text in reversed(said) if text)
    if not goal:
        raise InvalidRequest.field("input", "ends with a message of the user, in messages")
    return goal, state


def _message_id(value: Any) -> Json:
    """The client's own id of the last message, by which a page knows it again."""
    given = value.get("messages") if isinstance(value, Mapping) else None
    last = given[-1] if isinstance(given, list) and given else given
    name = last.get("id") if isinstance(last, Mapping) else None
    return {MESSAGE_ID: name} if isinstance(name, str) and 0 < len(name) <= 255 else {}


def _said(message: Any) -> tuple[str, str]:
    """A message's role and text, in the forms that LangChain takes."""
    if isinstance(message, str):
        return "human", message
    if isinstance(message, list) and len(message) == 2:
        return str(message[0]), _text(message[1])
    if not isinstance(message, Mapping):
        return "", ""
    # A message object of LangChain.js writes itself as its constructor's call.
    fields = message.get("kwargs")
    if isinstance(fields, Mapping):
        path = message.get("id")
        name = str(path[-1]) if isinstance(path, list) and path else ""
        return "human" if name.startswith("Human") else name, _text(fields.get("content"))
    return str(message.get("type") or message.get("role")), _text(message.get("content"))


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(
        str(part.get("text", ""))
        for part in parts
        if isinstance(part, Mapping) and part.get("type") == "text"
    )


def answers_of(resume: Any, asks: list[Mapping[str, Any]]) -> list[InputRequest]:
    """What a `resume` says to the open asks: a value for the only one, or an object with a value
    for each id. Raises InvalidRequest."""
    names = {ask["call_id"] for ask in asks}
    if isinstance(resume, Mapping) and resume and names.issuperset(resume):
        return [_answer(ask, resume[ask["call_id"]]) for ask in asks if ask["call_id"] in resume]
    if len(asks) == 1:
        return [_answer(asks[0], resume)]
    raise InvalidRequest.field(
        "command.resume", f"several interrupts are open: an object by id ({', '.join(names)})"
    )


def _answer(ask: Mapping[str, Any], value: Any) -> InputRequest:
    call_id = ask["call_id"]
    if ask["kind"] == "approval":
        return validated(InputBody, {"call_id": call_id, **_decision(value)}).request()
    if ask["kind"] == "tool" and isinstance(value, Mapping) and set(value) == {call_id}:
        value = value[call_id]  # as headless tools answer
    return InputRequest(call_id, payload=value, has_payload=True)


def _decision(value: Any) -> Json:
    """A decision: a boolean, `{approved, reason?}`, or one of LangChain's middleware. Nothing else
    approves."""
    if isinstance(value, bool):
        return {"approved": value}
    if isinstance(value, Mapping):
        decisions = value.get("decisions")
        if isinstance(decisions, list) and len(decisions) == 1:
            value = decisions[0] if isinstance(decisions[0], Mapping) else {}
        kind = value.get("type")
        if kind in ("approve", "accept"):
            return {"approved": True}
        if kind in ("reject", "ignore"):
            return {"approved": False, "reason": str(value.get("message") or "")}
        if isinstance(value.get("approved"), bool):
            return {"approved": value["approved"], "reason": str(value.get("reason") or "")}
    raise InvalidRequest.field(
        "command.resume", "an approval is true, false, or decisions of type approve or reject"
    )
