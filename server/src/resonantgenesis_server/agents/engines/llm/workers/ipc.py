"""The messages between the server and its engine workers: lines of JSON over a socket.

To a worker: `{"settings": …}` first; then `{"find": ID, "model"}`, `{"call": ID, "provider", …}`,
`{"more": ID, "bytes"}` (so many more may come), `{"cancel": ID}`. From a worker: `[ID, KIND, …]`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from .....codec.json import dumps, loads
from .....model.chunks import Reasoning, Source
from ....tools.images import Image
from ..calls import (
    AssistantMessage,
    CallRequest,
    Delta,
    Finish,
    Message,
    ModelCall,
    ModelFailure,
    Sampling,
    ToolMessage,
    ToolSpec,
    UserMessage,
)

#: Bytes of one call's messages that may be under way: past them a worker stops reading from its
#: provider.
WINDOW = 256 * 1024
#: Bytes of a line: a call has the whole conversation.
MAX_LINE = 64 * 1024 * 1024

Json = dict[str, Any]


class WorkerLink(asyncio.Protocol):
    """One end of the socket.

    `on_message` gets every message and its size in bytes. `on_lost` is called once, when the other
    end is gone.
    """

    def __init__(self, on_message: Callable[[Any, int], None], on_lost: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_lost = on_lost
        self._transport: asyncio.WriteTransport | None = None
        self._in: list[bytes] = []
        self._in_size = 0
        self._out: list[bytes] = []
        self._writable = asyncio.Event()
        self._writable.set()

    def send(self, message: object) -> int:
        """Send a message and return its size. Messages of one round of the event loop leave
        together."""
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        line = dumps(message)
        self._out += (line, b"\n")
        return len(line)

    async def drained(self) -> None:
        """Return once the other end can take more, or is gone."""
        await self._writable.wait()

    def close(self) -> None:
        """Close this end. Messages that were sent before still arrive."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        data, self._out = b"".join(self._out), []
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    # -- what the event loop calls ---------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = b"".join([*self._in, lines[0]])
            self._in, self._in_size = [], 0
        if rest:
            self._in.append(rest)
            self._in_size += len(rest)
        for line in lines:
            self._on_message(loads(line), len(line))
        if self._in_size > MAX_LINE:
            raise ValueError(f"a message of over {MAX_LINE} bytes")  # ends the connection

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        self._on_lost()


def call_json(call: ModelCall) -> Json:
    """The JSON of a call, as `call_of` reads it."""
    return {
        "model": call.model,
        "system": call.system,
        "messages": [_message_json(message) for message in call.messages],
        "tools": [[tool.name, tool.description, dict(tool.parameters)] for tool in call.tools],
        "sampling": [
            call.sampling.temperature,
            call.sampling.max_output_tokens,
            call.sampling.reasoning_effort,
        ],
    }


def call_of(given: Json) -> ModelCall:
    return ModelCall(
        given["model"],
        given["system"],
        [_message_of(message) for message in given["messages"]],
        [ToolSpec(*tool) for tool in given["tools"]],
        Sampling(*given["sampling"]),
    )


def _message_json(message: Message) -> list[Any]:
    match message:
        case UserMessage():
            return ["user", message.text, [[i.content_type, i.data] for i in message.images]]
        case AssistantMessage():
            calls = [[call.call_id, call.tool, call.arguments] for call in message.calls]
            return ["assistant", message.text, calls, message.native]
        case ToolMessage():
            return ["tool", message.call_id, message.tool, message.result, message.is_error]


def _message_of(given: list[Any]) -> Message:
    kind, *fields = given
    if kind == "user":
        text, images = fields
        return UserMessage(text, [Image(*image) for image in images])
    if kind == "tool":
        return ToolMessage(*fields)
    text, calls, native = fields
    return AssistantMessage(text, [CallRequest(*call) for call in calls], native)


def delta_json(number: int, delta: Delta) -> list[Any]:
    """The JSON of a delta behind the number of its call, as `delta_of` reads it."""
    if isinstance(delta, str):
        return [number, "text", delta]
    if isinstance(delta, Reasoning):
        return [number, "reasoning", delta.content]
    if isinstance(delta, Source):
        return [number, "source", delta.url, delta.title]
    if isinstance(delta, CallRequest):
        return [number, "tool", delta.call_id, delta.tool, delta.arguments]
    tokens = delta.input_tokens, delta.output_tokens
    return [number, "finish", delta.reason, *tokens, delta.native, delta.said]


def failure_json(number: int, failure: ModelFailure) -> list[Any]:
    return [number, "failure", failure.kind, failure.said, failure.retry_after]


def delta_of(kind: str, fields: list[Any]) -> Delta:
    """Raises the ModelFailure that a worker met."""
    if kind == "text":
        text: str = fields[0]
        return text
    if kind == "reasoning":
        return Reasoning(*fields)
    if kind == "source":
        return Source(*fields)
    if kind == "tool":
        return CallRequest(*fields)
    if kind == "finish":
        return Finish(*fields)
    failure_kind, said, retry_after = fields
    raise ModelFailure(failure_kind, said, retry_after=retry_after)
