"""A turn as a chat completion of OpenAI's API: its chunks, and the whole object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..frames import Chunk, TurnFrames, data_frame

Json = dict[str, Any]
END = b"data: [DONE]\n\n"
#: The API has no word for it, and without one an answer that was cut off would look whole.
_CANCELLED = "the turn was cancelled"


class CompletionFrames(TurnFrames):
    """The chunks of one turn, from the role to `[DONE]`. Only text is shown."""

    __slots__ = ("_base", "_begun", "_failure", "_with_usage")

    def __init__(self, completion_id: str, model: str, created: int, *, with_usage: bool) -> None:
        self._base = {
            "id": completion_id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
        }
        self._with_usage = with_usage
        self._begun = False
        self._failure: str | None = None

    @property
    def key(self) -> tuple[object, ...]:
        return ("openai-completions", self._base["id"], self._with_usage)

    def frames(self, kind: str, chunk: Chunk) -> list[bytes]:
        found: list[bytes] = []
        if not self._begun:
            self._begun = True
            found.append(self._chunk({"role": "assistant", "content": ""}))
        if kind == "message" and "agent_id" not in chunk:
            found.append(self._chunk({"content": chunk["content"]}))
        elif kind == "error":
            self._failure = chunk["message"]
        elif kind in {"done", "waiting"}:
            found += self._end(chunk)
        return found

    def _end(self, chunk: Chunk) -> list[bytes]:
        if chunk.get("status") == "cancelled":
            self._failure = _CANCELLED
        if self._failure is not None:
            return [data_frame({"error": failure(self._failure)}), END]
        found = [self._chunk({}, "stop")]
        if self._with_usage:
            usage = usage_of(chunk.get("usage") or {})
            found.append(data_frame({**self._base, "choices": [], "usage": usage}))
        return [*found, END]

    def _chunk(self, delta: Json, finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return data_frame({**self._base, "choices": [choice]})


def completion(completion_id: str, model: str, created: int, result: Mapping[str, Any]) -> Json:
    """The whole object of a turn that has ended or waits, from its result; or an `error`."""
    if "output" not in result:
        return {"error": failure("the turn still runs; a response in the background has no limit")}
    if result["status"] == "cancelled":
        return {"error": failure(_CANCELLED)}
    if result["status"] in {"failed", "timeout"}:
        return {"error": failure(result.get("error", {}).get("message", "the turn failed"))}
    message = {"role": "assistant", "content": result["output"], "refusal": None}
    return {
        "id": completion_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": usage_of(result.get("usage") or {}),
    }


def failure(message: str) -> Json:
    """An error as OpenAI's clients read it."""
    return {"message": message, "type": "server_error", "code": "server_error", "param": None}


def usage_of(usage: Mapping[str, int]) -> Json:
    taken, given = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
    return {"prompt_tokens": taken, "completion_tokens": given, "total_tokens": taken + given}
