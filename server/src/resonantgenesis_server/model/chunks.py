"""What an agent yields: the payloads of a session's chunks, without their position.

Each value has `event`, the SSE event name, and `payload()`, the JSON object of PROTOCOL.md,
section 4, without `position` (the log gives that).
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
    """What a tool gave back; any JSON value."""

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
    """A step of the turn began, got on, or ended.

    The runner numbers the steps (1, 2 … within the turn), measures `duration_ms` and counts
    `started` against `max_steps`; an agent gives only the name and the status. `detail` is a word
    about it for people, with `progress` the next piece of what it does (reasoning, say);
    `finish_reason` why a model stopped.
    """

    event: ClassVar[str] = "step"
    name: str
    status: Literal["started", "progress", "completed"] = "started"
    detail: str = ""
    finish_reason: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens an agent used since it last said so; added up by the runner, not itself a chunk.

    An agent that estimates may take back what was too much, with numbers below zero.
    """

    input_tokens: int = 0
    output_tokens: int = 0


#: What an agent may yield.
AgentChunk = str | Text | ToolCall | ToolResult | Step | Usage
