"""One agent's part of a team's turn: what it is told, and its chunks as the turn shows them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ....codec.json import dumps
from ....model.chunks import (
    AgentChunk,
    Ask,
    Data,
    File,
    Happened,
    Keep,
    OfSubAgent,
    Reasoning,
    Source,
    Step,
    Text,
    ToolCall,
    ToolResult,
    Usage,
)
from ....model.errors import AgentError
from ...base import (
    Answer,
    Inbox,
    Origin,
    PastStep,
    ResolvedAgent,
    Turn,
    TurnAsks,
    shortened,
)
from ...past import OWN, StepReader
from ...turn_calls import TurnCalls

_Chunk = Text | Reasoning | ToolCall | ToolResult | Step | Source | File | Data
_C = TypeVar("_C", bound=OfSubAgent)
#: The tool by which a team gives a task to a member.
DELEGATE = "delegate"
#: The name of the data that is the answer of an agent whose answer is no text.
OUTPUT = "output"
#: Characters of an answer that others are given.
MAX_ANSWER = 32_000
#: Characters of a task that an event shows.
_SHOWN = 1_000


@dataclass(frozen=True, slots=True)
class Member:
    """An agent of the team."""

    agent_id: str
    role: str | None = None
    instructions: str | None = None

    def told(self, own: str | None) -> str | None:
        """Its instructions in the team; `own` are those without it."""
        role = f"Your role in the team: {self.role}." if self.role else None
        return "\n\n".join(part for part in (own, role, self.instructions) if part) or None


class MemberPart:
    """A task of a member, or the work of the lead, whose chunks are those of the turn's own agent.

    The ids of its calls and asks have the id of its own call before them, so that those of two
    members differ. It may run several times: again with each answer that it has stopped for.
    """

    def __init__(self, turn: Turn, member: Member, task: str, call_id: str = "") -> None:
        """`call_id` is that of the call of `delegate`; none for the lead."""
        self.member = member
        self.task = task
        self.call_id = call_id
        self.origin: Origin = (member.agent_id, call_id) if call_id else OWN
        self.error: AgentError | None = None
        #: The asks for which it has stopped, by their ids in the turn.
        self.asks: dict[str, Ask] = {}
        #: The calls of `delegate` for which the lead has stopped.
        self.tasks: list[ToolCall] = []
        self.kept: Any = None
        self.has_begun = self.is_over = False
        #: Seconds that it has run, and when it is out of time, by the clock of its crew.
        self.ran = self.deadline = 0.0
        self._turn = turn
        self._prefix = f"{call_id}." if call_id else ""
        self._agent_id, _ = self.origin
        self._answers: dict[str, Answer] = {}
        self._began = time.monotonic()
        self._texts: list[str] = []
        self._output = ""
        self._reader = StepReader(whole=True)
        self._calls = TurnCalls()
        self._asked: set[str] = set()
        self._inputs = 0
        self._steps = 0
        self._max_steps = turn.max_steps
        self._open_steps: list[str] = []
        #: Tasks whose results the turn shows already.
        self._settled: set[str] = set()

    @property
    def answer(self) -> str:
        """What it said, as others are given it."""
        return shortened(self.text, MAX_ANSWER)

    @property
    def text(self) -> str:
        """Its text; without any, its output as JSON."""
        return "".join(self._texts) or self._output

    def go_on(self, so_far: Sequence[PastStep], kept: Any) -> None:
        """Take in what it did in a process that has gone."""
        self.has_begun = bool(self.call_id or so_far)
        self.kept = kept
        for step in so_far:
            if step.text:
                self._texts.append(step.text)
                self._see(Text(step.text))
            for call in step.calls:
                called = ToolCall(call.tool, dict(call.args), self._own(call.call_id))
                self._calls.called((call.tool,), called.call_id)
                self._see(called)
            for call in step.calls:
                if call.result is not None:
                    self._result(call.tool, call.result, call.call_id, is_error=call.is_error)
            if step.message:
                self.see_message(step.message)

    def view(self, resolved: ResolvedAgent, asks: TurnAsks, inbox: Inbox) -> Turn:
        """The turn as the agent sees it."""
        turn = self._turn
        self._max_steps = min(resolved.max_steps, turn.max_steps)
        mine = {
            self._own(call_id): replace(answer, call_id=self._own(call_id))
            for call_id, answer in turn.answers.items()
            if self._is_mine(call_id)
        }
        self._answers |= mine
        self._inputs = len(mine)
        return replace(
            turn,
            goal=self.task,
            agent_id=self.member.agent_id,
            part=self.call_id,
            model=turn.model or resolved.model,
            tools=resolved.tools if turn.tools is None else turn.tools,
            instructions=self.member.told(turn.instructions or resolved.instructions),
            max_steps=self._max_steps,
            answers=dict(self._answers),
            so_far=self._reader.steps(),
            so_far_of={},
            kept=self.kept,
            asks=asks,
            inbox=inbox,
        )

    def _is_mine(self, call_id: str) -> bool:
        if self.call_id:
            return call_id.startswith(self._prefix)
        return not any(call_id.startswith(f"{task}.") for task in self._settled)

    def run_again(self) -> None:
        """Forget what it has stopped for."""
        self.asks.clear()
        self.tasks.clear()
        self._asked.clear()

    # -- its chunks ------------------------------------------------------------------------

    def finish(self, said: str, *, is_error: bool) -> None:
        """Its end is known: it need not run."""
        self.is_over = True
        self.error = AgentError(said) if is_error else None
        self._texts = [said]

    def begin(self) -> Iterator[AgentChunk]:
        """The chunk with which its task begins, and the event."""
        if self.call_id and not self.has_begun:
            yield self._event("assigned", {"task": self.task[:_SHOWN]})
            yield self._labelled(Step(self.member.agent_id))
        self.has_begun = True

    def end(self) -> Iterator[AgentChunk]:
        """What it asks if it has stopped, else the chunks with which its task ends, and the
        event."""
        if self.error is None and (self.asks or self.tasks):
            yield from self.asks.values()
            return
        self.run_again()
        reason = "failed" if self.error else ""
        for name in reversed(self._open_steps):
            yield self._labelled(Step(name, "completed", finish_reason=reason))
        self._open_steps.clear()
        if not self.call_id:
            return
        yield self._labelled(Step(self.member.agent_id, "completed", finish_reason=reason))
        took = {"duration_ms": round((time.monotonic() - self._began) * 1000)}
        error = self.error
        if error is None:
            yield self._event("completed", took)
        else:
            failed = {"error_code": error.code, "error": error.message}
            yield self._event("failed", took | failed)
        yield self.result()

    def result(self) -> ToolResult:
        """The result of its call."""
        error = self.error
        said = self.answer if error is None else error.message
        return ToolResult(DELEGATE, said, self.call_id, is_error=error is not None)

    @property
    def failure(self) -> AgentError | None:
        """The error with which it ends the turn."""
        error = self.error
        if error is None or not self.call_id:
            return error
        return AgentError(
            f"{self.member.agent_id}: {error.message}",
            error.code,
            retryable=error.retryable,
            retry_after=error.retry_after,
        )

    def _event(self, kind: str, data: dict[str, Any]) -> Happened:
        named = {"call_id": self.call_id, "member": self.member.agent_id}
        return Happened(f"team.task.{kind}", self.call_id, named | data)

    def outward(self, chunk: AgentChunk) -> AgentChunk | None:
        """A chunk of the agent as the turn shows it; None: it is not shown."""
        if isinstance(chunk, Keep):
            self.kept = chunk.value
        elif isinstance(chunk, Ask):
            return self._stop_for(chunk)
        elif isinstance(chunk, Usage | Happened):
            return chunk
        elif isinstance(chunk, str):
            return self._shown(Text(chunk)) if self.call_id else self._say(chunk)
        else:
            return self._shown(chunk)
        return None

    def _shown(self, chunk: _Chunk) -> AgentChunk | None:
        if chunk.agent_id:
            return self._of_other(chunk)
        if isinstance(chunk, ToolCall):
            return self._called(chunk)
        if isinstance(chunk, ToolResult):
            return self._answered(chunk)
        if isinstance(chunk, Text):
            self._say(chunk.content)
        elif isinstance(chunk, Step):
            self._step(chunk)
        elif isinstance(chunk, Data) and chunk.name == OUTPUT:
            self._output = dumps(chunk.data).decode()
        return self._labelled(chunk)

    def _labelled(self, chunk: _C) -> _C:
        return replace(chunk, agent_id=self._agent_id, parent=self.call_id)

    def _say(self, text: str) -> str:
        self._texts.append(text)
        self._see(Text(text))
        return text

    def _step(self, step: Step) -> None:
        if step.status == "started":
            self._steps += 1
            if self._steps > self._max_steps:
                words = f"it took more than {self._max_steps} steps; raise max_steps of the agent"
                raise AgentError(words, "MAX_STEPS")
            self._open_steps.append(step.name)
        elif step.status == "completed" and step.name in self._open_steps:
            self._open_steps.remove(step.name)

    def _called(self, call: ToolCall) -> ToolCall:
        call = replace(call, call_id=self._calls.called((call.tool,), call.call_id or None))
        self._see(call)
        return self._labelled(replace(call, call_id=self._prefix + call.call_id))

    def _answered(self, result: ToolResult) -> ToolResult | None:
        is_task = not self.call_id and result.tool == DELEGATE
        if is_task and (not result.call_id or result.call_id in self._settled):
            return None  # the team has shown it
        call_id = self._calls.answered((result.tool,), result.call_id or None)
        result = replace(result, call_id=call_id)
        self._see(result)
        return self._labelled(replace(result, call_id=self._prefix + call_id))

    def _of_other(self, chunk: _C) -> _C:
        """A chunk of a sub-agent of the agent."""
        if not self.call_id:
            return chunk
        parent = self._prefix + chunk.parent if chunk.parent else self.call_id
        chunk = replace(chunk, parent=parent)
        if isinstance(chunk, ToolCall | ToolResult | Ask) and chunk.call_id:
            chunk = replace(chunk, call_id=self._prefix + chunk.call_id)
        return chunk

    def _see(self, chunk: Text | ToolCall | ToolResult) -> None:
        self._reader.see(chunk.event, dumps(chunk.payload()))

    def see_message(self, content: str) -> None:
        """Take in what the user has said to it."""
        self._reader.see("user_message", dumps({"content": content, "taken": True}))

    # -- what it asks ----------------------------------------------------------------------

    def _stop_for(self, ask: Ask) -> AgentChunk | None:
        if not self.call_id and ask.kind == "tool" and ask.tool == DELEGATE:
            own, is_shown = self._calls.asked_about((DELEGATE,), ask.call_id, self._asked)
            if own in self._answers:
                return None  # it asks again for what it has
            self._asked.add(own)
            task = ToolCall(DELEGATE, ask.args, own)
            self.tasks.append(task)
            return None if is_shown else self._called(task)
        asked = self.named(ask)
        if self._own(asked.call_id) not in self._answers:
            self.asks[asked.call_id] = asked
        return None

    def named(self, ask: Ask) -> Ask:
        """The ask with its id in the turn."""
        if ask.agent_id:
            return self._of_other(ask)
        if ask.kind == "input":
            self._inputs += not ask.call_id
            own = ask.call_id or f"ask_{self._turn.turn}_{self._inputs}"
        else:
            own, is_shown = self._calls.asked_about((ask.tool,), ask.call_id, self._asked)
            if not is_shown:
                self._called(ToolCall(ask.tool, ask.args, own))
        self._asked.add(own)
        return self._labelled(replace(ask, call_id=self._prefix + own))

    def _own(self, call_id: str) -> str:
        return call_id.removeprefix(self._prefix)

    def of_part(self, answer: Answer) -> Answer:
        """An answer of the turn, as the agent knows its id."""
        return replace(answer, call_id=self._own(answer.call_id))

    # -- tasks of the lead -----------------------------------------------------------------

    def settle(self, part: MemberPart) -> None:
        """Take in the end of a task that the lead has given."""
        result = part.result()
        self._result(DELEGATE, result.result, part.call_id, is_error=result.is_error)

    def _result(self, tool: str, result: Any, call_id: str, *, is_error: bool) -> None:
        own = self._calls.answered((tool,), self._own(call_id))
        self._see(ToolResult(tool, result, own, is_error))
        if tool == DELEGATE and not self.call_id:
            self._settled.add(own)
            refused = {"approved": False, "reason": result}
            self._answers[own] = Answer(own, **(refused if is_error else {"payload": result}))
