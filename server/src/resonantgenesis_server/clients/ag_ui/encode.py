"""A turn as a run of AG-UI, and a session as the runs of a thread.

A run begins with RUN_STARTED. It ends with RUN_FINISHED, before which everything open is closed, or
with RUN_ERROR. A turn that waits ends its run with an interrupt; what comes after the answer is a
run of its own. Fields without a value are left out, since a null ends the run.

Events of a sub-agent have its id, between its SUBAGENT_STARTED and its SUBAGENT_FINISHED or
SUBAGENT_ERROR. No id begins twice in a run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import orjson

from ..frames import Chunk, TurnFrames, data_frame

Json = dict[str, Any]
#: A sub-agent: the call that started it, if one did, and its name. None: the turn's own agent.
Agent = tuple[str, str] | None


class RunFrames(TurnFrames):
    """The events of one turn. `run_id` is the client's name of the run, if it has one."""

    __slots__ = (
        "_asks", "_calls", "_failure", "_goal", "_is_copilotkit", "_open", "_parts", "_run",
        "_running", "_runs", "_started", "_steps", "_sub_count", "_subs", "session_id",
        "thread_id", "turn",
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
        #: The part that grows, by the agent that makes it, and its id.
        self._open: dict[Agent, tuple[str, str]] = {}
        self._steps: list[tuple[Agent, str]] = []
        #: The agent of each call.
        self._calls: dict[str, Agent] = {}
        #: The ids of the sub-agents that are not over, and those that have begun in this run.
        self._subs: dict[Agent, str] = {}
        self._running: list[Agent] = []
        self._sub_count = 0
        self._asks: list[Json] = []
        self._failure: Json | None = None

    @property
    def key(self) -> tuple[object, ...]:
        options = (self._run, self._goal, self._is_copilotkit)
        return ("ag-ui", self.session_id, self.turn, self.thread_id, *options)

    def copy(self) -> Self:
        other = super().copy()
        for name in ("_asks", "_calls", "_open", "_running", "_steps", "_subs"):
            setattr(other, name, copy.copy(getattr(self, name)))
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
            yield from self._begin_sub(chunk)
            yield from encode(self, chunk)

    def _begin(self) -> Json:
        begin = {"type": "RUN_STARTED", "threadId": self.thread_id, "runId": self._run_id}
        if self._goal is None or self._runs > 1:
            return begin
        asked = {"id": f"msg_{self.session_id}.{self.turn}.user", "role": "user"}
        given = {"threadId": self.thread_id, "runId": self._run_id, "state": {}, "tools": []}
        messages = [{**asked, "content": self._goal}]
        return begin | {"input": {**given, "context": [], "messages": messages}}

    # -- sub-agents ------------------------------------------------------------------------

    def _begin_sub(self, chunk: Chunk) -> Iterator[Json]:
        """The agent of the chunk begins in this run, if it is a sub-agent that has not yet."""
        agent = _agent(chunk)
        if agent is None or agent in self._running:
            return
        if agent not in self._subs:
            self._sub_count += 1
            self._subs[agent] = f"sub_{self.session_id}.{self.turn}.{self._sub_count}"
        started = {"type": "SUBAGENT_STARTED", "subagentRunId": self._subs[agent]}
        started["name"] = agent[1]
        if agent[0]:
            started["parentToolCallId"] = agent[0]
        caller = self._calls.get(agent[0])
        if caller in self._running:
            started["parentSubagentRunId"] = self._subs[caller]
        self._running.append(agent)
        yield started

    def _end_sub(self, agent: Agent, end: Json) -> Iterator[Json]:
        yield from self._close(agent)
        yield from self._finish_steps(agent)
        self._running.remove(agent)
        yield {**end, "subagentRunId": self._subs[agent]}

    def _of(self, agent: Agent) -> Json:
        """What an event of this agent has to show whose it is."""
        return {"subagentRunId": self._subs[agent]} if agent in self._subs else {}

    # -- parts -----------------------------------------------------------------------------

    def _part_id(self) -> str:
        return f"msg_{self.session_id}.{self.turn}.{self._parts}"

    def _text(self, chunk: Chunk) -> Iterator[Json]:
        # What a sub-agent says is no part of the answer.
        return self._delta(chunk, "REASONING" if "agent_id" in chunk else "TEXT", chunk["content"])

    def _reasoning(self, chunk: Chunk) -> Iterator[Json]:
        return self._delta(chunk, "REASONING", chunk["content"])

    def _delta(self, chunk: Chunk, part: str, text: str) -> Iterator[Json]:
        if not text:
            return
        agent = _agent(chunk)
        of = self._of(agent)
        if agent not in self._open or self._open[agent][0] != part:
            yield from self._close(agent)
            self._parts += 1
            self._open[agent] = part, self._part_id()
            if part == "REASONING":
                yield {"type": "REASONING_START", "messageId": self._part_id(), **of}
            role = "assistant" if part == "TEXT" else "reasoning"
            start = {"type": f"{part}_MESSAGE_START", "messageId": self._part_id()}
            yield {**start, "role": role, **of}
        content = {"type": f"{part}_MESSAGE_CONTENT", "messageId": self._open[agent][1]}
        yield {**content, "delta": text, **of}

    def _close(self, agent: Agent) -> Iterator[Json]:
        """The part of this agent that grows is whole, if there is one."""
        if agent not in self._open:
            return
        part, part_id = self._open.pop(agent)
        of = self._of(agent)
        yield {"type": f"{part}_MESSAGE_END", "messageId": part_id, **of}
        if part == "REASONING":
            yield {"type": "REASONING_END", "messageId": part_id, **of}

    def _step(self, chunk: Chunk) -> Iterator[Json]:
        agent, name, status = _agent(chunk), chunk["name"], chunk["status"]
        step, of = (agent, name), self._of(agent)
        if status == "progress":
            yield from self._delta(chunk, "REASONING", chunk.get("detail", ""))
        elif status == "started" and step not in self._steps:
            yield from self._close(agent)
            self._steps.append(step)
            yield {"type": "STEP_STARTED", "stepName": name, **of}
        elif status == "completed" and step in self._steps:
            yield from self._close(agent)
            self._steps.remove(step)
            yield {"type": "STEP_FINISHED", "stepName": name, **of}

    def _finish_steps(self, agent: Agent) -> Iterator[Json]:
        for step in [each for each in reversed(self._steps) if each[0] == agent]:
            self._steps.remove(step)
            yield {"type": "STEP_FINISHED", "stepName": step[1], **self._of(agent)}

    def _call(self, chunk: Chunk) -> Iterator[Json]:
        agent, call_id = _agent(chunk), chunk["call_id"]
        yield from self._close(agent)
        if call_id in self._calls:
            return
        self._calls[call_id] = agent
        place = {"toolCallId": call_id, **self._of(agent)}
        yield {"type": "TOOL_CALL_START", **place, "toolCallName": chunk["tool"]}
        arguments = orjson.dumps(chunk.get("args") or {}).decode()
        yield {"type": "TOOL_CALL_ARGS", **place, "delta": arguments}
        yield {"type": "TOOL_CALL_END", **place}

    def _result(self, chunk: Chunk) -> Iterator[Json]:
        yield from self._call(chunk)  # unless it was made before
        call_id, result, of = chunk["call_id"], chunk["result"], self._of(_agent(chunk))
        content = result if isinstance(result, str) else orjson.dumps(result).decode()
        end: Json = {"type": "SUBAGENT_FINISHED", "result": result}
        if chunk.get("is_error"):
            end = {"type": "SUBAGENT_ERROR", "message": content}
        for agent in [each for each in reversed(self._running) if each and each[0] == call_id]:
            yield from self._end_sub(agent, end)
            del self._subs[agent]
        self._parts += 1
        yield {
            "type": "TOOL_CALL_RESULT",
            "messageId": self._part_id(),
            "toolCallId": call_id,
            "content": content,
            "role": "tool",
            **of,
        }

    def _custom(self, chunk: Chunk) -> Iterator[Json]:
        value = {name: of for name, of in chunk.items() if name not in {"type", "position"}}
        of = self._of(_agent(chunk))
        if chunk["type"] == "data":
            yield {"type": "CUSTOM", "name": chunk["name"], "value": chunk["data"], **of}
        else:
            yield {"type": "CUSTOM", "name": chunk["type"], "value": value, **of}

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
        if is_cancelled:
            end = {"type": "SUBAGENT_ERROR", "message": "the run was cancelled"}
            yield from self._finish({"type": "cancelled"}, {**end, "code": "CANCELLED"})
        else:
            yield from self._finish({"type": "success"}, {"type": "SUBAGENT_FINISHED"})

    def _wait(self, _chunk: Chunk) -> Iterator[Json]:
        asks, self._asks = self._asks, []
        interrupts = [
            _interrupt(ask) | self._of(_agent(ask)) for ask in asks if ask["kind"] != "tool"
        ]
        outcome: Json = {"type": "interrupt", "interrupts": interrupts}
        if not interrupts:
            outcome = {"type": "success", "pendingToolCallIds": [ask["call_id"] for ask in asks]}
        suspended = {"type": "SUBAGENT_FINISHED", "outcome": {"type": "suspended"}}
        yield from self._finish(outcome, suspended)
        self._started = False

    def _finish(self, outcome: Json, of_subs: Json) -> Iterator[Json]:
        """End the run, and each sub-agent that is not over with `of_subs`."""
        for agent in reversed(self._running.copy()):
            yield from self._end_sub(agent, of_subs)
        yield from self._close(None)
        yield from self._finish_steps(None)
        place = {"threadId": self.thread_id, "runId": self._run_id}
        yield {"type": "RUN_FINISHED", **place, "outcome": outcome}


def _agent(chunk: Chunk) -> Agent:
    # The first step of a turn has the id of the turn's own agent, and of the session.
    if "agent_id" not in chunk or "session_id" in chunk:
        return None
    return chunk.get("parent") or "", chunk["agent_id"]


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
