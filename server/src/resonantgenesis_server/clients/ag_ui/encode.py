"""A turn as a run of AG-UI, and a session as the runs of a thread.

A run begins with RUN_STARTED. It ends with RUN_FINISHED, before which everything open is closed, or
with RUN_ERROR. A turn that waits ends its run with an interrupt; what comes after the answer is a
run of its own. Fields without a value are left out, since a null ends the run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import orjson

from ..frames import Chunk, TurnFrames, data_frame

Json = dict[str, Any]


class RunFrames(TurnFrames):
    """The events of one turn. `run_id` is the client's name of the run, if it has one."""

    __slots__ = (
        "_asks", "_calls", "_failure", "_goal", "_is_copilotkit", "_open", "_parts", "_run",
        "_runs", "_started", "_steps", "session_id", "thread_id", "turn",
    )  # fmt: skip

    def __init__(
        self,
        session_id: str,
        turn: int,
        thread_id: str,
        run_id: str | None = None,
        goal: str | None = None,
        *,
        is_copilotkit: bool = False,
    ) -> None:
        """With a `goal`, RUN_STARTED has the user's message. CopilotKit has an older AG-UI: its
        clients drop a stream in which a run's outcome is `cancelled`."""
        self.session_id = session_id
        self.turn = turn
        self.thread_id = thread_id
        self._run = run_id
        self._goal = goal
        self._is_copilotkit = is_copilotkit
        #: The number of runs so far, and whether one is open.
        self._runs = 0
        self._started = False
        self._parts = 0
        self._open = ""
        self._steps: list[str] = []
        self._calls: frozenset[str] = frozenset()
        self._asks: list[Json] = []
        self._failure: Json | None = None

    @property
    def key(self) -> tuple[object, ...]:
        options = (self._run, self._goal, self._is_copilotkit)
        return ("ag-ui", self.session_id, self.turn, self.thread_id, *options)

    def copy(self) -> Self:
        other = super().copy()
        other._steps = copy.copy(self._steps)
        other._asks = copy.copy(self._asks)
        return other

    def frames(self, kind: str, chunk: Chunk) -> list[bytes]:
        return [data_frame(event) for event in self._events(kind, chunk)]

    def aside(self, chunk: Chunk) -> list[bytes]:
        return [data_frame(event) for event in self._custom(chunk)] if self._started else []

    @property
    def _run_id(self) -> str:
        return self._run or f"run_{self.session_id}.{self.turn}.{self._runs}"

    def _events(self, kind: str, chunk: Chunk) -> Iterator[Json]:
        if not self._started:
            self._started = True
            self._runs += 1
            yield self._begin()
        encode = _ENCODERS.get(kind)
        if encode is not None:
            yield from encode(self, chunk)

    def _begin(self) -> Json:
        begin = {"type": "RUN_STARTED", "threadId": self.thread_id, "runId": self._run_id}
        if self._goal is None or self._runs > 1:
            return begin
        asked = {"id": f"msg_{self.session_id}.{self.turn}.user", "role": "user"}
        given = {"threadId": self.thread_id, "runId": self._run_id, "state": {}, "tools": []}
        messages = [{**asked, "content": self._goal}]
        return begin | {"input": {**given, "context": [], "messages": messages}}

    # -- parts -----------------------------------------------------------------------------

    def _part_id(self) -> str:
        return f"msg_{self.session_id}.{self.turn}.{self._parts}"

    def _text(self, chunk: Chunk) -> Iterator[Json]:
        # What a sub-agent says is no part of the answer.
        return self._delta("REASONING" if "agent_id" in chunk else "TEXT", chunk["content"])

    def _reasoning(self, chunk: Chunk) -> Iterator[Json]:
        return self._delta("REASONING", chunk["content"])

    def _delta(self, part: str, text: str) -> Iterator[Json]:
        if not text:
            return
        if self._open != part:
            yield from self._close()
            self._parts += 1
            self._open = part
            if part == "REASONING":
                yield {"type": "REASONING_START", "messageId": self._part_id()}
            role = "assistant" if part == "TEXT" else "reasoning"
            start = {"type": f"{part}_MESSAGE_START", "messageId": self._part_id()}
            yield {**start, "role": role}
        content = {"type": f"{part}_MESSAGE_CONTENT", "messageId": self._part_id()}
        yield {**content, "delta": text}

    def _close(self) -> Iterator[Json]:
        if not self._open:
            return
        part, self._open = self._open, ""
        yield {"type": f"{part}_MESSAGE_END", "messageId": self._part_id()}
        if part == "REASONING":
            yield {"type": "REASONING_END", "messageId": self._part_id()}

    def _step(self, chunk: Chunk) -> Iterator[Json]:
        name, status = chunk["name"], chunk["status"]
        if status == "progress":
            yield from self._delta("REASONING", chunk.get("detail", ""))
        elif status == "started" and name not in self._steps:
            yield from self._close()
            self._steps.append(name)
            yield {"type": "STEP_STARTED", "stepName": name}
        elif status == "completed" and name in self._steps:
            yield from self._close()
            self._steps.remove(name)
            yield {"type": "STEP_FINISHED", "stepName": name}

    def _call(self, chunk: Chunk) -> Iterator[Json]:
        yield from self._close()
        call_id = chunk["call_id"]
        if call_id in self._calls:
            return
        self._calls |= {call_id}
        place = {"toolCallId": call_id}
        yield {"type": "TOOL_CALL_START", **place, "toolCallName": chunk["tool"]}
        arguments = orjson.dumps(chunk.get("args") or {}).decode()
        yield {"type": "TOOL_CALL_ARGS", **place, "delta": arguments}
        yield {"type": "TOOL_CALL_END", **place}

    def _result(self, chunk: Chunk) -> Iterator[Json]:
        yield from self._call(chunk)  # unless it was made before
        result = chunk["result"]
        self._parts += 1
        yield {
            "type": "TOOL_CALL_RESULT",
            "messageId": self._part_id(),
            "toolCallId": chunk["call_id"],
            "content": result if isinstance(result, str) else orjson.dumps(result).decode(),
            "role": "tool",
        }

    def _custom(self, chunk: Chunk) -> Iterator[Json]:
        value = {name: of for name, of in chunk.items() if name not in {"type", "position"}}
        if chunk["type"] == "data":
            yield {"type": "CUSTOM", "name": chunk["name"], "value": chunk["data"]}
        else:
            yield {"type": "CUSTOM", "name": chunk["type"], "value": value}

    def _ask(self, chunk: Chunk) -> Iterator[Json]:
        if chunk.get("tool") is not None:
            yield from self._call(chunk)
        self._asks.append(dict(chunk))

    # -- the end ---------------------------------------------------------------------------

    def _error(self, chunk: Chunk) -> Iterator[Json]:
        self._failure = {"message": chunk["message"], "code": chunk["code"]}
        yield from ()

    def _done(self, chunk: Chunk) -> Iterator[Json]:
        if self._failure is not None:
            yield {"type": "RUN_ERROR", **self._failure}
            return
        is_cancelled = chunk["status"] == "cancelled"
        if is_cancelled and self._is_copilotkit:
            yield {"type": "RUN_ERROR", "message": "the run was cancelled", "code": "CANCELLED"}
            return
        yield from self._finish({"type": "cancelled" if is_cancelled else "success"})

    def _wait(self, _chunk: Chunk) -> Iterator[Json]:
        asks, self._asks = self._asks, []
        interrupts = [_interrupt(ask) for ask in asks if ask["kind"] != "tool"]
        outcome: Json = {"type": "interrupt", "interrupts": interrupts}
        if not interrupts:
            outcome = {"type": "success", "pendingToolCallIds": [ask["call_id"] for ask in asks]}
        yield from self._finish(outcome)
        self._started = False

    def _finish(self, outcome: Json) -> Iterator[Json]:
        yield from self._close()
        for name in reversed(self._steps):
            yield {"type": "STEP_FINISHED", "stepName": name}
        self._steps = []
        place = {"threadId": self.thread_id, "runId": self._run_id}
        yield {"type": "RUN_FINISHED", **place, "outcome": outcome}


