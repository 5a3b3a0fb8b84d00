"""A turn as a chat completion of OpenAI's API: its chunks, and the whole object.

A turn that waits ends its completion, with `tool_calls` if the client can answer all of it. What
comes after the answers is a completion of its own, the next part of the turn. The ids of calls name
the turn, since a request has nothing else that would.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self

from ...codec.json import dumps
from ...sessions.request import TurnRef
from ..frames import Chunk, TurnFrames, data_frame
from ..names import turn_named

Json = dict[str, Any]
END = b"data: [DONE]\n\n"
#: The function that a question asks the client for.
ASK = "ask"
#: The API has no word for it, and without one an answer that was cut off would look whole.
_CANCELLED = "the turn was cancelled"
_STILL_RUNS = "the turn still runs; a response in the background has no limit"
_CALL = re.compile(r"call_([^.]+\.[0-9]+)\.(.+)", re.DOTALL)


def call_of(name: str) -> tuple[TurnRef, str] | None:
    """The turn and the call of a tool call's id."""
    match = _CALL.fullmatch(name)
    named = None if match is None else turn_named(match[1])
    return None if match is None or named is None else (TurnRef(*named), match[2])


class CompletionFrames(TurnFrames):
    """The chunks of one part of a turn, from the role to `[DONE]`: text, and calls for the client.
    `part` counts the times that the turn has waited before."""

    __slots__ = (
        "_asks", "_at", "_base", "_begun", "_calls", "_failure", "_finish", "_part", "_ref",
        "_texts", "_usage", "_with_usage",
    )  # fmt: skip

    def __init__(
        self, ref: TurnRef, part: int, model: str, created: int, *, with_usage: bool
    ) -> None:
        suffix = f".{part}" if part else ""
        self._base: Json = {
            "id": f"chatcmpl_{ref.session_id}.{ref.turn}{suffix}",
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
        }
        self._ref = ref
        self._part = part
        self._with_usage = with_usage
        self._at = 0
        self._begun = False
        #: The asks without an answer, by call.
        self._asks: dict[str, Chunk] = {}
        self._texts: list[str] = []
        self._calls: list[Json] = []
        self._failure: str | None = None
        #: How the part ended; None: it goes on.
        self._finish: str | None = None
        self._usage: Mapping[str, int] = {}

    @property
    def key(self) -> tuple[object, ...]:
        return ("openai-completions", self._base["id"], self._with_usage)

    def copy(self) -> Self:
        other = super().copy()
        other._asks, other._texts = dict(self._asks), list(self._texts)
        return other

    def frames(self, kind: str, chunk: Chunk) -> list[bytes]:
        if self._at != self._part:
            self._at += kind == "waiting"
            return []
        if self._finish is not None:
            return []
        found: list[bytes] = []
        if not self._begun:
            self._begun = True
            found.append(self._chunk({"role": "assistant", "content": ""}))
        if kind == "message" and "agent_id" not in chunk:
            self._texts.append(chunk["content"])
            found.append(self._chunk({"content": chunk["content"]}))
        elif kind == "input_required":
            self._asks[chunk["call_id"]] = chunk
        elif kind == "input":
            self._asks.pop(chunk["call_id"], None)
        elif kind == "error":
            self._failure = chunk["message"]
        elif kind in {"done", "waiting"}:
            found += self._end(kind, chunk)
        return found

    def _end(self, kind: str, chunk: Chunk) -> list[bytes]:
        self._finish = "stop"
        if chunk.get("status") == "cancelled":
            self._failure = _CANCELLED
        if self._failure is not None:
            return [data_frame({"error": failure(self._failure)}), END]
        asks = self._asks.values() if kind == "waiting" else ()
        found: list[bytes] = []
        # There is no word for an approval, and a turn goes on when all of it is answered.
        if asks and all(ask["kind"] != "approval" for ask in asks):
            self._finish = "tool_calls"
            self._calls = [self._call(ask) for ask in asks]
            numbered = [{"index": index, **call} for index, call in enumerate(self._calls)]
            found.append(self._chunk({"tool_calls": numbered}))
        found.append(self._chunk({}, self._finish))
        self._usage = chunk.get("usage") or {}
        if self._with_usage:
            usage = usage_of(self._usage)
            found.append(data_frame({**self._base, "choices": [], "usage": usage}))
        return [*found, END]

    def _call(self, ask: Chunk) -> Json:
        name, args = ask.get("tool") or ASK, ask.get("args") or {}
        if ask["kind"] == "input":
            name, args = ASK, {of: ask[of] for of in ("message", "schema") if ask.get(of)}
        function = {"name": name, "arguments": dumps(args).decode()}
        call_id = f"call_{self._ref.session_id}.{self._ref.turn}.{ask['call_id']}"
        return {"id": call_id, "type": "function", "function": function}

    def _chunk(self, delta: Json, finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return data_frame({**self._base, "choices": [choice]})

    def completion(self) -> Json:
        """The whole object, or an `error`."""
        if self._failure is not None or self._finish is None:
            return {"error": failure(self._failure or _STILL_RUNS)}
        content = "".join(self._texts)
        message: Json = {"role": "assistant", "content": content, "refusal": None}
        if self._calls:
            message["tool_calls"] = self._calls
        choice = {"index": 0, "message": message, "finish_reason": self._finish, "logprobs": None}
        more = {"choices": [choice], "usage": usage_of(self._usage)}
        return {**self._base, "object": "chat.completion", **more}


def failure(message: str) -> Json:
    """An error as OpenAI's clients read it."""
    return {"message": message, "type": "server_error", "code": "server_error", "param": None}


def usage_of(usage: Mapping[str, int]) -> Json:
    taken, given = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
    return {"prompt_tokens": taken, "completion_tokens": given, "total_tokens": taken + given}
