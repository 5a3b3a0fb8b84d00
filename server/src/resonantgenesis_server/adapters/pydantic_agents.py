"""Agents of pydantic-ai."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any

from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, ToolDenied
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.messages import (
    AgentStreamEvent,
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.run import AgentRunResult, AgentRunResultEvent
from pydantic_core import to_jsonable_python

from ..agent_api import (
    AgentChunk,
    AgentError,
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

_STEP = "model"
#: What `adapted` takes.
TAKES = AbstractAgent


def adapted(
    agent: Agent[Any, Any], deps: Callable[[Turn], Any] | None
) -> Callable[[Turn], AsyncGenerator[AgentChunk, None]]:
    """See `adapters.pydantic_ai`."""

    async def run(turn: Turn) -> AsyncGenerator[AgentChunk, None]:
        async for chunk in _Run(agent, turn, None if deps is None else deps(turn)).chunks():
            yield chunk

    return run


class _Run:
    """One turn. It may run the agent several times: once more after each wait for approvals."""

    def __init__(self, agent: Agent[Any, Any], turn: Turn, deps: Any) -> None:
        self._agent = agent
        self._turn = turn
        self._deps = deps
        #: Calls that the stream shows already.
        self._shown: set[str] = set()
        self._in_step = False

    async def chunks(self) -> AsyncGenerator[AgentChunk, None]:
        goal: str | None = self._turn.goal
        messages: Sequence[ModelMessage] = _history(self._turn)
        results: DeferredToolResults | None = None
        if self._turn.kept is not None:  # the process that waited has ended
            # It has taken the answers of its earlier stops, so all that it yields now is new.
            dict(self._turn.answers)
            goal, messages = None, ModelMessagesTypeAdapter.validate_python(self._turn.kept)
            results = await self._decided(_last_calls(messages))
        while True:
            ended: AgentRunResult[Any] | None = None
            running = self._agent.run_stream_events(
                goal, message_history=messages, deferred_tool_results=results, deps=self._deps
            )
            async with running as events:
                async for event in events:
                    if isinstance(event, AgentRunResultEvent):
                        ended = event.result
                        continue
                    for chunk in self._shown_as(event):
                        yield chunk
            if ended is None:
                raise AgentError("the agent ended without a result")
            for chunk in self._ending(ended):
                yield chunk
            if not isinstance(ended.output, DeferredToolRequests):
                return
            if ended.output.calls:
                raise AgentError("the agent wants a tool run outside, which this server cannot")
            goal, messages = None, ended.all_messages()
            yield Keep(ModelMessagesTypeAdapter.dump_python(list(messages), mode="json"))
            results = await self._decided(ended.output.approvals)

    async def _decided(self, calls: Sequence[ToolCallPart]) -> DeferredToolResults:
        """The answers of people to calls that need approval."""
        decided = DeferredToolResults()
        for part in calls:
            self._shown.add(part.tool_call_id)
            answer = await self._turn.approve(_call(part))
            decided.approvals[part.tool_call_id] = True if answer else ToolDenied(answer.refusal)
        return decided

    def _shown_as(self, event: AgentStreamEvent) -> Iterator[AgentChunk]:
        match event:
            case PartStartEvent(part=part):
                if not self._in_step:
                    self._in_step = True
                    yield Step(_STEP)
                if isinstance(part, TextPart) and part.content:
                    yield part.content
                elif isinstance(part, ThinkingPart) and part.content:
                    yield Reasoning(part.content)
            case PartDeltaEvent(delta=TextPartDelta(content_delta=said)) if said:
                yield said
            case PartDeltaEvent(delta=ThinkingPartDelta(content_delta=thought)) if thought:
                yield Reasoning(thought)
            case FunctionToolCallEvent(part=part) if part.tool_call_id not in self._shown:
                self._shown.add(part.tool_call_id)
                yield _call(part)
            case FunctionToolResultEvent(part=result):
                is_error = getattr(result, "outcome", "success") != "success"
                content = to_jsonable_python(result.content, fallback=str)
                tool = result.tool_name or "tool"
                yield ToolResult(tool, content, result.tool_call_id, is_error=is_error)
                if self._in_step:  # the model is asked again
                    self._in_step = False
                    yield Step(_STEP, "completed")
            case _:
                pass

    def _ending(self, result: AgentRunResult[Any]) -> Iterator[AgentChunk]:
        used = result.usage
        yield Usage(used.input_tokens, used.output_tokens)
        for message in result.new_messages():
            if isinstance(message, ModelResponse):
                yield from _sources(message)
        if self._in_step:
            self._in_step = False
            yield Step(_STEP, "completed")
        if not isinstance(result.output, str | DeferredToolRequests):
            yield Data("output", to_jsonable_python(result.output, fallback=str))


def _call(part: ToolCallPart) -> ToolCall:
    args = part.args_as_dict() if part.args else {}
    return ToolCall(part.tool_name, to_jsonable_python(args, fallback=str), part.tool_call_id)


def _last_calls(messages: Sequence[ModelMessage]) -> list[ToolCallPart]:
    last = next(each for each in reversed(messages) if isinstance(each, ModelResponse))
    answered = {part.tool_call_id for part in messages[-1].parts if hasattr(part, "tool_call_id")}
    if messages[-1] is last:
        answered = set()
    return [call for call in last.tool_calls if call.tool_call_id not in answered]


def _history(turn: Turn) -> list[ModelMessage]:
    messages: list[ModelMessage] = []
    for past in turn.history:
        messages.append(ModelRequest([UserPromptPart(past.goal)]))
        if past.output:
            messages.append(ModelResponse([TextPart(past.output)]))
    return messages


def _sources(message: ModelResponse) -> Iterator[Source]:
    seen: set[str] = set()
    for part in message.parts:
        for citation in getattr(part, "citations", None) or ():
            for cited in citation.sources:
                url = getattr(cited, "url", None)
                if url and url not in seen:
                    seen.add(url)
                    yield Source(url, cited.title or "")
