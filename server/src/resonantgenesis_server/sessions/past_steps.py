"""The tools that an earlier turn called, read back from its chunks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from ..agents.base import PastCall, PastStep, shortened
from ..codec.json import dumps
from ..log.base import Entry

#: Calls of one turn that are kept, the newest, and characters of one result and of one call's
#: arguments; of those past `_MAX_TOTAL` of all together.
_MAX_CALLS = 100
_MAX_TEXT = 4_000
_MAX_TOTAL, _MAX_REST = 60_000, 100
#: Bytes of what was said before a call; a longer text is not told apart from the whole output.
_MAX_SAID = 1 << 20


class StepReader:
    """Takes a turn's entries in order; `steps` are then what it said and called, up to its last
    call. A call without a result has `result` None."""

    def __init__(self) -> None:
        self._said: list[bytes] = []
        self._said_size = 0
        self._open: list[_Call] = []
        self._steps: list[_Step] = []
        self._count = 0
        self._size = 0

    def see(self, entry: Entry) -> None:
        if entry.kind == "message":
            self._said_size += len(entry.body)
            if self._said_size > _MAX_SAID:
                self._said.clear()
            else:
                self._said.append(entry.body)
        elif entry.kind == "tool_call":
            self._called(orjson.loads(entry.body))
        elif entry.kind == "tool_result" and self._open:
            self._answered(orjson.loads(entry.body))

    def steps(self) -> tuple[PastStep, ...]:
        return tuple(step.past() for step in self._steps)

    def _called(self, body: dict[str, Any]) -> None:
        if len(self._open) >= _MAX_CALLS:
            return
        # Calls of one answer stand side by side, before the first of their results.
        if self._said_size or not self._steps or self._steps[-1].has_result:
            self._steps.append(_Step(_text(self._said)))
            self._said, self._said_size = [], 0
        self._count += 1
        if self._count > _MAX_CALLS and len(self._steps) > 1:
            oldest = self._steps.pop(0)
            self._count -= len(oldest.calls)
            self._open = [call for call in self._open if call.step is not oldest]
        call = _Call(body, self._steps[-1], self._most())
        self._size += len(dumps(call.args))
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
        result = body["result"]
        text = result if isinstance(result, str) else dumps(result).decode()
        call.result, call.is_error = shortened(text, self._most()), bool(body["is_error"])
        self._size += len(call.result)

    def _most(self) -> int:
        """Characters that are kept of the next text."""
        return _MAX_TEXT if self._size < _MAX_TOTAL else _MAX_REST


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
    def __init__(self, body: dict[str, Any], step: _Step, most: int) -> None:
        self.step = step
        self.tool: str = body["tool"]
        self.call_id: str = body["call_id"]
        self.args: dict[str, Any] = body["args"]
        size = len(dumps(self.args))
        if size > most:
            self.args = {"left_out": f"{size} bytes of arguments"}
        self.result: str | None = None
        self.is_error = False


def _text(bodies: Iterable[bytes]) -> str:
    return "".join(orjson.loads(body)["content"] for body in bodies)
