"""A turn as the UI message stream of the AI SDK: frames of `data:`, with no ids.

Only frame types that version 5 knows are used, because a client refuses the whole stream for a type
that it does not know. A part of text or reasoning is closed before anything else begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..frames import Chunk, TurnFrames, data_frame

#: The headers by which clients choose their decoder.
HEADERS = ((b"x-vercel-ai-ui-message-stream", b"v1"),)
END = b"data: [DONE]\n\n"
_FINISHED = {"success": "stop", "waiting": "tool-calls"}


def message_id(session_id: str, turn: int) -> str:
    """The id of a turn's assistant message, equal on every read."""
    return f"msg_{session_id}.{turn}"


class UiMessageFrames(TurnFrames):
    """The frames of one turn, from `start` to `[DONE]`."""

    __slots__ = ("_begun", "_calls", "_open", "_parts", "_steps", "session_id", "turn")

    def __init__(self, session_id: str, turn: int) -> None:
        self.session_id = session_id
        self.turn = turn
        self._begun = False
        #: The number of steps that run. The SDK knows one step at a time.
        self._steps = 0
        #: The kind of the open part, and the number of parts so far, which is the last part's id.
        self._open = ""
        self._parts = 0
        self._calls: frozenset[str] = frozenset()

    @property
    def key(self) -> tuple[object, ...]:
        return ("ai-sdk", self.session_id, self.turn)

    def frames(self, kind: str, chunk: Chunk) -> list[bytes]:
        found = [data_frame(value) for value in self._values(kind, chunk)]
        if kind in {"done", "waiting"}:
            found.append(END)
        return found

    def _values(self, kind: str, chunk: Chunk) -> Iterator[Mapping[str, Any]]:
        if not self._begun:
            self._begun = True
            place = {"session_id": self.session_id, "turn": self.turn}
            message = message_id(self.session_id, self.turn)
            yield {"type": "start", "messageId": message, "messageMetadata": place}
        if kind == "message":
            yield from self._delta("text", chunk["content"])
        elif kind == "reasoning":
            yield from self._delta("reasoning", chunk["content"])
        elif kind == "step":
            yield from self._step(chunk)
        elif kind == "tool_call":
            yield from self._close_part()
            yield from self._call(chunk["call_id"], chunk["tool"], chunk["args"])
        elif kind == "tool_result":
            yield from self._close_part()
            yield from self._result(chunk)
        elif kind == "source":
            yield from self._close_part()
            yield self._source(chunk)
        elif kind == "file":
            yield from self._close_part()
            url = f"/v1/files/{chunk['file_id']}/content"
            yield {"type": "file", "url": url, "mediaType": chunk["content_type"]}
        elif kind == "data":
            yield from self._data(chunk)
        elif kind == "error":
            yield {"type": "error", "errorText": chunk["message"]}
        elif kind in {"done", "waiting"}:
            yield from self._end(str(chunk.get("status", "waiting")), chunk)

    def _delta(self, part: str, text: str) -> Iterator[Mapping[str, Any]]:
        if self._open != part:
            yield from self._close_part()
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
            self._steps += 1
            if self._steps == 1:
                yield {"type": "start-step"}
        elif self._steps:
            self._steps -= 1
            if not self._steps:
                yield {"type": "finish-step"}

    def _call(self, call_id: str, tool: str, args: object) -> Iterator[Mapping[str, Any]]:
        self._calls |= {call_id}
        yield {"type": "tool-input-start", "toolCallId": call_id, "toolName": tool}
        call = {"toolCallId": call_id, "toolName": tool, "input": args}
        yield {"type": "tool-input-available", **call}

    def _result(self, chunk: Chunk) -> Iterator[Mapping[str, Any]]:
        call_id = chunk["call_id"]
        if call_id not in self._calls:  # a client refuses the result of a call that it has not seen
            yield from self._call(call_id, chunk["tool"], {})
        if not chunk["is_error"]:
            yield {
                "type": "tool-output-available",
                "toolCallId": call_id,
                "output": chunk["result"],
            }
            return
        text = chunk["result"] if isinstance(chunk["result"], str) else str(chunk["result"])
        yield {"type": "tool-output-error", "toolCallId": call_id, "errorText": text}

    def _source(self, chunk: Chunk) -> Mapping[str, Any]:
        self._parts += 1
        found = {"type": "source-url", "sourceId": str(self._parts), "url": chunk["url"]}
        return found | {"title": chunk["title"]} if chunk.get("title") else found

    def _data(self, chunk: Chunk) -> Iterator[Mapping[str, Any]]:
        found = {"type": f"data-{chunk['name']}", "data": chunk["data"]}
        if chunk.get("id") is not None:
            found["id"] = chunk["id"]
        if chunk.get("transient"):
            found["transient"] = True
        yield found

    def _end(self, status: str, chunk: Chunk) -> Iterator[Mapping[str, Any]]:
        if status in {"failed", "timeout"}:
            return  # `error` stands before, and ends the client's stream
        yield from self._close_part()
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