_NAMES = {"message": "message", "responseSchema": "schema", "expiresAt": "expires_at"}


def _interrupt(ask: Mapping[str, Any]) -> Json:
    call_id = ask["call_id"]
    found: Json = {"id": call_id, "reason": ask["kind"]}
    if ask["kind"] == "approval":
        found["toolCallId"] = call_id
    for name, of in (
        ("message", "message"),
        ("responseSchema", "schema"),
        ("expiresAt", "expires_at"),
    ):
        if ask.get(of):
            found[name] = ask[of]
    return found


_ENCODERS: Mapping[str, Callable[[RunFrames, Chunk], Iterator[Json]]] = {
    "message": RunFrames._text,
    "reasoning": RunFrames._reasoning,
    "step": RunFrames._step,
    "tool_call": RunFrames._call,
    "tool_result": RunFrames._result,
    "source": RunFrames._custom,
    "file": RunFrames._custom,
    "data": RunFrames._custom,
    "input_required": RunFrames._ask,
    "error": RunFrames._error,
    "waiting": RunFrames._wait,
    "done": RunFrames._done,
}


class ThreadFrames(TurnFrames):
    """The runs of a session from turn `first` on, each with the user's message."""

    __slots__ = ("_first", "_goals", "_run", "session_id", "thread_id")

    def __init__(
        self, session_id: str, thread_id: str, first: int, goals: Mapping[int, str]
    ) -> None:
        self.session_id = session_id
        self.thread_id = thread_id
        self._first = first
        self._goals = goals
        self._run = self._of(first)

    @property
    def key(self) -> tuple[object, ...]:
        return ("ag-ui-thread", self.session_id, self.thread_id, self._first)

    def copy(self) -> Self:
        other = super().copy()
        other._run = self._run.copy()
        return other

    def frames(self, kind: str, chunk: Chunk) -> list[bytes]:
        if kind == "done" and chunk["turn"] != self._run.turn:
            self._run = self._of(chunk["turn"])
        found = self._run.frames(kind, chunk)
        if kind == "done":
            self._run = self._of(self._run.turn + 1)
        return found

    def aside(self, chunk: Chunk) -> list[bytes]:
        return self._run.aside(chunk)

    def _of(self, turn: int) -> RunFrames:
        goal = self._goals.get(turn, "")
        return RunFrames(self.session_id, turn, self.thread_id, goal=goal, is_copilotkit=True)
