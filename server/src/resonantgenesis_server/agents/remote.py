"""What an agent outside of this process is told of a turn, and the chunks that it sends back.

The wire forms that the engines `http` and `worker` share; PROTOCOL.md, section 8, has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..model.chunks import (
    AgentChunk,
    Ask,
    Data,
    File,
    Keep,
    Reasoning,
    Source,
    Step,
    Text,
    ToolCall,
    ToolResult,
    Usage,
)
from ..model.errors import AgentError
from .base import PastStep, PastTurn, Turn

#: The longest time that a chunk may name, in seconds: a leap year.
_MAX_SECONDS = 366 * 86_400
#: Characters of an unknown name that an error shows.
_SHOWN = 64


class BadChunk(AgentError):
    """The agent sent what is no chunk; the message says what, for the agent's author."""


class EndOfTurn:
    """The agent says that its turn is over."""


END = EndOfTurn()


def turn_body(turn: Turn) -> dict[str, Any]:
    """The turn as JSON, without what works inside of the server's process alone."""
    return {
        "goal": turn.goal,
        "session_id": turn.session_id,
        "turn": turn.turn,
        "agent_id": turn.agent_id,
        "context": turn.context,
        "history": [_past_turn(past) for past in turn.history],
        "subject": turn.subject,
        "metadata": turn.metadata,
        "model": turn.model,
        "tools": turn.tools,
        "instructions": turn.instructions,
        "max_steps": turn.max_steps,
        "client_tools": [asdict(tool) for tool in turn.client_tools],
        "answers": {call_id: asdict(answer) for call_id, answer in turn.answers.items()},
        "so_far": _past_steps(turn.so_far),
        "kept": turn.kept,
    }


def _past_turn(past: PastTurn) -> dict[str, Any]:
    return {
        "goal": past.goal,
        "output": past.output,
        "status": past.status,
        "steps": _past_steps(past.steps),
        "left": list(past.left),
    }


def _past_steps(steps: Sequence[PastStep]) -> list[dict[str, Any]]:
    return [asdict(step) for step in steps]


