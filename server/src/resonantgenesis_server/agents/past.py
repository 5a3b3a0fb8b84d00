"""What one agent of a turn has said and called, folded from the turn's chunks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from ..codec.json import dumps
from ..model.chunks import Text
from .base import Origin, PastCall, PastStep, shortened

#: The turn's own agent.
OWN: Origin = ("", "")


def origin_of(body: bytes) -> Origin:
    """The sub-agent that made the chunk of this body."""
    if b'"agent_id":' not in body:
        return OWN
    chunk = orjson.loads(body)
    # The agent_id of a turn's first step is the turn's own.
    return OWN if "turn" in chunk else (chunk.get("agent_id", ""), chunk.get("parent", ""))


#: The newest calls of one turn that are kept. Each result and each call's arguments keep _MAX_TEXT
#: characters; once all texts together exceed _MAX_TOTAL, the next texts keep _MAX_REST.
_MAX_CALLS = 100
_MAX_TEXT = 4_000
_MAX_TOTAL, _MAX_REST = 60_000, 100
#: Bytes of the text before a call. A longer text stays in the whole output only.
_MAX_SAID = 1 << 20


class StepReader:
    """Takes a turn's entries in order. `steps` are then its text and its calls of tools, up to the
    last call or message; `left` are the messages that were not taken. A call without a result has
    `result` None. All entries are of one agent. `whole`: nothing is shortened."""

    def __init__(self, *, whole: bool = False) -> None:
        self.left: list[str] = []
        self._is_whole = whole
        self._said: list[bytes] = []
        self._said_size = 0
        self._open: list[_Call] = []
        self._steps: list[_Step] = []
        self._count = 0
        self._size = 0

    def see(self, kind: str, body: bytes) -> None:
        if kind == Text.event:
            self._said_size += len(body)
            if self._said_size > _MAX_SAID and not self._is_whole:
                self._said.clear()
            else:
                self._said.append(body)
        elif kind == "tool_call":
            self._called(orjson.loads(body))
        elif kind == "tool_result" and self._open:
            self._answered(orjson.loads(body))
        elif kind == "user_message":
            self._told(orjson.loads(body))

    def steps(self) -> tuple[PastStep, ...]:
        steps = tuple(step.past() for step in self._steps)
        rest = _text(self._said) if self._is_whole else ""
        return (*steps, PastStep(rest, ())) if rest else steps

    def _called(self, body: dict[str, Any]) -> None:
        if len(self._open) >= _MAX_CALLS and not self._is_whole:
            return
        # Calls of one answer stand side by side, before the first of their results.
        last = self._steps[-1] if self._steps else None
        if self._said_size or last is None or last.has_result or last.message:
            self._steps.append(_Step(_text(self._said)))
            self._said, self._said_size = [], 0
        self._count += 1
        if self._count > _MAX_CALLS and len(self._steps) > 1 and not self._is_whole:
            oldest = self._steps.pop(0)
            self._count -= len(oldest.calls)
            self._open = [call for call in self._open if call.step is not oldest]
        call = _Call(body, self._steps[-1], self._text_limit())
        self._size += len(dumps(call.args))
        self._steps[-1].calls.append(call)
        self._open.append(call)

    def _told(self, body: dict[str, Any]) -> None:
        """A message of the user ends the step."""
        if not body["taken"]:
            self.left.append(body["content"])
            return
        if self._said_size or not self._steps or self._steps[-1].message:
            self._steps.append(_Step(_text(self._said)))
            self._said, self._said_size = [], 0
        self._steps[-1].message = body["content"]

    def _answered(self, body: dict[str, Any]) -> None:
        """The call of this id, else the oldest of the tool that waits."""
        waiting = [call for call in self._open if call.call_id == body["call_id"]]
        waiting = waiting or [call for call in self._open if call.tool == body["tool"]]
        if not waiting:
            return
        call = waiting[0]
        self._open.remove(call)
        call.step.has_result = True
        result = body["result"]
        text = result if isinstance(result, str) else dumps(result).decode()
        call.result, call.is_error = shortened(text, self._text_limit()), bool(body["is_error"])
        self._size += len(call.result)

    def _text_limit(self) -> int:
        """Characters of the next text that are kept."""
        if self._is_whole:
            return 1 << 30
        return _MAX_TEXT if self._size < _MAX_TOTAL else _MAX_REST


class _Step:
    def __init__(self, text: str) -> None:
        self.text = text
        self.calls: list[_Call] = []
        self.has_result = False
        self.message = ""

    def past(self) -> PastStep:
        return PastStep(
            self.text,
            tuple(
                PastCall(call.tool, call.args, call.result, call.is_error, call.call_id)
                for call in self.calls
            ),
            self.message,
        )


class _Call:
    def __init__(self, body: dict[str, Any], step: _Step, limit: int) -> None:
        self.step = step
        self.tool: str = body["tool"]
        self.call_id: str = body["call_id"]
        self.args: dict[str, Any] = body["args"]
        size = len(dumps(self.args))
        if size > limit:
            self.args = {"left_out": f"{size} bytes of arguments"}
        self.result: str | None = None
        self.is_error = False


def _text(bodies: Iterable[bytes]) -> str:
    return "".join(orjson.loads(body)["content"] for body in bodies)
