"""A turn as the UI message stream of the AI SDK: frames of `data:`, with no ids.

A client refuses the whole stream for a frame type that it does not know. So only types of version 5
are used, but for approvals, which came with version 6. A part of text or reasoning is closed before
anything else begins.

A turn that waits ends the message for now; what comes after the answer begins with `start` and the
same message id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..frames import Chunk, TurnFrames, data_frame

#: The headers by which clients choose their decoder.
HEADERS = ((b"x-vercel-ai-ui-message-stream", b"v1"),)
END = b"data: [DONE]\n\n"
#: Fields of an `input_required` that a client needs no second time.
_NOT_ASKED = {"type", "kind"}
#: A client takes an end without a reason, or with one that it does not know, for a good one.
_FINISHED = {
    "success": "stop",
    "waiting": "tool-calls",
    "failed": "error",
    "timeout": "error",
    "cancelled": "other",
}


def message_id(session_id: str, turn: int) -> str:
    """The id of a turn's assistant message, equal on every read."""
    return f"msg_{session_id}.{turn}"


class UiMessageFrames(TurnFrames):
    """The frames of one turn, from `start` to `[DONE]`."""

    __slots__ = (
        "_begun", "_calls", "_counted", "_denied", "_open", "_parts", "_settled", "_steps",
        "_waited", "sdk", "session_id", "turn",
    )  # fmt: skip

    def __init__(
        self,
        session_id: str,
        turn: int,
        sdk: int = 6,
        *,
        counted: bool = True,
        settled: frozenset[str] = frozenset(),
    ) -> None:
        """`sdk` is the lowest version that reads the frames. `counted`: the client may go on from
        the number of frames that it has. `settled`: calls whose results the client has; it would
        show a second call for a second result."""
        self.session_id = session_id
        self.turn = turn
        self.sdk = sdk
        self._counted = counted
        self._settled = settled
        self._begun = False
        #: The number of steps that run. The SDK knows one step at a time.
        self._steps = 0
        #: Whether nothing has begun since the turn waited.
        self._waited = False
        #: The kind of the open part, and the number of parts so far, which is the last part's id.
        self._open = ""
        self._parts = 0
        self._calls: frozenset[str] = frozenset()
        #: Calls that a person has denied.
        self._denied: frozenset[str] = frozenset()

    @property
    def key(self) -> tuple[object, ...]:
        return ("ai-sdk", self.session_id, self.turn, self.sdk, self._counted, self._settled)

    def frames(self, kind: str, chunk: Chunk) -> list[bytes]:
        found = [data_frame(value) for value in self.values(kind, chunk)]
        if kind in {"done", "waiting"}:
            found.append(END)
        return found

    def aside(self, chunk: Chunk) -> list[bytes]:
        if self._counted or not self._begun:
            return []
        return [data_frame({**value, "transient": True}) for value in self._data(chunk)]

    def values(self, kind: str, chunk: Chunk) -> Iterator[Mapping[str, Any]]:
        """The frames of the next chunk before they are JSON, without `[DONE]`."""
        if not self._begun:
            self._begun = True
            place = {"session_id": self.session_id, "turn": self.turn}
            message = message_id(self.session_id, self.turn)
            yield {"type": "start", "messageId": message, "messageMetadata": place}
        encode = _ENCODERS.get(kind)
        if encode is not None:
            yield from encode(self, chunk)
        self._begun = kind != "waiting"

    def _text(self, chunk: Chunk) -> Iterator[Mapping[str, Any]]:
        # What a sub-agent says is no part of the answer.
        return self._delta("reasoning" if "agent_id" in chunk else "text", chunk["content"])

    def _reasoning(self, chunk: Chunk) -> Iterator[Mapping[str, Any]]:
        return self._delta("reasoning", chunk["content"])

    def _tool_call(self, chunk: Chunk) -> Iterator[Mapping[str, Any]]:
        yield from self._close_part()
        yield from self._step_of_its_own()
        yield from self._call(chunk["call_id"], chunk["tool"], chunk["args"])

    def _file(self, chunk: Chunk) -> Iterator[Mapping[str, Any]]:
        yield from self._close_part()
        url = f"/v1/files/{chunk['file_id']}/content"
        yield {"type": "file", "url": url, "mediaType": chunk["content_type"]}

    def _input(self, chunk: Chunk) -> Iterator[Mapping[str, Any]]:
        if chunk.get("approved") is False or chunk["status"] != "answered":
            self._denied |= {chunk["call_id"]}
        yield from ()

    def _error(self, chunk: Chunk) -> Iterator[Mapping[str, Any]]:
        yield {"type": "error", "errorText": chunk["message"]}

    def _delta(self, part: str, text: str) -> Iterator[Mapping[str, Any]]:
        if self._open != part:
            yield from self._close_part()
            yield from self._step_of_its_own()
            self._parts += 1
            self._open = part
            yield {"type": f"{part}-start", "id": str(self._parts)}
        yield {"type": f"{part}-delta", "id": str(self._parts), "delta": text}

    def _close_part(self) -> Iterator[Mapping[str, Any]]:
        if self._open:
            part, self._open = self._open, ""
            yield {"type": f"{part}-end", "id": str(self._parts)}

    def _step(self, chunk: Chunk) -> Iterator[Mapping[str, Any]]:
        if chunk["status"] == "progress":
            if chunk.get("detail"):
                yield from self._delta("reasoning", chunk["detail"])
            return
        yield from self._close_part()
        if chunk["status"] == "started":
            self._waited = False
            self._steps += 1
            if self._steps == 1:
                yield {"type": "start-step"}
        elif self._steps:
            self._steps -= 1
            if not self._steps:
                yield {"type": "finish-step"}

    def _step_of_its_own(self) -> Iterator[Mapping[str, Any]]:
        """Behind an answer a step begins: while the newest step has the answered calls alone, a
        client that answers by itself does so again and again."""
        if self._waited and not self._steps:
            self._waited, self._steps = False, 1
            yield {"type": "start-step"}

    def _call(self, call_id: str, tool: str, args: object) -> Iterator[Mapping[str, Any]]:
        self._calls |= {call_id}
        yield {"type": "tool-input-start", "toolCallId": call_id, "toolName": tool}
        call = {"toolCallId": call_id, "toolName": tool, "input": args}
        yield {"type": "tool-input-available", **call}

    def _ask(self, chunk: Chunk) -> Iterator[Mapping[str, Any]]:
        """An approval as the SDK has it; a client's own tool has its call already; else data."""
        call_id = chunk["call_id"]
        yield from self._close_part()
        if chunk["kind"] == "approval" and self.sdk > 5:
            if call_id not in self._calls:
                yield from self._call(call_id, chunk["tool"], chunk["args"])
            yield {"type": "tool-approval-request", "approvalId": call_id, "toolCallId": call_id}
        elif chunk["kind"] != "tool":
            asked = {name: value for name, value in chunk.items() if name not in _NOT_ASKED}
            yield {"type": f"data-{chunk['kind']}", "id": call_id, "data": asked}

    def _result(self, chunk: Chunk) -> Iterator[Mapping[str, Any]]:
        yield from self._close_part()
        call_id = chunk["call_id"]
        if call_id in self._settled:
            return
        if call_id not in self._calls:  # a client refuses the result of a call that it has not seen
            yield from self._call(call_id, chunk["tool"], {})
        if not chunk["is_error"]:
            yield {
                "type": "tool-output-available",
                "toolCallId": call_id,
                "output": chunk["result"],
            }
            return
        if call_id in self._denied and self.sdk > 5:
            yield {"type": "tool-output-denied", "toolCallId": call_id}
            return
        text = chunk["result"] if isinstance(chunk["result"], str) else str(chunk["result"])
        yield {"type": "tool-output-error", "toolCallId": call_id, "errorText": text}

    def _source(self, chunk: Chunk) -> Iterator[Mapping[str, Any]]:
        yield from self._close_part()
        self._parts += 1
        found = {"type": "source-url", "sourceId": str(self._parts), "url": chunk["url"]}
        yield found | {"title": chunk["title"]} if chunk.get("title") else found

    def _data(self, chunk: Chunk) -> Iterator[Mapping[str, Any]]:
        found = {"type": f"data-{chunk['name']}", "data": chunk["data"]}
        if chunk.get("id") is not None:
            found["id"] = chunk["id"]
        yield found

    def _end(self, chunk: Chunk) -> Iterator[Mapping[str, Any]]:
        status = str(chunk.get("status", "waiting"))
        yield from self._close_part()
        self._waited = status == "waiting"
        if self._steps:
            self._steps = 0
            yield {"type": "finish-step"}
        if status == "cancelled":
            yield {"type": "abort", "reason": "cancelled"}
        finish: dict[str, Any] = {"type": "finish"}
        if status in _FINISHED:
            finish["finishReason"] = _FINISHED[status]
        if "usage" in chunk:
            finish["messageMetadata"] = {"usage": chunk["usage"]}
        yield finish


_ENCODERS: Mapping[str, Callable[[UiMessageFrames, Chunk], Iterator[Mapping[str, Any]]]] = {
    "message": UiMessageFrames._text,
    "reasoning": UiMessageFrames._reasoning,
    "step": UiMessageFrames._step,
    "tool_call": UiMessageFrames._tool_call,
    "tool_result": UiMessageFrames._result,
    "source": UiMessageFrames._source,
    "file": UiMessageFrames._file,
    "data": UiMessageFrames._data,
    "input_required": UiMessageFrames._ask,
    "input": UiMessageFrames._input,
    "error": UiMessageFrames._error,
    "waiting": UiMessageFrames._end,
    "done": UiMessageFrames._end,
}
