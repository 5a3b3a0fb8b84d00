"""The values that an agent yields: payloads of a session's chunks.

Each value has `event`, the name of the SSE event, and `payload()`, the JSON object of PROTOCOL.md,
section 4, without `position`, which the log gives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

Payload = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer."""

    event: ClassVar[str] = "message"
    content: str

    def payload(self) -> Payload:
        return {"type": "text", "content": self.content}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The agent calls a tool; `call_id` pairs it with its result."""

    event: ClassVar[str] = "tool_call"
    tool: str
    args: dict[str, Any] = field(default_factory=dict)
    call_id: str = ""

    def payload(self) -> Payload:
        return {"type": "tool_call", "tool": self.tool, "args": self.args, "call_id": self.call_id}


@dataclass(frozen=True, slots=True)
class ToolResult:
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
class Step:
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
class Ask:
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


#: The values that an agent may yield.
AgentChunk = str | Text | ToolCall | ToolResult | Step | Usage | Ask | Keep
