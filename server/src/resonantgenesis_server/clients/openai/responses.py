"""A turn as a response of OpenAI's Responses API: its events, and the object that they build.

`sequence_number` counts the events of the response from 0. Tools run on this server, so their calls
are items `mcp_call`: a `function_call` asks the client to run it, and to give its output.

A turn that waits ends its response with what it asks. What comes after the answer is a response of
its own, the next part of the turn.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import orjson

from ...codec.json import dumps
from ..frames import Chunk, TurnFrames
from .completions import ASK

Json = dict[str, Any]
_LABEL = "agent"


def response_id(session_id: str, turn: int, part: int = 0) -> str:
    """The id of a turn's response; `part` counts the times that the turn has waited before."""
    return f"resp_{session_id}.{turn}" + (f".{part}" if part else "")


def approval_id(call_id: str) -> str:
    """The id of the request for an approval of this call."""
    return f"mcpr_{call_id}"


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
    #: None: the whole turn, with the answers to what it asked.
    part: int | None = 0
    #: The names of tools that the client runs.
    client_tools: frozenset[str] = frozenset()


class ResponseFrames(TurnFrames):
    """The events of one part of a turn, from `response.created` to its end."""

    __slots__ = (
        "_asked", "_at", "_calls", "_failure", "_first", "_functions", "_info", "_item", "_made",
        "_next", "_output", "_over", "_status", "_texts", "_usage",
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
        #: The part of the turn that the chunks are of, and the number of items before that part.
        self._at = 0
        self._first = 0
        self._over = False
        #: Names and arguments of all calls; calls that need an approval; those for the client.
        self._made: dict[str, tuple[str, object]] = {}
        self._asked: frozenset[str] = frozenset()
        self._functions: frozenset[str] = frozenset()
        self._failure: Json | None = None
        self._usage: Mapping[str, int] | None = None

    @property
    def key(self) -> tuple[object, ...]:
        info = self._info
        return ("openai-responses", info.session_id, info.turn, info.part, info.background)

    def copy(self) -> Self:
        other = super().copy()
        other._output = copy.copy(self._output)
        other._texts = copy.copy(self._texts)
        other._calls = copy.copy(self._calls)
        other._made = copy.copy(self._made)
        return other

    @property
    def has_begun(self) -> bool:
        """Whether a chunk of the part was taken in."""
        return self._status != "queued"

    def frames(self, kind: str, chunk: Chunk) -> list[bytes]:
        found = []
        for event in self._events(kind, chunk):
            name = event["type"]
            found.append(b"event: %b\ndata: %b\n\n" % (name.encode(), dumps(event)))
        return found

    def response(self) -> Json:
        """The response as far as its chunks were taken in."""
        info, turn, part = self._info, self._info.turn, self._info.part or 0
        before = response_id(info.session_id, turn - 1) if turn > 1 else None
        if part:
            before = response_id(info.session_id, turn, part - 1)
        incomplete = {"reason": "cancelled"} if self._status == "cancelled" else None
        output = copy.copy(self._output)
        if self._item is not None:
            output[self._item] = self._filled(self._item, "in_progress")
        return {
            "id": response_id(info.session_id, turn, part),
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
        if self._over:
            return
        if kind == "tool_call" or (kind == "input_required" and chunk.get("tool") is not None):
            self._made[chunk["call_id"]] = (chunk["tool"], chunk.get("args") or {})
        if self._info.part is not None and self._at < self._info.part:
            self._pass(kind, chunk)
        else:
            yield from self._shown(kind, chunk)

    def _pass(self, kind: str, chunk: Chunk) -> None:
        """A chunk of a part before this one."""
        if kind == "input_required":
            self._note(chunk)
        elif kind == "tool_call" and chunk["tool"] in self._info.client_tools:
            self._functions |= {chunk["call_id"]}
        elif kind == "waiting":
            self._at += 1

    def _note(self, chunk: Chunk) -> None:
        if chunk["kind"] == "approval":
            self._asked |= {chunk["call_id"]}
        else:
            self._functions |= {chunk["call_id"]}

    def _shown(self, kind: str, chunk: Chunk) -> Iterator[Json]:
        if self._status == "queued":
            self._status = "in_progress"
            yield self._event("response.created", response=self.response())
            yield self._event("response.in_progress", response=self.response())
        if kind == "message":  # what a sub-agent says is no part of the answer
            yield from self._text("reasoning" if "agent_id" in chunk else kind, chunk["content"])
        elif kind == "reasoning" or (kind == "step" and chunk["status"] == "progress"):
            yield from self._text("reasoning", str(chunk.get("content") or chunk.get("detail", "")))
        elif kind in {"tool_call", "tool_result", "input_required"}:
            yield from self._close()
            yield from self._tool(kind, chunk)
        elif kind == "input" and self._info.part is None:
            self._output.append(_said(chunk, self._asked, self._item_id("in")))
        elif kind == "error":
            self._failure = {"code": "server_error", "message": chunk["message"]}
        elif kind == "waiting":
            yield from self._wait()
        elif kind == "done":
            yield from self._close()
            for call_id in list(self._calls):
                yield from self._call_ended(
                    call_id, "the turn ended before the result", failed=True
                )
            yield from self._end(str(chunk["status"]), chunk["usage"])

    def _tool(self, kind: str, chunk: Chunk) -> Iterator[Json]:
        call_id = chunk["call_id"]
        if kind == "input_required":
            yield from self._ask(chunk)
        elif kind == "tool_call" and chunk["tool"] in self._info.client_tools:
            yield from self._function(call_id, chunk["tool"], chunk["args"])
        elif kind == "tool_call":
            yield from self._call(call_id, chunk["tool"], chunk["args"])
        elif call_id not in self._functions:
            yield from self._result(chunk)

    def _event(self, kind: str, /, **fields: Any) -> Json:
        number, self._next = self._next, self._next + 1
        return {"type": kind, "sequence_number": number, **fields}

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
            "approval_request_id": approval_id(call_id) if call_id in self._asked else None,
        }
        self._output.append(item)
        place = {"item_id": item["id"], "output_index": index}
        yield self._event("response.output_item.added", output_index=index, item=item)
        yield self._event("response.mcp_call.in_progress", **place)
        yield self._event("response.mcp_call_arguments.done", **place, arguments=arguments)

    def _result(self, chunk: Chunk) -> Iterator[Json]:
        call_id, result = chunk["call_id"], chunk["result"]
        if call_id not in self._calls:
            yield from self._call(call_id, *self._made.get(call_id, (chunk["tool"], {})))
        text = result if isinstance(result, str) else orjson.dumps(result).decode()
        yield from self._call_ended(call_id, text, failed=chunk["is_error"])

    def _call_ended(self, call_id: str, text: str, *, failed: bool) -> Iterator[Json]:
        index = self._calls.pop(call_id)
        end: Json = {"status": "completed", "output": text}
        if failed:
            end = {"status": "failed", "error": _tool_error(text)}
        item = self._output[index] = {**self._output[index], **end}
        name = "failed" if failed else "completed"
        yield self._event(f"response.mcp_call.{name}", item_id=item["id"], output_index=index)
        yield self._event("response.output_item.done", output_index=index, item=item)

    # -- what the client is asked for ---------------------------------------------------------

    def _ask(self, chunk: Chunk) -> Iterator[Json]:
        call_id, kind = chunk["call_id"], chunk["kind"]
        shown = call_id in self._functions
        self._note(chunk)
        if kind == "approval":
            yield from self._whole(
                {
                    "id": approval_id(call_id),
                    "type": "mcp_approval_request",
                    "name": chunk["tool"],
                    "arguments": orjson.dumps(chunk.get("args") or {}).decode(),
                    "server_label": _LABEL,
                }
            )
        elif kind == "tool" and not shown:
            yield from self._function(call_id, chunk["tool"], chunk.get("args") or {})
        elif kind == "input":
            asked = {name: chunk[name] for name in ("message", "schema") if name in chunk}
            yield from self._function(call_id, ASK, asked)

    def _function(self, call_id: str, name: str, args: object) -> Iterator[Json]:
        self._functions |= {call_id}
        arguments = orjson.dumps(args).decode()
        item = {"id": self._item_id("fc"), "type": "function_call", "call_id": call_id}
        item |= {"name": name, "arguments": arguments, "status": "completed"}
        place = {"item_id": item["id"], "output_index": len(self._output)}
        begun = {**item, "arguments": "", "status": "in_progress"}
        args_of = "response.function_call_arguments"
        yield self._event("response.output_item.added", output_index=len(self._output), item=begun)
        yield self._event(f"{args_of}.delta", **place, delta=arguments)
        yield self._event(f"{args_of}.done", **place, name=name, arguments=arguments)
        yield self._event("response.output_item.done", output_index=len(self._output), item=item)
        self._output.append(item)

    def _whole(self, item: Json) -> Iterator[Json]:
        """An item without events of its own."""
        index = len(self._output)
        self._output.append(item)
        yield self._event("response.output_item.added", output_index=index, item=item)
        yield self._event("response.output_item.done", output_index=index, item=item)

    def _wait(self) -> Iterator[Json]:
        yield from self._close()
        error = _tool_error("the turn waits for an answer before the result")
        end = {"status": "incomplete", "error": error}
        for index in self._calls.values():
            item = self._output[index] = {**self._output[index], **end}
            yield self._event("response.output_item.done", output_index=index, item=item)
        self._calls = {}
        self._at += 1
        if self._info.part is None:
            self._first = len(self._output)
        else:
            yield from self._end("success", None)

    def _end(self, status: str, usage: Mapping[str, int] | None) -> Iterator[Json]:
        self._over = True
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
        info, number = self._info, len(self._output) - self._first
        part = f".{self._at}" if self._at else ""
        return f"{prefix}_{info.session_id}.{info.turn}{part}.{number}"


def _said(chunk: Chunk, approvals: Container[str], item_id: str) -> Json:
    """What the client said to a call, as an item."""
    call_id = chunk["call_id"]
    if call_id in approvals:
        answer = {"approve": bool(chunk.get("approved")), "reason": chunk.get("reason")}
        asked = approval_id(call_id)
        return {
            "id": item_id,
            "type": "mcp_approval_response",
            "approval_request_id": asked,
            **answer,
        }
    said = chunk.get("payload")
    output = said if isinstance(said, str) else orjson.dumps(said).decode()
    return {"id": item_id, "type": "function_call_output", "call_id": call_id, "output": output}


def _tool_error(text: str) -> Json:
    """Why a call failed, as the SDKs type it."""
    return {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": text}]}


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
