"""Runnables of LangChain that are no graphs: chains, chat models, functions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

from langchain_core.language_models import BaseLanguageModel
from langchain_core.messages import AIMessageChunk, ToolMessage
from langchain_core.runnables import Runnable, RunnableSequence
from langchain_core.tools import ToolException
from pydantic_core import to_jsonable_python

from ..agent_api import AgentChunk, Data, Step, ToolCall, ToolResult, Turn
from .langchain_messages import conversation_of, history_of, parts_of, usage_of

_STEP = "model"
#: What `adapted` takes.
TAKES = Runnable


def adapted(
    runnable: Any, make_input: Callable[[Turn], Any] | None
) -> Callable[[Turn], AsyncGenerator[AgentChunk, None]]:
    """See `adapters.langchain`."""

    async def run(turn: Turn) -> AsyncGenerator[AgentChunk, None]:
        given = _input(runnable, turn) if make_input is None else make_input(turn)
        shown = _RunnableView()
        async for event in runnable.astream_events(given, version="v2"):
            for chunk in shown.chunks(event):
                yield chunk

    return run


def _input(runnable: Any, turn: Turn) -> Any:
    first = runnable.first if isinstance(runnable, RunnableSequence) else runnable
    if isinstance(first, BaseLanguageModel):
        return conversation_of(turn)
    return {"input": turn.goal, "history": history_of(turn)}


class _RunnableView:
    """The events of one run. What the whole runnable streams is the answer's text."""

    def __init__(self) -> None:
        self._has_text = False

    def chunks(self, event: Any) -> Iterator[AgentChunk]:
        is_root = not event["parent_ids"]
        kind, data = event["event"], event["data"]
        if kind in {"on_chat_model_stream", "on_chain_stream", "on_parser_stream"}:
            yield from self._piece(data["chunk"], kind, is_root=is_root)
        elif kind == "on_chat_model_start":
            yield Step(_STEP)
        elif kind == "on_chat_model_end":
            if used := usage_of(data["output"]):
                yield used
            yield Step(_STEP, "completed")
        elif kind == "on_tool_start":
            args = to_jsonable_python(data.get("input") or {}, fallback=str)
            args = args if isinstance(args, dict) else {"input": args}
            yield ToolCall(event["name"], args, event["run_id"])
        elif kind == "on_tool_end":
            yield _result(event, data["output"])
        elif kind == "on_tool_error":
            error = data.get("error")  # what other errors say is not for clients
            said = str(error) if isinstance(error, ToolException) else "the tool failed"
            yield ToolResult(event["name"], said, event["run_id"], is_error=True)
        if is_root and kind == "on_chain_end" and not self._has_text:
            yield Data("output", to_jsonable_python(data["output"], fallback=str))

    def _piece(self, piece: Any, kind: str, *, is_root: bool) -> Iterator[AgentChunk]:
        if isinstance(piece, str):
            if is_root and piece:
                self._has_text = True
                yield piece
        elif isinstance(piece, AIMessageChunk) and (is_root or kind == "on_chat_model_stream"):
            for part in parts_of(piece, {}, {}):
                if not isinstance(part, str):
                    if kind == "on_chat_model_stream":  # a chain passes these on once more
                        yield part
                elif is_root:
                    self._has_text = True
                    yield part


def _result(event: Any, output: Any) -> ToolResult:
    is_error = isinstance(output, ToolMessage) and output.status == "error"
    content = output.content if isinstance(output, ToolMessage) else output
    content = to_jsonable_python(content, fallback=str)
    return ToolResult(event["name"], content, event["run_id"], is_error=is_error)
