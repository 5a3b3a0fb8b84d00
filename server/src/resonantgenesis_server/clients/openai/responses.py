"""A turn as a response of OpenAI's Responses API: its events, and the object that they build.

`sequence_number` counts the events of the response from 0. Tools run on this server, so their calls
are items `mcp_call`: a `function_call` would ask the client to run them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import orjson

from ...codec.json import dumps
from ..frames import Chunk, TurnFrames

Json = dict[str, Any]
_LABEL = "agent"


def response_id(session_id: str, turn: int) -> str:
    """The id of a turn's response."""
    return f"resp_{session_id}.{turn}"


@dataclass(frozen=True, slots=True)
class ResponseInfo:
    """The part of a response that does not come from chunks. `created_at` is in seconds."""

    session_id: str
    turn: int
    model: str
    created_at: int
    background: bool = False
    metadata: Mapping[str, Any] | None = None
    instructions: str | None = None


class ResponseFrames(TurnFrames):
    """The events of one turn, from `response.created` to its end."""

    __slots__ = (
        "_calls", "_failure", "_info", "_item", "_next", "_output", "_status", "_texts", "_usage",
    )  # fmt: skip

    def __init__(self, info: ResponseInfo) -> None:
        self._info = info
        self._next = 0
        self._status = "queued"
        self._output: list[Json] = []
        #: The open item of text or reasoning, by its index; the pieces of its text.
        self._item: int | None = None
        self._texts: list[str] = []
        #: The items of tool calls without a result, by call id.
        self._calls: dict[str, int] = {}
        self._failure: Json | None = None
        self._usage: Mapping[str, int] | None = None

    @property
    def key(self) -> tuple[object, ...]:
        return ("openai-responses", self._info.session_id, self._info.turn, self._info.background)

    def copy(self) -> Self:
        other = super().copy()
        other._output = copy.copy(self._output)
        other._texts = copy.copy(self._texts)
        other._calls = copy.copy(self._calls)
        return other

    def frames(self, kind: str, chunk: Chunk) -> list[bytes]:
        found = []
        for event in self._events(kind, chunk):
            name = event["type"]
            found.append(b"event: %b\ndata: %b\n\n" % (name.encode(), dumps(event)))
        return found

    def response(self) -> Json:
        """The response as far as its chunks were taken in."""
        info, turn = self._info, self._info.turn
        before = response_id(info.session_id, turn - 1) if turn > 1 else None
        incomplete = {"reason": "cancelled"} if self._status == "cancelled" else None
        output = copy.copy(self._output)
        if self._item is not None:
            output[self._item] = self._filled(self._item, "in_progress")
        return {
            "id": response_id(info.session_id, turn),
            "object": "response",
            "created_at": info.created_at,
            "status": self._status,
            "background": info.background,
            "error": self._failure,
            "incomplete_details": incomplete,
            "instructions": info.instructions,
            "conversation": {"id": f"conv_{info.session_id}"},
            "previous_response_id": before,
            "metadata": dict(info.metadata or {}),
            "model": info.model,
            "output": output,
            "parallel_tool_calls": True,
            "temperature": None,
            "tool_choice": "auto",
            "tools": [],
            "top_p": None,
            "usage": None if self._usage is None else _usage(self._usage),
        }

    # -- events ----------------------------------------------------------------------------

    def _events(self, kind: str, chunk: Chunk) -> Iterator[Json]:
        if self._status == "queued":
            self._status = "in_progress"
            yield self._event("response.created", response=self.response())
            yield self._event("response.in_progress", response=self.response())
        if kind == "message":
            yield from self._text("message", chunk["content"])
        elif kind == "reasoning" or (kind == "step" and chunk["status"] == "progress"):
            yield from self._text("reasoning", str(chunk.get("content") or chunk.get("detail", "")))
        elif kind == "tool_call":
            yield from self._close()
            yield from self._call(chunk["call_id"], chunk["tool"], chunk["args"])
        elif kind == "tool_result":
            yield from self._close()
            yield from self._result(chunk)
        elif kind == "error":
            self._failure = {"code": "server_error", "message": chunk["message"]}
        elif kind in {"done", "waiting"}:
            missing = "the turn ended before the result"
            if kind == "waiting":
                missing = "the turn waits for an answer before the result"
            yield from self._end(str(chunk.get("status", "success")), chunk.get("usage"), missing)

    def _event(self, name: str, **fields: Any) -> Json:
        number, self._next = self._next, self._next + 1
        return {"type": name, "sequence_number": number, **fields}

    def _text(self, kind: str, text: str) -> Iterator[Json]:
        if not text:
            return
        if self._item is None or self._output[self._item]["type"] != kind:
            yield from self._close()
            yield from self._open(kind)
        self._texts.append(text)
        index = self._item or 0
        place = {"item_id": self._output[index]["id"], "output_index": index}
        if kind == "message":
            delta = {**place, "content_index": 0, "delta": text, "logprobs": []}
            yield self._event("response.output_text.delta", **delta)
        else:
            delta = {**place, "summary_index": 0, "delta": text}
            yield self._event("response.reasoning_summary_text.delta", **delta)

    def _open(self, kind: str) -> Iterator[Json]:
        index = self._item = len(self._output)
        self._texts = []
        item: Json = {"id": self._item_id("msg" if kind == "message" else "rs"), "type": kind}
        if kind == "message":
            item |= {"status": "in_progress", "role": "assistant", "content": []}
        else:
            item |= {"summary": [], "status": "in_progress"}
        self._output.append(item)
        yield self._event("response.output_item.added", output_index=index, item=item)
        place = {"item_id": item["id"], "output_index": index}
        if kind == "message":
            part = {**place, "content_index": 0, "part": _text_part("")}
            yield self._event("response.content_part.added", **part)
        else:
            part = {**place, "summary_index": 0, "part": _summary_part("")}
            yield self._event("response.reasoning_summary_part.added", **part)

    def _close(self) -> Iterator[Json]:
        if self._item is None:
            return
        index, self._item = self._item, None
        text = "".join(self._texts)
        item = self._output[index] = self._filled(index, "completed")
        place = {"item_id": item["id"], "output_index": index}
        if item["type"] == "message":
            done = {**place, "content_index": 0, "text": text, "logprobs": []}
            yield self._event("response.output_text.done", **done)
            part = {**place, "content_index": 0, "part": _text_part(text)}
            yield self._event("response.content_part.done", **part)
        else:
            done = {**place, "summary_index": 0, "text": text}
            yield self._event("response.reasoning_summary_text.done", **done)
            part = {**place, "summary_index": 0, "part": _summary_part(text)}
            yield self._event("response.reasoning_summary_part.done", **part)
        yield self._event("response.output_item.done", output_index=index, item=item)

    def _filled(self, index: int, status: str) -> Json:
        """The open item with its text."""
        item, text = self._output[index], "".join(self._texts)
        if item["type"] == "message":
            return {**item, "status": status, "content": [_text_part(text)]}
        return {**item, "status": status, "summary": [_summary_part(text)]}

    def _call(self, call_id: str, tool: str, args: object) -> Iterator[Json]:
        if call_id in self._calls:
            yield from self._call_ended(call_id, "the call was made again", failed=True)
        index = self._calls[call_id] = len(self._output)
        arguments = orjson.dumps(args).decode()
        item: Json = {
            "id": self._item_id("mcp"),
            "type": "mcp_call",
            "status": "in_progress",
            "name": tool,
            "arguments": arguments,
            "server_label": _LABEL,
            "output": None,
            "error": None,
        }
        self._output.append(item)
        place = {"item_id": item["id"], "output_index": index}
        yield self._event("response.output_item.added", output_index=index, item=item)
        yield self._event("response.mcp_call.in_progress", **place)
        yield self._event("response.mcp_call_arguments.done", **place, arguments=arguments)

    def _result(self, chunk: Chunk) -> Iterator[Json]:
        call_id, result = chunk["call_id"], chunk["result"]
        if call_id not in self._calls:
            yield from self._call(call_id, chunk["tool"], {})
        text = result if isinstance(result, str) else orjson.dumps(result).decode()
        yield from self._call_ended(call_id, text, failed=chunk["is_error"])

    def _call_ended(self, call_id: str, text: str | None, *, failed: bool) -> Iterator[Json]:
        index = self._calls.pop(call_id)
        end: Json = {"status": "failed", "error": text} if failed else {"status": "completed"}
        if not failed:
            end["output"] = text
        item = self._output[index] = {**self._output[index], **end}
        name = "failed" if failed else "completed"
        yield self._event(f"response.mcp_call.{name}", item_id=item["id"], output_index=index)
        yield self._event("response.output_item.done", output_index=index, item=item)

    def _end(self, status: str, usage: Mapping[str, int] | None, missing: str) -> Iterator[Json]:
        yield from self._close()
        for call_id in list(self._calls):
            yield from self._call_ended(call_id, missing, failed=True)
        self._usage = usage
        if status == "success":
            self._status = "completed"
            yield self._event("response.completed", response=self.response())
        elif status == "cancelled":
            self._status = "cancelled"
            yield self._event("response.incomplete", response=self.response())
        else:
            self._status = "failed"
            yield self._event("response.failed", response=self.response())

    def _item_id(self, prefix: str) -> str:
        return f"{prefix}_{self._info.session_id}.{self._info.turn}.{len(self._output)}"


def _text_part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _summary_part(text: str) -> Json:
    return {"type": "summary_text", "text": text}


def _usage(usage: Mapping[str, int]) -> Json:
    taken, given = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
    return {
        "input_tokens": taken,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": given,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": taken + given,
    }
