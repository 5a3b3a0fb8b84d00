"""The answer of a turn as one message with parts, folded from the turn's chunks. No I/O.

A fold can stop at any chunk and go on from its own message: `AnswerFold.of(fold.message())` takes
the next chunk as `fold` would. So a client that loads a page of messages adds the chunks of the
stream behind the page's position, and has what a later page would show.

part              from
text              text chunks; neighbours of one author are one part
reasoning         reasoning chunks, likewise
step              a step's chunks; `progress` joins the details of its progress
tool_call         a tool_call; the tool_result adds `result` and `is_error`
source, file      the chunk
data              the chunk; a later one of the same `name` and `id` takes its place
user_message      a message that came while the turn ran
input_required    the question of a turn that waits; `status` is `open` until its `input` comes
error             the chunk

Each part of a sub-agent has `agent_id` and `parent`, as its chunks have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .json import dumps

Json = dict[str, Any]

#: Parts of one message, and characters of all their content. What comes beyond is left out, and the
#: message has `truncated`; the chunks are whole.
MAX_PARTS, MAX_CHARS = 5_000, 1_000_000
#: Characters of the `progress` of one step that are kept.
MAX_PROGRESS = 20_000
#: Statuses of a message whose turn has not ended.
OPEN_STATUSES = frozenset({"queued", "running", "waiting"})

_AUTHOR = ("agent_id", "parent")
_DROPPED = frozenset({"type", "position", "from", "transient"})
#: Chunks between a `waiting` and the moment at which the turn goes on.
_WHILE_WAITING = frozenset({"waiting", "input", "input_required", "user_message"})
_COPIED = frozenset({"source", "file", "user_message", "error"})
#: Fields of an update that always have room.
_SHORT = ("status", "is_error", "approved", "duration_ms")


class AnswerFold:
    """Takes a turn's chunks in order, as JSON objects. Chunks of unknown types change nothing."""

    def __init__(self, status: str = "running") -> None:
        self.status = status
        self.usage: Mapping[str, Any] | None = None
        self.truncated = False
        self._parts: list[Json] = []
        #: The pieces of the last part, if that is text under way.
        self._pieces: list[str] = []
        self._size = 0
        #: The calls of each id that have no result yet, in order; and all ids.
        self._calls: dict[str, list[Json]] = {}
        self._call_ids: set[str] = set()
        self._asked: dict[str, Json] = {}
        self._steps: dict[int, Json] = {}
        self._data: dict[tuple[str, str], Json] = {}

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> AnswerFold:
        """The fold that has made this message."""
        fold = cls(message["status"])
        fold.usage = message.get("usage")
        fold.truncated = bool(message.get("truncated"))
        for part in message["parts"]:
            copy = dict(part)
            fold._parts.append(copy)
            fold._size += _size(copy)
            fold._index(copy)
        return fold

    def add_all(self, chunks: Iterable[Mapping[str, Any]]) -> None:
        for chunk in chunks:
            self.add(chunk)

    def add(self, chunk: Mapping[str, Any]) -> None:
        kind = chunk.get("type")
        if self.status == "waiting" and kind not in _WHILE_WAITING:
            self.status = "running"
        if kind in {"text", "reasoning"}:
            self._text(str(kind), chunk)
        elif kind == "tool_call":
            self._new(kind, chunk)
        elif kind == "tool_result":
            self._answered(chunk)
        elif kind == "step":
            self._step(chunk)
        elif kind in _COPIED:
            self._new(str(kind), chunk)
        elif kind == "data":
            self._named_data(chunk)
        elif kind == "input_required":
            self._new(kind, chunk, status="open")
        elif kind == "input":
            self._input(chunk)
        elif kind == "waiting":
            self.status = "waiting"
        elif kind == "done":
            self.status = chunk["status"]
            self.usage = chunk.get("usage")

    @property
    def parts(self) -> list[Json]:
        """Copies: later chunks do not change them."""
        self._join()
        return [dict(part) for part in self._parts]

    def message(self) -> Json:
        """`status`, `parts`, and `usage` and `truncated` where there is something to say."""
        message: Json = {"status": self.status, "parts": self.parts}
        if self.usage is not None:
            message["usage"] = self.usage
        if self.truncated:
            message["truncated"] = True
        return message

    # -- inside ----------------------------------------------------------------------------

    def _text(self, kind: str, chunk: Mapping[str, Any]) -> None:
        content: str = chunk.get("content", "")
        last = self._parts[-1] if self._parts else None
        if last is None or last["type"] != kind or _author(last) != _author(chunk):
            if not content or not self._has_room():
                return
            if self._size >= MAX_CHARS:
                self.truncated = True
                return
            self._join()
            last = {"type": kind, "content": "", **_author(chunk)}
            self._parts.append(last)
        left = MAX_CHARS - self._size
        if self.truncated or len(content) > left:
            content = "" if self.truncated else content[:left]
            self.truncated = True
        if content:
            self._pieces.append(content)
            self._size += len(content)

    def _join(self) -> None:
        if self._pieces:
            self._parts[-1]["content"] += "".join(self._pieces)
            self._pieces.clear()

    def _new(self, kind: str, chunk: Mapping[str, Any], **more: Any) -> Json | None:
        """A part with the fields of the chunk, unless the message is full."""
        if not self._has_room():
            return None
        part = {"type": kind, **_fields(chunk), **more}
        size = _size(part)
        if self._size + size > MAX_CHARS:
            self.truncated = True
            return None
        self._join()
        self._parts.append(part)
        self._size += size
        self._index(part)
        return part

    def _has_room(self) -> bool:
        self.truncated = self.truncated or len(self._parts) >= MAX_PARTS
        return not self.truncated

    def _index(self, part: Json) -> None:
        """Note where later chunks find the part."""
        kind = part["type"]
        if kind == "tool_call":
            self._call_ids.add(part["call_id"])
            if "is_error" not in part:
                self._calls.setdefault(part["call_id"], []).append(part)
        elif kind == "input_required" and part["status"] == "open":
            self._asked[part["call_id"]] = part
        elif kind == "step" and part["status"] != "completed":
            self._steps[part["step"]] = part
        elif kind == "data" and part.get("id"):
            self._data[part["name"], part["id"]] = part

    def _answered(self, chunk: Mapping[str, Any]) -> None:
        result = {"result": chunk.get("result"), "is_error": bool(chunk.get("is_error"))}
        call_id = chunk["call_id"]
        waiting = self._calls.get(call_id)
        if waiting:
            self._update(waiting.pop(0), result)
        elif call_id not in self._call_ids:
            self._new("tool_call", chunk, args={})

    def _step(self, chunk: Mapping[str, Any]) -> None:
        part = self._steps.get(chunk["step"])
        status = chunk["status"]
        if part is None:
            if status == "started":
                fields = {**chunk}
                if "session_id" in fields:  # the first of a turn names the turn's own agent
                    for name in ("session_id", "turn", "agent_id"):
                        fields.pop(name, None)
                self._new("step", fields)
            return
        if status == "progress":
            shown = part.get("progress", "")
            if len(shown) < MAX_PROGRESS:
                joined = shown + chunk.get("detail", "")
                self._update(part, {"progress": joined[:MAX_PROGRESS]})
            return
        if status == "completed":
            del self._steps[chunk["step"]]
        names = ("status", "duration_ms", "detail", "finish_reason")
        self._update(part, {name: chunk[name] for name in names if name in chunk})

    def _named_data(self, chunk: Mapping[str, Any]) -> None:
        if chunk.get("transient"):
            return
        named = chunk.get("id")
        part = self._data.get((chunk["name"], named)) if named else None
        if part is None:
            self._new("data", chunk)
        else:
            self._update(part, {"data": chunk.get("data")})

    def _input(self, chunk: Mapping[str, Any]) -> None:
        part = self._asked.pop(chunk["call_id"], None)
        if part is not None:
            self._update(part, {**_fields(chunk), "status": chunk.get("status", "answered")})

    def _update(self, part: Json, fields: Mapping[str, Any]) -> None:
        """Add to a part; fields for which there is no room are left out."""
        before, grown = _size(part), _size({**part, **fields})
        if self._size + grown - before > MAX_CHARS:
            self.truncated = True
            fields = {name: fields[name] for name in _SHORT if name in fields}
        part.update(fields)
        self._size += _size(part) - before


def _fields(chunk: Mapping[str, Any]) -> Json:
    return {name: value for name, value in chunk.items() if name not in _DROPPED}


def _author(chunk: Mapping[str, Any]) -> Json:
    return {name: chunk[name] for name in _AUTHOR if name in chunk}


def _size(part: Mapping[str, Any]) -> int:
    """About the characters of a part's content."""
    if part["type"] in {"text", "reasoning"}:
        return len(part["content"])
    return len(dumps(part))
