"""The tool loop: asks a model, runs the tools that it calls, asks again, until it answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from ....model.chunks import AgentChunk, Step
from ....model.errors import AgentError
from ...base import Turn
from ...tools.base import ToolContext
from ...tools.registry import ToolRegistry
from .calls import (
    AssistantMessage,
    CallRequest,
    Finish,
    ModelCall,
    ModelClient,
    ModelFailure,
    Reasoning,
    Sampling,
    ToolSpec,
)
from .conversation import Opening
from .counting import TokenCount
from .retrying import ask
from .settings import LlmSettings
from .tool_calls import plan, run_calls
from .vision import Sight

#: The name of every step: one call of the model, and the tools that it wanted.
STEP = "model"
#: Characters of reasoning that are worth a chunk.
_THOUGHT = 200


class ToolLoop:
    """One turn of a conversation with a model; `chunks` is to be called once."""

    def __init__(
        self,
        turn: Turn,
        client: ModelClient,
        tools: ToolRegistry,
        opening: Opening,
        settings: LlmSettings,
        sight: Sight,
        *,
        sampling: Sampling,
        show_reasoning: bool,
    ) -> None:
        self._turn = turn
        self._client = client
        self._tools = tools
        self._settings = settings
        self._sight = sight
        self._note = opening.note
        self._show_reasoning = show_reasoning
        self._calls_made = 0
        self._ids = opening.ids
        self._call = ModelCall(
            opening.model,
            opening.system,
            opening.messages,
            [ToolSpec(tool.name, tool.description, tool.parameters) for tool in tools],
            sampling,
        )

    async def chunks(self) -> AsyncGenerator[AgentChunk, None]:
        """Raises ModelFailure, and AgentError for what the model made of the turn."""
        most = self._turn.max_steps
        for number in range(1, most + 1):
            yield Step(STEP, detail=self._note if number == 1 else "")
            answer = _Answer()
            async with aclosing(self._ask(answer)) as chunks:
                async for chunk in chunks:
                    yield chunk
            finish = answer.checked_end()
            if answer.requests:
                if number == most:
                    raise AgentError(f"the model wanted more than {most} steps", "MAX_STEPS")
                async with aclosing(self._run_tools(answer)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            yield Step(STEP, "completed", finish_reason=finish.reason)
            if not answer.requests:
                return

    async def _ask(self, answer: _Answer) -> AsyncGenerator[AgentChunk, None]:
        """The text of one answer as it comes; all of it goes into `answer`."""
        count = TokenCount(self._call)
        settings = self._settings
        deltas = ask(
            self._client,
            self._call,
            self._sight,
            retries=settings.retries,
            delay=settings.retry_delay,
        )
        async with aclosing(deltas):
            async for delta in deltas:
                # First: whoever stops the turn at what follows has been told.
                usage = count.saw(delta)
                if usage is not None:
                    yield usage
                if isinstance(delta, str):
                    if answer.thoughts:
                        yield answer.thought()
                    answer.texts.append(delta)
                    yield delta
                elif not isinstance(delta, Reasoning):
                    answer.take(delta)
                elif self._show_reasoning:
                    answer.thoughts += delta.text
                    if len(answer.thoughts) >= _THOUGHT:
                        yield answer.thought()
        if answer.thoughts:
            yield answer.thought()

    async def _run_tools(self, answer: _Answer) -> AsyncGenerator[AgentChunk, None]:
        """The calls of the answer and their results; then the conversation has both."""
        planned = []
        for request in answer.requests:
            self._calls_made += 1
            call_id = f"call_{self._turn.turn}_{self._calls_made}"
            planned.append(plan(request, call_id, self._ids))
            yield planned[-1].call
        messages = {}
        running = run_calls(planned, self._tools, ToolContext.of(self._turn))
        async with aclosing(running) as results:
            async for one, result in results:
                messages[one.call.call_id] = one.message(result)
                yield result
        self._call.messages.append(answer.message([one.request for one in planned]))
        self._call.messages += [messages[one.call.call_id] for one in planned]
        images = [(one.request.tool, image) for one in planned for image in one.images]
        self._sight.show(self._call.messages, images)


class _Answer:
    """What a model said in one call."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.requests: list[CallRequest] = []
        #: Reasoning that has not been shown yet.
        self.thoughts = ""
        self._finish: Finish | None = None

    def take(self, delta: CallRequest | Finish) -> None:
        if isinstance(delta, Finish):
            self._finish = delta
        else:
            self.requests.append(delta)

    def thought(self) -> Step:
        """The reasoning that has gathered, as the progress of the step."""
        text, self.thoughts = self.thoughts, ""
        return Step(STEP, "progress", detail=text)

    def message(self, calls: Sequence[CallRequest]) -> AssistantMessage:
        """With its calls as the model is to be told of them."""
        native = None if self._finish is None else self._finish.native
        return AssistantMessage("".join(self.texts), calls, native)

    def checked_end(self) -> Finish:
        """How it ended. Raises where the turn cannot go on from there."""
        finish = self._finish
        if finish is None or finish.reason == "error":
            raise ModelFailure("unavailable", "the answer ended with an error")
        if finish.reason == "content_filter":
            said = f"the answer ended with {finish.said!r}" if finish.said else ""
            raise ModelFailure("filtered", said)
        if finish.reason == "length" and self.requests:
            raise AgentError(
                "the model reached its limit of tokens in the middle of a tool call;"
                " raise the agent's max_output_tokens"
            )
        return finish
