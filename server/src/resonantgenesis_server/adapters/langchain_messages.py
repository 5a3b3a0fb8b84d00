"""Messages of LangChain as chunks, and turns as messages of LangChain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from pydantic_core import to_jsonable_python

from ..agent_api import Reasoning, Source, Text, ToolCall, ToolResult, Turn, Usage


def history_of(turn: Turn) -> list[BaseMessage]:
    """The earlier turns."""
    messages: list[BaseMessage] = []
    for past in turn.history:
        messages.append(HumanMessage(past.goal))
        if past.output:
            messages.append(AIMessage(past.output))
    return messages


def conversation_of(turn: Turn) -> list[BaseMessage]:
    """The earlier turns and the goal."""
    return [*history_of(turn), HumanMessage(turn.goal)]


def parts_of(
    message: Any, text_from: dict[str, str], origin: dict[str, str]
) -> Iterator[str | Text | Reasoning | Source]:
    """The text, thoughts and sources of a message, or of a piece of one. `text_from` and `origin`
    name the sub-agent of its text, and that of the rest."""
    if isinstance(message.content, str) and not message.additional_kwargs:
        blocks: list[dict[str, Any]] = [{"type": "text", "text": message.content}]
    else:
        blocks = message.content_blocks
    for block in blocks:
        if block["type"] == "reasoning" and block.get("reasoning"):
            yield Reasoning(block["reasoning"], **origin)
        elif block["type"] == "text":
            if text := block.get("text"):
                yield Text(text, **text_from) if text_from else text
            for note in block.get("annotations") or ():
                if note.get("type") == "citation" and note.get("url"):
                    yield Source(note["url"], note.get("title") or "", **origin)


def usage_of(message: Any) -> Usage | None:
    used = message.usage_metadata
    return Usage(used["input_tokens"], used["output_tokens"]) if used else None


class ToolCalls:
    """The calls of tools in messages that come in pieces, each once."""

    def __init__(self) -> None:
        self._pieces: dict[str, Any] = {}

    def of(self, message: Any) -> list[dict[str, Any]]:
        """The calls that are whole with this message, or this piece of one."""
        if not hasattr(message, "tool_call_chunks"):
            return list(message.tool_calls)
        begun = self._pieces.get(message.id)
        if begun is None and not message.tool_call_chunks:
            return []
        whole = message if begun is None else begun + message
        if message.chunk_position != "last":
            self._pieces[message.id] = whole
            return []
        self._pieces.pop(message.id, None)
        return list(whole.tool_calls)


def tool_call(call: dict[str, Any], origin: dict[str, str]) -> ToolCall:
    args = to_jsonable_python(call["args"], fallback=str)
    return ToolCall(call["name"], args, call["id"] or "", **origin)


def tool_result(message: ToolMessage, tool: str, origin: dict[str, str]) -> ToolResult:
    """`tool` is the name of one that the message does not name."""
    content = to_jsonable_python(message.content, fallback=str)
    is_error = message.status == "error"
    return ToolResult(
        message.name or tool, content, message.tool_call_id, is_error=is_error, **origin
    )
