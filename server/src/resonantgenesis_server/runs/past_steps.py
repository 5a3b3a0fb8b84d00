"""The tools that an earlier turn called, read back from its chunks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from ..agents.base import PastCall, PastStep, shortened
from ..codec.json import dumps
from ..log.base import Entry

#: Calls of one turn that are kept, and characters of one result and of one call's arguments.
_MAX_CALLS = 200
_MAX_TEXT = 4_000


class StepReader:
    """Takes a turn's entries in order; `steps` are then what it said and called, up to its last
    call. A call without a result has `result` None."""

    def __init__(self) -> None:
        self._messages: list[Entry] = []
        self._open: list[_Call] = []
        self._steps: list[_Step] = []
        self._count = 0

    def see(self, entry: Entry) -> None:
        if entry.kind == "message":
            self._messages.append(entry)
        elif entry.kind == "tool_call" and self._count < _MAX_CALLS:
            self._called(orjson.loads(entry.body))
        elif entry.kind == "tool_result" and self._open:
            self._answered(orjson.loads(entry.body))

    def steps(self) -> tuple[PastStep, ...]:
        return tuple(step.past() for step in self._steps)

    def _called(self, body: dict[str, Any]) -> None:
        self._count += 1
        # Calls of one answer stand side by side, before the first of their results.
        if self._messages or not self._steps or self._steps[-1].has_result:
            self._steps.append(_Step(_text(self._messages)))
            self._messages = []
        call = _Call(body, self._steps[-1])
        self._steps[-1].calls.append(call)
        self._open.append(call)

    def _answered(self, body: dict[str, Any]) -> None:
        """The call of this id, else the oldest of the tool that waits."""
        waiting = [call for call in self._open if call.call_id == body["call_id"]]
        waiting = waiting or [call for call in self._open if call.tool == body["tool"]]
        if not waiting:
            return
        call = waiting[0]
        self._open.remove(call)
        call.step.has_result = True
        call.result, call.is_error = _cut(body["result"]), bool(body["is_error"])


class _Step:
    def __init__(self, text: str) -> None:
        self.text = text
        self.calls: list[_Call] = []
        self.has_result = False

    def past(self) -> PastStep:
        return PastStep(
            self.text,
            tuple(
                PastCall(call.tool, call.args, call.result, call.is_error) for call in self.calls
            ),
        )


class _Call:
    def __init__(self, body: dict[str, Any], step: _Step) -> None:
        self.step = step
        self.tool: str = body["tool"]
        self.call_id: str = body["call_id"]
        self.args: dict[str, Any] = body["args"]
        if len(dumps(self.args)) > _MAX_TEXT:
            self.args = {"left_out": f"{len(dumps(self.args))} bytes of arguments"}
        self.result: str | None = None
        self.is_error = False


def _text(messages: Iterable[Entry]) -> str:
    return "".join(orjson.loads(entry.body)["content"] for entry in messages)


def _cut(result: object) -> str:
    text = result if isinstance(result, str) else dumps(result).decode()
    return shortened(text, _MAX_TEXT)
