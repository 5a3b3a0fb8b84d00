"""Agents of OpenAI's Agents SDK."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

from agents import Agent, MaxTurnsExceeded, Runner, RunResultStreaming, RunState
from pydantic_core import to_jsonable_python

from ..agent_api import (
    AgentChunk,
    AgentError,
    Ask,
    Data,
    Keep,
    Reasoning,
    Source,
    Step,
    ToolCall,
    ToolResult,
    Turn,
    Usage,
)

#: What `adapted` takes.
TAKES = Agent


def adapted(
    agent: Agent[Any], make_context: Callable[[Turn], Any] | None, run_config: Any
) -> Callable[[Turn], AsyncGenerator[AgentChunk, None]]:
    """See `adapters.openai_agents`."""

    async def run(turn: Turn) -> AsyncGenerator[AgentChunk, None]:
        context = None if make_context is None else make_context(turn)
        shown = _AgentView(agent.name)
        given = await _input(agent, turn, context, shown)
        # The server counts the steps, and says so in words of its own.
        running = Runner.run_streamed(
            agent, given, context=context, max_turns=turn.max_steps + 1, run_config=run_config
        )
        used = running.context_wrapper.usage
        before = used.input_tokens, used.output_tokens
        try:
            async for event in running.stream_events():
                for chunk in shown.chunks(event):
                    yield chunk
        except MaxTurnsExceeded as error:
            raise AgentError(f"{error}; raise max_steps", "MAX_STEPS") from error
        finally:
            running.cancel()
        used = running.context_wrapper.usage
        yield Usage(used.input_tokens - before[0], used.output_tokens - before[1])
        if running.interruptions:
            # The context is made again.
            state = running.to_state().to_json(context_serializer=lambda _: {})
            yield Keep({"run": state, "agent": shown.agent, "calls": shown.calls})
            for item in running.interruptions:
                name, args = item.name or "tool", _args(item.arguments)
                yield Ask("approval", "", name, args, call_id=item.call_id or "")
        else:
            for chunk in _output(running):
                yield chunk

    return run


async def _input(agent: Agent[Any], turn: Turn, context: Any, shown: _AgentView) -> Any:
    """The conversation; behind a stop the state of the run, with what people decided."""
    if turn.kept is None:
        messages = []
        for past in turn.history:
            messages.append({"role": "user", "content": past.goal})
            if past.output:
                messages.append({"role": "assistant", "content": past.output})
        return [*messages, {"role": "user", "content": turn.goal}]
    shown.agent, shown.calls = turn.kept["agent"], turn.kept["calls"]
    state = await RunState.from_json(agent, turn.kept["run"], context_override=context)
    for item in state.get_interruptions():
        call_id = item.call_id or ""
        answer = turn.answers[call_id]
        if answer:
            state.approve(item)
        else:
            shown.denied.add(call_id)
            state.reject(item, rejection_message=answer.refusal)
    return state


def _output(result: RunResultStreaming) -> Iterator[AgentChunk]:
    output = result.final_output
    if output is not None and not isinstance(output, str):
        yield Data("output", to_jsonable_python(output, fallback=str))


class _AgentView:
    """What the stream shows of a run.

    An agent that was handed the conversation answers the user: its text is the turn's, and the rest
    bears its name.
    """

    def __init__(self, name: str) -> None:
        self._first = self.agent = name
        #: The tool and the origin of each call.
        self.calls: dict[str, tuple[str, dict[str, str]]] = {}
        self.denied: set[str] = set()

    def chunks(self, event: Any) -> Iterator[AgentChunk]:
        if event.type == "raw_response_event":
            yield from self._of_model(event.data)
        elif event.type == "agent_updated_stream_event":
            self.agent = event.new_agent.name
        elif event.name in {"tool_called", "handoff_requested"}:
            yield from self._call(event.item)
        elif event.name in {"tool_output", "handoff_occured"}:
            yield self._result(event.item)

    @property
    def _origin(self) -> dict[str, str]:
        return {} if self.agent == self._first else {"agent_id": self.agent}

    def _of_model(self, data: Any) -> Iterator[AgentChunk]:
        kind = data.type
        if kind in {"response.output_text.delta", "response.refusal.delta"}:
            if data.delta:
                yield data.delta
        elif kind in {"response.reasoning_text.delta", "response.reasoning_summary_text.delta"}:
            if data.delta:
                yield Reasoning(data.delta, **self._origin)
        elif kind == "response.output_text.annotation.added":
            note = to_jsonable_python(data.annotation)
            if note.get("url"):
                yield Source(note["url"], note.get("title") or "", **self._origin)
        elif kind == "response.created":
            yield Step(self.agent, "started", **self._origin)
        elif kind == "response.completed":
            yield Step(self.agent, "completed", **self._origin)

    def _call(self, item: Any) -> Iterator[ToolCall]:
        raw = to_jsonable_python(item.raw_item)
        call_id = raw.get("call_id") or raw.get("id") or ""
        if call_id in self.calls:
            return
        name = getattr(item, "tool_name", None) or raw.get("name") or raw["type"]
        self.calls[call_id] = name, self._origin
        yield ToolCall(name, _args(raw.get("arguments")), call_id, **self._origin)

    def _result(self, item: Any) -> ToolResult:
        raw = to_jsonable_python(item.raw_item)
        call_id = raw.get("call_id") or raw.get("id") or ""
        name, origin = self.calls.get(call_id, ("tool", self._origin))
        output = getattr(item, "output", None) or raw.get("output")
        content = to_jsonable_python(output, fallback=str)
        return ToolResult(name, content, call_id, call_id in self.denied, **origin)


def _args(text: str | None) -> dict[str, Any]:
    try:
        args = json.loads(text or "{}")
    except ValueError:
        args = text
    return args if isinstance(args, dict) else {"input": args}