def chunk_of(value: object) -> AgentChunk | EndOfTurn:
    """The chunk that a JSON value stands for: a text, or an object with `type`.

    Raises AgentError where the object is an `error`, and BadChunk for a value that is no chunk.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise BadChunk("the agent sent a chunk that is neither a text nor an object")
    kind = value.get("type")
    read = _READERS.get(kind) if isinstance(kind, str) else None
    if read is None:
        known = ", ".join(_READERS)
        raise BadChunk(f"the agent sent a chunk of type {str(kind)[:_SHOWN]!r}; one of: {known}")
    return read(_Fields(str(kind), value))


def error_of(value: Mapping[str, Any]) -> AgentError:
    """The error that an agent ends its turn with: `message`, and `code`, `retryable` and
    `retry_after` if it gives them. Raises BadChunk."""
    fields = _Fields("error", value)
    message = fields.text("message", "the agent failed")
    code = fields.text("code", "AGENT_FAILED")
    retryable = fields.truth("retryable") if value.get("retryable") is not None else None
    retry_after = fields.seconds("retry_after")
    try:
        return AgentError(message, code, retryable=retryable, retry_after=retry_after)
    except ValueError:  # a code that is not ours
        return AgentError(message, retryable=retryable, retry_after=retry_after)


class _Fields:
    """The fields of a chunk, each checked as it is read. Raises BadChunk."""

    def __init__(self, kind: str, value: Mapping[str, Any]) -> None:
        self._kind = kind
        self.value = value

    def bad(self, name: str, wanted: str) -> BadChunk:
        return BadChunk(f"the agent sent a {self._kind} chunk whose {name} is not {wanted}")

    def text(self, name: str, default: str | None = None) -> str:
        text = self.value.get(name)
        if text is None and default is not None:
            return default
        if not isinstance(text, str) or (default is None and name != "content" and not text):
            raise self.bad(name, "a text")
        return text

    def one_of(self, name: str, *words: str) -> Any:
        word = self.text(name, words[0])
        if word not in words:
            raise self.bad(name, f"one of {', '.join(words)}")
        return word

    def truth(self, name: str) -> bool:
        truth = self.value.get(name, False)
        if not isinstance(truth, bool):
            raise self.bad(name, "a boolean")
        return truth

    def count(self, name: str) -> int:
        count = self.value.get(name, 0)
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= 10**15:
            raise self.bad(name, "a count")
        return count

    def seconds(self, name: str) -> float | None:
        seconds = self.value.get(name)
        if seconds is None:
            return None
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not is_number or not 0 <= seconds <= _MAX_SECONDS:
            raise self.bad(name, f"a number of seconds up to {_MAX_SECONDS}")
        return float(seconds)

    def object(self, name: str) -> dict[str, Any]:
        found = self.value.get(name)
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise self.bad(name, "an object")
        return found

    def origin(self) -> dict[str, str]:
        """The fields that name a sub-agent."""
        found = {name: self.text(name, "") for name in ("agent_id", "parent")}
        if found["parent"] and not found["agent_id"]:
            raise self.bad("agent_id", "given, though it has a parent")
        return found


def _error(fields: _Fields) -> AgentChunk:
    raise error_of(fields.value)


def _done(_fields: _Fields) -> EndOfTurn:
    return END


def _read_text(fields: _Fields) -> AgentChunk:
    content = fields.text("content")
    named = any(fields.value.get(name) for name in ("agent_id", "parent"))
    return Text(content, **fields.origin()) if named else content


def _reasoning(fields: _Fields) -> AgentChunk:
    return Reasoning(fields.text("content"), **fields.origin())


def _tool_call(fields: _Fields) -> AgentChunk:
    return ToolCall(
        fields.text("tool"), fields.object("args"), fields.text("call_id", ""), **fields.origin()
    )


def _tool_result(fields: _Fields) -> AgentChunk:
    return ToolResult(
        fields.text("tool"),
        fields.value.get("result"),
        fields.text("call_id", ""),
        fields.truth("is_error"),
        **fields.origin(),
    )


def _step(fields: _Fields) -> AgentChunk:
    return Step(
        fields.text("name"),
        fields.one_of("status", "started", "progress", "completed"),
        fields.text("detail", ""),
        fields.text("finish_reason", ""),
        **fields.origin(),
    )


def _source(fields: _Fields) -> AgentChunk:
    return Source(fields.text("url"), fields.text("title", ""), **fields.origin())


def _file(fields: _Fields) -> AgentChunk:
    return File(
        fields.text("file_id"),
        fields.text("name"),
        fields.text("content_type"),
        fields.count("size"),
        **fields.origin(),
    )


def _data(fields: _Fields) -> AgentChunk:
    return Data(
        fields.text("name"),
        fields.value.get("data"),
        fields.text("id", ""),
        fields.truth("transient"),
        **fields.origin(),
    )


def _usage(fields: _Fields) -> AgentChunk:
    return Usage(fields.count("input_tokens"), fields.count("output_tokens"))


def _ask(fields: _Fields) -> AgentChunk:
    return Ask(
        fields.one_of("kind", "input", "approval", "tool"),
        fields.text("message", ""),
        fields.text("tool", ""),
        fields.object("args"),
        fields.object("schema") or None,
        fields.text("call_id", ""),
        fields.seconds("expires_in"),
        **fields.origin(),
    )


def _keep(fields: _Fields) -> AgentChunk:
    return Keep(fields.value.get("value"))


_READERS: Mapping[str, Callable[[_Fields], AgentChunk | EndOfTurn]] = {
    "text": _read_text,
    "reasoning": _reasoning,
    "tool_call": _tool_call,
    "tool_result": _tool_result,
    "step": _step,
    "source": _source,
    "file": _file,
    "data": _data,
    "usage": _usage,
    "ask": _ask,
    "keep": _keep,
    "error": _error,
    "done": _done,
}
