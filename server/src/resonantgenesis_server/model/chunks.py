"""The values that an agent yields: payloads of a session's chunks.

Each value has `event`, the name of the SSE event, and `payload()`, the JSON object of PROTOCOL.md,
section 4, without `position`, which the log gives, and without the sub-agent's `origin`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

Payload = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OfSubAgent:
    """What every chunk may say of its origin.

    `agent_id` names the sub-agent that made the chunk; empty for the turn's own agent. `parent` is
    the `call_id` of the tool call that started the sub-agent, if a tool call did.
    """

    agent_id: str = field(default="", kw_only=True, repr=False)
    parent: str = field(default="", kw_only=True, repr=False)

    def origin(self) -> Payload:
        """The fields of the chunk that name its sub-agent."""
        return self.origin_in({"agent_id": self.agent_id, "parent": self.parent})

    @staticmethod
    def origin_in(payload: Payload) -> Payload:
        """Those fields of a payload."""
        return {name: payload[name] for name in ("agent_id", "parent") if payload.get(name)}


@dataclass(frozen=True, slots=True)
class Text(OfSubAgent):
    """A piece of the answer."""

    event: ClassVar[str] = "message"
    content: str

    def payload(self) -> Payload:
        return {"type": "text", "content": self.content}


@dataclass(frozen=True, slots=True)
class Reasoning(OfSubAgent):
    """A piece of what the agent thinks before it answers. It is no part of the turn's output."""

    event: ClassVar[str] = "reasoning"
    content: str

    def payload(self) -> Payload:
        return {"type": "reasoning", "content": self.content}


@dataclass(frozen=True, slots=True)
class ToolCall(OfSubAgent):
    """The agent calls a tool; `call_id` pairs it with its result."""

    event: ClassVar[str] = "tool_call"
    tool: str
    args: dict[str, Any] = field(default_factory=dict)
    call_id: str = ""

    def payload(self) -> Payload:
        return {"type": "tool_call", "tool": self.tool, "args": self.args, "call_id": self.call_id}


@dataclass(frozen=True, slots=True)
class ToolResult(OfSubAgent):
    """The result of a tool: any JSON value."""

    event: ClassVar[str] = "tool_result"
    tool: str
    result: Any
    call_id: str = ""
    is_error: bool = False

    def payload(self) -> Payload:
        return {
            "type": "tool_result",
            "tool": self.tool,
            "result": self.result,
            "call_id": self.call_id,
            "is_error": self.is_error,
        }


@dataclass(frozen=True, slots=True)
class Source(OfSubAgent):
    """A page or document that the answer rests on."""

    event: ClassVar[str] = "source"
    url: str
    title: str = ""

    def payload(self) -> Payload:
        titled = {"title": self.title} if self.title else {}
        return {"type": "source", "url": self.url, **titled}


@dataclass(frozen=True, slots=True)
class File(OfSubAgent):
    """A stored file that belongs to the answer; `StoredFile.as_chunk` makes it. `size` in bytes."""

    event: ClassVar[str] = "file"
    file_id: str
    name: str
    content_type: str
    size: int

    def payload(self) -> Payload:
        return {
            "type": "file",
            "file_id": self.file_id,
            "name": self.name,
            "content_type": self.content_type,
            "size": self.size,
        }


@dataclass(frozen=True, slots=True)
class Data(OfSubAgent):
    """A value of the application's own; `data` is any JSON value.

    In the view as messages, a later value of the same `name` and `id` replaces the earlier one. A
    `transient` value is not stored: live viewers get it, and it has no position.
    """

    event: ClassVar[str] = "data"
    name: str
    data: Any
    id: str = ""
    transient: bool = False

    def payload(self) -> Payload:
        named = {"id": self.id} if self.id else {}
        marked = {"transient": True} if self.transient else {}
        return {"type": "data", "name": self.name, **named, "data": self.data, **marked}


@dataclass(frozen=True, slots=True)
class Step(OfSubAgent):
    """A step of the turn began, went on, or ended.

    An agent gives the name and the status. The runner numbers the steps (1, 2 … within the turn),
    measures `duration_ms` and counts `started` against `max_steps`. `detail` is a note for people;
    with `progress` it is the next piece of the step's output (reasoning, say). `finish_reason` is
    the reason why a model stopped.
    """

    event: ClassVar[str] = "step"
    name: str
    status: Literal["started", "progress", "completed"] = "started"
    detail: str = ""
    finish_reason: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that an agent used since its last `Usage`. The runner adds them up; it is no chunk.

    An agent that estimates may correct an estimate with numbers below zero.
    """

    input_tokens: int = 0
    output_tokens: int = 0


#: What an answer has to be: a decision on a call of a tool, a value from a person, the result of a
#: tool that the client runs.
AskKind = Literal["approval", "input", "tool"]


@dataclass(frozen=True, slots=True)
class Ask(OfSubAgent):
    """The agent asks, and the turn waits once the agent has returned.

    The agent is started again with the answer in `turn.answers`. `tool` and `args` are those of the
    call to approve, or of the call that the client makes. `schema` is a JSON Schema of the payload.
    Nobody can answer after `expires_in` seconds; None: after the server's usual time.
    """

    event: ClassVar[str] = "input_required"
    kind: AskKind = "input"
    message: str = ""
    tool: str = ""
    args: dict[str, Any] = field(default_factory=dict)
    schema: dict[str, Any] | None = None
    call_id: str = ""
    expires_in: float | None = None


@dataclass(frozen=True, slots=True)
class Keep:
    """A JSON value that the agent gets back in `turn.kept` when it is started again behind its
    asks. The newest value counts. It is no chunk."""

    value: Any


@dataclass(frozen=True, slots=True)
class Happened:
    """A platform event of the turn, written together with the next chunk. It is no chunk, and only
    the server's own agents yield it. `name` tells events of one type apart."""

    type: str
    name: str
    data: dict[str, Any]


#: The values that an agent may yield.
AgentChunk = (
    str
    | Text
    | Reasoning
    | ToolCall
    | ToolResult
    | Step
    | Source
    | File
    | Data
    | Usage
    | Ask
    | Keep
    | Happened
)


def is_own_text(kind: str, body: bytes) -> bool:
    """True for a text chunk of the turn's own agent, which is a part of the turn's output."""
    # Inside of a JSON text the quotes would be escaped.
    return kind == Text.event and b'"agent_id":' not in body
