"""OpenAI's chat completions without I/O: the body of a request, and bytes into deltas.

Spoken by OpenAI, Ollama, vLLM, llama.cpp, LM Studio, LiteLLM and most others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from ....codec.json import dumps
from .calls import (
    AssistantMessage,
    CallRequest,
    Delta,
    Finish,
    FinishReason,
    Message,
    ModelCall,
    ModelFailure,
    Reasoning,
    ToolMessage,
    ToolSpec,
    UserMessage,
)
from .openai_errors import MAX_WORDS, stream_failure

#: Bytes of one line of a stream, and of the arguments of one tool call.
_MAX_LINE = 4 * 1024 * 1024
#: Tool calls in one answer.
_MAX_CALLS = 128

_FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


def request_body(call: ModelCall, *, tokens_field: str) -> bytes:
    """`tokens_field`: what the server calls the most tokens to answer with."""
    messages: list[dict[str, Any]] = []
    if call.system:
        messages.append({"role": "system", "content": call.system})
    messages += [_message(message) for message in call.messages]
    body: dict[str, Any] = {
        "model": call.model,
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if call.tools:
        body["tools"] = [_tool(tool) for tool in call.tools]
    sampling = call.sampling
    if sampling.temperature is not None:
        body["temperature"] = sampling.temperature
    if sampling.max_output_tokens is not None:
        body[tokens_field] = sampling.max_output_tokens
    if sampling.reasoning_effort is not None:
        body["reasoning_effort"] = sampling.reasoning_effort
    return dumps(body)


def _message(message: Message) -> dict[str, Any]:
    match message:
        case UserMessage():
            return {"role": "user", "content": message.text}
        case ToolMessage():
            return {"role": "tool", "tool_call_id": message.call_id, "content": message.result}
        case AssistantMessage():
            said: dict[str, Any] = {"role": "assistant", "content": message.text or None}
            if message.calls:
                said["tool_calls"] = [_call(call) for call in message.calls]
            return said


def _call(call: CallRequest) -> dict[str, Any]:
    function = {"name": call.tool, "arguments": call.arguments or "{}"}
    return {"id": call.call_id, "type": "function", "function": function}


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
    }
    return {"type": "function", "function": function}


@dataclass(slots=True)
class _Calling:
    """A tool call that is still being written."""

    call_id: str
    tool: str
    arguments: list[str]
    size: int = 0


class ChatDecoder:
    """Takes an answer's bytes, cut anywhere; `close` says how it ended.

    Texts that arrive together come out as one. Raises ModelFailure.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._calls: list[_Calling] = []
        self._places: dict[int, _Calling] = {}
        self._reason: FinishReason | None = None
        self._tokens: tuple[int | None, int | None] = (None, None)
        self._done = False

    def feed(self, data: bytes) -> Iterator[Delta]:
        """The deltas that are whole now; those before a failure come before it."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        texts: list[str] = []
        try:
            for delta in self._events(lines):
                if isinstance(delta, str):
                    texts.append(delta)
                    continue
                if texts:
                    yield "".join(texts)
                    texts = []
                yield delta
        except ModelFailure:
            if texts:
                yield "".join(texts)
            raise
        if texts:
            yield "".join(texts)

    def close(self) -> Iterator[Delta]:
        """The tool calls, then how it ended; for a stream that has come to its end."""
        if self._reason is None and not self._done:
            raise ModelFailure("unavailable", "the stream ended before the answer did")
        for call in self._calls:
            yield CallRequest(call.call_id, call.tool, "".join(call.arguments))
        yield Finish(self._finish(), *self._tokens)

    def _finish(self) -> FinishReason:
        # Some servers say "stop" though they want tools called.
        if self._calls and self._reason in {None, "stop"}:
            return "tool_calls"
        return self._reason or "stop"

    def _events(self, lines: list[bytes]) -> Iterator[Delta]:
        for line in lines:
            if line.startswith(b"data:"):  # else comments, blank lines, names of events
                yield from self._event(line[5:].strip())
        if len(self._rest) > _MAX_LINE:
            raise ModelFailure("unreadable", f"a line of over {_MAX_LINE} bytes")

    def _event(self, data: bytes) -> Iterator[Delta]:
        if data == b"[DONE]":
            self._done = True
            return
        try:
            event = orjson.loads(data)
            if event.get("error"):
                raise stream_failure(event["error"])
            usage = event.get("usage")
            if usage:
                self._tokens = (
                    _count(usage.get("prompt_tokens")),
                    _count(usage.get("completion_tokens")),
                )
            choices = event.get("choices")
            if choices:
                yield from self._choice(choices[0])
        except (orjson.JSONDecodeError, AttributeError, TypeError, KeyError, IndexError) as error:
            raise ModelFailure("unreadable", f"{error}: {data[:MAX_WORDS]!r}") from error

    def _choice(self, choice: Mapping[str, Any]) -> Iterator[Delta]:
        delta = choice.get("delta") or {}
        text = delta.get("content") or delta.get("refusal")
        if text:
            yield _text(text)
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if thought:
            yield Reasoning(_text(thought))
        for part in delta.get("tool_calls") or ():
            self._tool_call(part)
        reason = choice.get("finish_reason")
        if reason:
            self._reason = _FINISH.get(reason, "stop")

    def _tool_call(self, part: Mapping[str, Any]) -> None:
        place = part.get("index") or 0
        function = part.get("function") or {}
        call_id, name = part.get("id"), function.get("name")
        call = self._places.get(place)
        # Some servers send every call at the same place, and only the id tells them apart.
        if call is None or (name and call_id and call_id != call.call_id):
            if len(self._calls) >= _MAX_CALLS:
                raise ModelFailure("unreadable", f"more than {_MAX_CALLS} tool calls")
            number = len(self._calls)
            call = _Calling(call_id or f"call_{number}", _text(name or ""), [])
            self._calls.append(call)
            self._places[place] = call
        piece = function.get("arguments")
        if not piece:
            return
        if not isinstance(piece, str):  # an object where the text of one should be
            piece = orjson.dumps(piece).decode()
        call.arguments.append(piece)
        call.size += len(piece)
        if call.size > _MAX_LINE:
            raise ModelFailure("unreadable", f"arguments of over {_MAX_LINE} characters")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where a text should be")
    return value


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None
