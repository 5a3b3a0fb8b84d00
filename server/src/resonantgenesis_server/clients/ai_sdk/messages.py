"""The messages of a chat as the AI SDK keeps them (`UIMessage`), for a page that is loaded.

An answer is built from the frames of its turn, as the SDK builds it from the stream. So a page that
is loaded shows what the pages show that were there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ...codec.json import dumps
from ...codec.messages import MAX_CHARS, MAX_PARTS, OPEN_STATUSES
from .encode import UiMessageFrames

Json = dict[str, Any]
Frame = Mapping[str, Any]


class UiMessageFold:
    """Takes a turn's chunks in order. Beyond the bounds of a message it leaves out what comes."""

    def __init__(self, session_id: str, turn: int) -> None:
        self.status = "running"
        self.truncated = False
        self._frames = UiMessageFrames(session_id, turn)
        self._metadata: Json = {}
        self._parts: list[Json] = []
        #: The part whose text is under way, and the pieces of its text.
        self._open: Json | None = None
        self._pieces: list[str] = []
        self._size = 0
        self._calls: dict[str, Json] = {}
        self._named: dict[tuple[str, str], Json] = {}

    def add(self, chunk: Mapping[str, Any]) -> None:
        kind = chunk["type"]
        if kind == "done":
            self.status = chunk["status"]
        for frame in self._frames.values("message" if kind == "text" else kind, chunk):
            self._metadata |= frame.get("messageMetadata", {})
            take = _TAKES.get(frame["type"])
            if take is not None:
                take(self, frame)
            elif frame["type"].startswith("data-"):
                self._data(frame)

    def message(self) -> Json:
        """`status`, `parts` and `metadata`."""
        metadata = {**self._metadata, "status": self.status}
        if self.truncated:
            metadata["truncated"] = True
        return {"status": self.status, "parts": self._parts, "metadata": metadata}

    # -- frames ----------------------------------------------------------------------------

    def _has_room(self, size: int) -> bool:
        self._size += size
        if self._size > MAX_CHARS or len(self._parts) >= MAX_PARTS:
            self.truncated = True
        return not self.truncated

    def _part(self, frame: Frame) -> Json | None:
        """A part that is its frame; None if there is no room."""
        part = dict(frame)
        if not self._has_room(len(dumps(part))):
            return None
        self._parts.append(part)
        return part

    def _step(self, _frame: Frame) -> None:
        self._part({"type": "step-start"})

    def _start(self, frame: Frame) -> None:
        self._pieces = []
        self._open = self._part(
            {"type": frame["type"].removesuffix("-start"), "text": "", "state": "streaming"}
        )

    def _delta(self, frame: Frame) -> None:
        if self._has_room(len(frame["delta"])):
            self._pieces.append(frame["delta"])

    def _end(self, _frame: Frame) -> None:
        if self._open is not None:
            self._open |= {"text": "".join(self._pieces), "state": "done"}

    def _call(self, frame: Frame) -> None:
        name, call_id = frame["toolName"], frame["toolCallId"]
        part = self._part({"type": f"tool-{name}", "toolCallId": call_id})
        if part is not None:
            self._calls[call_id] = part

    def _tool(self, frame: Frame) -> None:
        """What comes to a call: its input, a request for an approval, its output."""
        part, kind = self._calls.get(frame["toolCallId"]), frame["type"].removeprefix("tool-")
        if part is None or not self._has_room(len(dumps(frame))):
            return
        part["state"] = "approval-requested" if kind == "approval-request" else kind
        part |= {name: frame[name] for name in ("input", "output", "errorText") if name in frame}
        if "approvalId" in frame:
            part["approval"] = {"id": frame["approvalId"]}

    def _error(self, frame: Frame) -> None:
        self._metadata["error"] = frame["errorText"]

    def _data(self, frame: Frame) -> None:
        """Data of the same type and id takes the place of the former."""
        name = (frame["type"], frame.get("id", ""))
        former = self._named.get(name)
        if former is not None and self._has_room(len(dumps(frame))):
            former["data"] = frame["data"]
        elif former is None and (part := self._part(frame)) is not None and "id" in frame:
            self._named[name] = part


#: What each frame does to the message; of tools the state is the name of the frame.
_TAKES: Mapping[str, Callable[[UiMessageFold, Frame], object]] = {
    "start-step": UiMessageFold._step,
    "text-start": UiMessageFold._start,
    "text-delta": UiMessageFold._delta,
    "text-end": UiMessageFold._end,
    "reasoning-start": UiMessageFold._start,
    "reasoning-delta": UiMessageFold._delta,
    "reasoning-end": UiMessageFold._end,
    "tool-input-start": UiMessageFold._call,
    "tool-input-available": UiMessageFold._tool,
    "tool-approval-request": UiMessageFold._tool,
    "tool-output-available": UiMessageFold._tool,
    "tool-output-error": UiMessageFold._tool,
    "tool-output-denied": UiMessageFold._tool,
    "source-url": UiMessageFold._part,
    "file": UiMessageFold._part,
    "error": UiMessageFold._error,
}


def ui_messages(messages: Iterable[Json], *, replaced: bool) -> list[Json]:
    """The messages as `UIMessage`s, up to the goal of the turn that is open: its answer is for the
    stream, which has it whole. `replaced`: also turns that were regenerated."""
    found: list[Json] = []
    for message in messages:
        is_open = message["status"] in OPEN_STATUSES
        if message["role"] == "assistant" and is_open:
            break
        if replaced or "replaced_by" not in message:
            found.append(_ui_message(message))
        if is_open:
            break
    return found


def _ui_message(message: Json) -> Json:
    place = {name: message[name] for name in _PLACE if name in message}
    if message["role"] == "assistant":
        own = {"parts": message["parts"], "metadata": {**message["metadata"], **place}}
    else:
        text = "".join(part["content"] for part in message["parts"])
        own = {"parts": [{"type": "text", "text": text}], "metadata": place}
    return {"id": message["id"], "role": message["role"], **own}


_PLACE = ("session_id", "turn", "replaced_by")
