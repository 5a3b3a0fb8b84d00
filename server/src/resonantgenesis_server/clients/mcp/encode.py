"""A turn as the messages of one `tools/call`: progress, what the agent asks, and the result.

A client of 2025-11-25 or older gets numbered messages, so it can go on from any of them, and is
asked in mid-call. For a client of 2026-07-28 a question is the call's result, and the answer comes
with a call of its own.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from ...codec.json import NotJson, dumps, loads
from ...sessions.request import TurnRef
from ..forms import elicitation
from ..frames import Chunk, TurnFrames, data_frame
from ..json_rpc import Json, RpcId, is_rpc_id, rpc_result
from ..names import turn_named

#: The entry of `_meta` that names a message's task.
RELATED_TASK = "io.modelcontextprotocol/related-task"
#: Characters of an event's id.
_LONGEST_PLACE = 1_500


@dataclass(frozen=True, slots=True)
class ToolCallInfo:
    """What a client says in its call, as far as the answer depends on it.

    `token`: the client wants progress under it. `elicits`: the client can ask a person.
    `is_modern`: it speaks 2026-07-28. `is_task`: it asks for the result of a task, so each message
    names the task.
    """

    rpc_id: RpcId
    token: RpcId | None = None
    elicits: bool = False
    is_modern: bool = False
    is_task: bool = False


class CallFrames(TurnFrames):
    """The messages of one call that runs a turn."""

    __slots__ = (
        "_asks", "_count", "_failure", "_info", "_place", "_progress", "_stops", "session_id",
        "turn",
    )  # fmt: skip

    def __init__(self, session_id: str, turn: int, info: ToolCallInfo) -> None:
        self.session_id = session_id
        self.turn = turn
        self._info = info
        self._place = None if info.is_modern else _place_of(session_id, turn, info)
        self._count = self._progress = self._stops = 0
        self._asks: list[Json] = []
        self._failure: Json | None = None

    @property
    def key(self) -> tuple[object, ...]:
        return ("mcp", self.session_id, self.turn, self._info)

    def copy(self) -> Self:
        other = super().copy()
        other._asks = [*self._asks]
        return other

    @property
    def stops(self) -> int:
        """How often the turn has waited so far."""
        return self._stops

    def frames(self, kind: str, chunk: Chunk) -> list[bytes]:
        encode = _ENCODERS.get(kind)
        return [] if encode is None else [self._frame(each) for each in encode(self, chunk)]

    def opening(self, count: int) -> bytes:
        """The first event of an answer whose client has `count` messages: names the place to go on
        from, for a client whose answer breaks off before there is another."""
        return b"id: %b\ndata:\n\n" % (self._place or b"%d") % count

    def _frame(self, message: Json) -> bytes:
        self._count += 1
        if self._info.is_task:
            said = message["result" if "result" in message else "params"]
            said["_meta"] = {RELATED_TASK: {"taskId": f"{self.session_id}.{self.turn}"}}
        if self._place is None:
            return data_frame(message)
        return b"id: %b\n%b" % (self._place % self._count, data_frame(message))

    def _message(self, chunk: Chunk) -> list[Json]:
        if self._info.token is None:
            return []
        self._progress += 1
        said = {
            "progressToken": self._info.token,
            "progress": self._progress,
            "message": chunk["content"],
        }
        return [{"jsonrpc": "2.0", "method": "notifications/progress", "params": said}]

    def _ask(self, chunk: Chunk) -> list[Json]:
        self._asks.append(dict(chunk))
        return []

    def _error(self, chunk: Chunk) -> list[Json]:
        self._failure = {"code": chunk["code"], "message": chunk["message"]}
        return []

    def _wait(self, _chunk: Chunk) -> list[Json]:
        asks, self._asks = self._asks, []
        self._stops += 1
        if not self._info.elicits:
            ref, ended = TurnRef(self.session_id, self.turn), {"status": "waiting", "waiting": asks}
            result = turn_result(ref, ended, is_modern=self._info.is_modern)
            return [rpc_result(self._info.rpc_id, result)]
        requests = {ask["call_id"]: elicitation(ask) for ask in asks}
        if not self._info.is_modern:
            name = f"{self.session_id}.{self.turn}:"
            return [
                {"jsonrpc": "2.0", "id": name + call_id, **request}
                for call_id, request in requests.items()
            ]
        asked: Json = {
            "resultType": "input_required",
            "inputRequests": requests,
            "requestState": f"{self.session_id}.{self.turn}/{self._stops}",
        }
        return [rpc_result(self._info.rpc_id, asked)]

    def _done(self, chunk: Chunk) -> list[Json]:
        ref, is_modern = TurnRef(self.session_id, self.turn), self._info.is_modern
        result = turn_result(ref, {**chunk, "error": self._failure}, is_modern=is_modern)
        return [rpc_result(self._info.rpc_id, result)]


_ENCODERS: Mapping[str, Callable[[CallFrames, Chunk], list[Json]]] = {
    "message": CallFrames._message,
    "input_required": CallFrames._ask,
    "error": CallFrames._error,
    "waiting": CallFrames._wait,
    "done": CallFrames._done,
}


def turn_result(ref: TurnRef, ended: Mapping[str, Any], *, is_modern: bool) -> Json:
    """The result of a call whose turn has ended so, or waits: `status`, and `error`, `output` or
    `waiting`."""
    status, failure = ended["status"], ended.get("error")
    structured: Json = {"session_id": ref.session_id, "turn": ref.turn, "status": status}
    if status == "waiting":
        structured["waiting"] = ended["waiting"]
        text = waiting_text(ended["waiting"])
    elif failure:
        text = failure["message"]
        structured["error"] = {"code": failure["code"], "message": text}
    elif status == "cancelled":
        text = "The turn was cancelled."
    else:
        text = structured["output"] = ended.get("output", "")
    is_error = status not in {"success", "waiting"}
    return tool_result(text, structured, is_error=is_error, is_modern=is_modern)


def waiting_text(asks: Iterable[Mapping[str, Any]]) -> str:
    """What the agent waits for, in words."""
    questions = [each.get("message") or each.get("tool") or each["kind"] for each in asks]
    return "The agent waits for an answer of a person: " + "; ".join(questions)


def tool_result(
    text: str, structured: Mapping[str, Any] | None, *, is_error: bool = False, is_modern: bool
) -> Json:
    """The result of a tool."""
    result: Json = {"content": [{"type": "text", "text": text}], "isError": is_error}
    if structured is not None:
        result["structuredContent"] = structured
    return {"resultType": "complete", **result} if is_modern else result


@dataclass(frozen=True, slots=True)
class CallPlace:
    """Where in a call's messages a client stands: it has `count` of them."""

    session_id: str
    turn: int
    info: ToolCallInfo
    count: int


def _place_of(session_id: str, turn: int, info: ToolCallInfo) -> bytes:
    """An event's id, with %d for the number of messages."""
    task = [True] if info.is_task else []
    said = base64.urlsafe_b64encode(dumps([info.rpc_id, info.token, info.elicits, *task]))
    return b"%b.%d/%%d/%b" % (session_id.encode(), turn, said.rstrip(b"="))


def place_of(text: str) -> CallPlace | None:
    """What an event's id says; None for one that we did not give."""
    name, _, rest = text[:_LONGEST_PLACE].partition("/")
    count, _, said = rest.partition("/")
    ref = turn_named(name)
    if ref is None or not (count.isascii() and count.isdigit() and len(count) <= 9):
        return None
    try:
        match loads(base64.urlsafe_b64decode(said + "=" * (-len(said) % 4))):
            case [rpc_id, token, bool(elicits), *task] if (
                is_rpc_id(rpc_id) and (token is None or is_rpc_id(token)) and task in ([], [True])
            ):
                info = ToolCallInfo(rpc_id, token, elicits, is_task=bool(task))
                return CallPlace(*ref, info, int(count))
    except (NotJson, binascii.Error, ValueError):
        pass
    return None
