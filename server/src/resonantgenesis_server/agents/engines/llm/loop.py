"""The tool loop: asks a model, runs the tools that it calls, asks again, until it answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Literal, TypeAlias

import structlog

from .... import metrics
from ....background import Backoff
from ....codec.json import dumps
from ....model.chunks import AgentChunk, Keep, Reasoning, Source, Step, ToolResult, Usage
from ....model.errors import AgentError
from ....tracing import spans
from ...base import Turn
from ...tools.base import ToolContext, ToolRegistry
from .calls import (
    AssistantMessage,
    CallRequest,
    Delta,
    Finish,
    ModelCall,
    ModelClient,
    ModelFailure,
    Sampling,
    ToolMessage,
    ToolSpec,
    UserMessage,
)
from .conversation import Conversation, Planned, plan
from .pause import Kept, KeptStep, ask_for, pending
from .settings import LlmSettings
from .traced import traced
from .vision import Sight

#: Whether reasoning is shown: as progress of the steps (true), or as chunks of its own.
ShowReasoning: TypeAlias = bool | Literal["chunks"]
#: The name of every step: one call of the model, and the tools that it wanted.
STEP = "model"
#: The parameters of a client's tool without a schema.
_NO_ARGS = {"type": "object", "properties": {}}
#: Characters of reasoning that are worth a chunk.
_THOUGHT = 200

#: Characters of a token, about: the estimate until the provider reports its count.
_CHARS = 4
#: What an image takes, in characters.
_IMAGE = 1_000 * _CHARS
#: Tokens of output between two reports of usage.
_EVERY = 50
#: Seconds of the longest wait. If a provider asks for more, the client may come back by itself.
_LONGEST = 15.0
log_ = structlog.get_logger("resonantgenesis.llm")
#: Calls of one turn that run side by side.
_AT_ONCE = 8
_STOP_SECONDS = 5.0


class ToolLoop:
    """One turn of a conversation with a model; call `chunks` once."""

    def __init__(
        self,
        turn: Turn,
        client: ModelClient,
        tools: ToolRegistry,
        opening: Conversation,
        settings: LlmSettings,
        sight: Sight,
        *,
        sampling: Sampling,
        show_reasoning: ShowReasoning,
        provider: str = "",
    ) -> None:
        """`provider` is the name that the span of a call has."""
        self._turn = turn
        self._provider = provider
        self._client = client
        self._tools = tools
        self._settings = settings
        self._sight = sight
        self._note = opening.note
        self._show_reasoning = show_reasoning
        self._ids = opening.ids
        self._client_tools = {tool.name for tool in turn.client_tools}
        self._kept = Kept.of(turn)
        #: The turn waits for answers once the loop has returned.
        self._has_asked = False
        self._call = ModelCall(
            opening.model,
            opening.system,
            opening.messages,
            [
                *(ToolSpec(tool.name, tool.description, tool.parameters) for tool in tools),
                *(ToolSpec(t.name, t.description, t.schema or _NO_ARGS) for t in turn.client_tools),
            ],
            sampling,
        )

    async def chunks(self) -> AsyncGenerator[AgentChunk, None]:
        """Run the turn. Raises ModelFailure, and AgentError if the answer cannot be used."""
        max_steps = self._turn.max_steps
        if self._kept.step:
            async with aclosing(self._go_on()) as chunks:
                async for chunk in chunks:
                    yield chunk
        for number in range(self._kept.step + 1, max_steps + 1):
            yield Step(STEP, detail=self._note if number == 1 else "")
            await self._take_messages()
            answer = _Answer()
            async with aclosing(self._ask(answer)) as chunks:
                async for chunk in chunks:
                    yield chunk
            finish = answer.checked_end()
            if answer.requests:
                if number == max_steps:
                    words = f"the model wanted more than {max_steps} steps; raise max_steps"
                    raise AgentError(words, "MAX_STEPS")
                self._kept.step, self._kept.finish = number, finish.reason
                async with aclosing(self._run_tools(answer)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                if self._has_asked:
                    return
            yield Step(STEP, "completed", finish_reason=finish.reason)
            if not answer.requests and not await self._goes_on(answer, number):
                return

    async def _take_messages(self) -> bool:
        """Add the user's messages since the last call to the conversation. Returns whether there
        are any."""
        messages = await self._turn.inbox.take()
        self._call.messages += [UserMessage(each.content) for each in messages]
        return bool(messages)

    async def _goes_on(self, answer: _Answer, number: int) -> bool:
        """Whether the user has said something during the last answer, and a step is left."""
        if number == self._turn.max_steps:
            return False
        asked = len(self._call.messages)
        if not await self._take_messages():
            return False
        said = answer.message([])
        if not said.text.strip():
            said = replace(said, text="(no answer)")  # some providers refuse an empty one
        self._call.messages.insert(asked, said)
        return True

    async def _ask(self, answer: _Answer) -> AsyncGenerator[AgentChunk, None]:
        """Yield the text of one answer as it comes; collect everything in `answer`."""
        count = TokenCount(self._call)
        settings = self._settings
        deltas = ask(
            self._client,
            self._call,
            self._sight,
            retries=settings.retries,
            delay=settings.retry_delay,
        )
        if spans.are_on():
            deltas = traced(deltas, self._call, self._provider, self._turn)
        async with aclosing(deltas):
            async for delta in deltas:
                # Usage comes first: a turn that is stopped at the next chunk has reported it.
                usage = count.observe(delta)
                if usage is not None:
                    yield usage
                if isinstance(delta, str):
                    if answer.thoughts:
                        yield answer.thought()
                    answer.texts.append(delta)
                    yield delta
                elif isinstance(delta, Source):
                    yield delta
                elif not isinstance(delta, Reasoning):
                    answer.take(delta)
                elif self._show_reasoning == "chunks":
                    yield delta
                elif self._show_reasoning:
                    answer.thoughts += delta.content
                    if len(answer.thoughts) >= _THOUGHT:
                        yield answer.thought()
        if answer.thoughts:
            yield answer.thought()

    async def _run_tools(self, answer: _Answer) -> AsyncGenerator[AgentChunk, None]:
        """Yield the calls of the answer and their results, and add both to the conversation.

        Calls that somebody has to answer first are asked for, once the others have their results.
        """
        planned = []
        for request in answer.requests:
            self._kept.calls += 1
            call_id = f"call_{self._turn.turn}_{self._kept.calls}"
            planned.append(plan(request, call_id, self._ids))
            yield planned[-1].call
        message = answer.message([one.request for one in planned])
        ids = {one.call.call_id: one.request.call_id for one in planned}
        self._kept.steps.append(KeptStep(message.native, ids))
        asks = {
            one.call.call_id: ask
            for one in planned
            if (ask := ask_for(one, self._tools, self._client_tools)) is not None
        }
        self._call.messages.append(message)
        runs = [one for one in planned if one.call.call_id not in asks]
        async with aclosing(
            self._run(runs, [one.request.call_id for one in planned], {})
        ) as chunks:
            async for chunk in chunks:
                yield chunk
        for ask in asks.values():
            yield ask
        if asks:
            yield Keep(self._kept.value())
            self._has_asked = True

    async def _go_on(self) -> AsyncGenerator[AgentChunk, None]:
        """Bring the conversation up to the step that stopped, and end that step."""
        turn, messages = self._turn, self._call.messages
        messages += self._kept.messages(turn.so_far, self._ids)
        stopped = next(step for step in reversed(turn.so_far) if step.calls)
        at = max(n for n, each in enumerate(messages) if isinstance(each, AssistantMessage))
        asking = messages[at]
        if not isinstance(asking, AssistantMessage):
            raise TypeError("the last message of a model is none")
        known = {each.call_id: each for each in messages[at + 1 :] if isinstance(each, ToolMessage)}
        del messages[at + 1 :]
        left = pending(stopped, asking.calls, turn.answers, self._client_tools)
        for one, result in left.given:
            known[one.request.call_id] = one.message(result)
            yield result
        order = [request.call_id for request in asking.calls]
        async with aclosing(self._run(left.runs, order, known)) as chunks:
            async for chunk in chunks:
                yield chunk
        yield Step(STEP, "completed", finish_reason=self._kept.finish)

    async def _run(
        self, runs: Sequence[Planned], order: Sequence[str], known: dict[str, ToolMessage]
    ) -> AsyncGenerator[AgentChunk, None]:
        """Yield the results of these calls. Their messages, and those that are known, join the
        conversation in this order of the model's ids."""
        running = run_calls(runs, self._tools, ToolContext.of(self._turn))
        async with aclosing(running) as results:
            async for one, result in results:
                known[one.request.call_id] = one.message(result)
                yield result
        self._call.messages += [known[call_id] for call_id in order if call_id in known]
        images = [(one.request.tool, image) for one in runs for image in one.images]
        self._sight.show(self._call.messages, images)


class _Answer:
    """The answer of one call of the model."""

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
        """The message for the conversation, with calls that are well-formed."""
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


class TokenCount:
    """Estimates tokens until the Finish, then reports the difference to the provider's count."""

    def __init__(self, call: ModelCall) -> None:
        self._input = sum(map(_size, call.messages)) + len(call.system)
        self._input += sum(len(dumps(tool.parameters)) for tool in call.tools)
        self._input //= _CHARS
        self._told_input = 0
        self._told_output = 0
        self._chars = 0

    def observe(self, delta: Delta) -> Usage | None:
        """The usage to report after this delta, if any."""
        if isinstance(delta, Finish):
            return self._tell(
                self._input if delta.input_tokens is None else delta.input_tokens,
                self._estimate() if delta.output_tokens is None else delta.output_tokens,
            )
        self._chars += len(delta if isinstance(delta, str) else _text(delta))
        output = self._estimate()
        if self._told_input and output - self._told_output < _EVERY:
            return None
        return self._tell(self._input, output)

    def _estimate(self) -> int:
        return -(-self._chars // _CHARS)

    def _tell(self, read: int, written: int) -> Usage | None:
        usage = Usage(read - self._told_input, written - self._told_output)
        self._told_input, self._told_output = read, written
        return usage if usage.input_tokens or usage.output_tokens else None


def _text(delta: Delta) -> str:
    if isinstance(delta, CallRequest):
        return delta.arguments
    return getattr(delta, "content", "")


def _size(message: UserMessage | AssistantMessage | ToolMessage) -> int:
    if isinstance(message, ToolMessage):
        return len(message.result)
    if isinstance(message, UserMessage):
        return len(message.text) + _IMAGE * len(message.images)
    return len(message.text) + sum(len(call.arguments) for call in message.calls)


async def ask(
    client: ModelClient, call: ModelCall, sight: Sight, *, retries: int, delay: float
) -> AsyncGenerator[Delta, None]:
    """Stream as `ModelClient.stream` does; try what is `unavailable` up to `retries` times more.

    A call is never repeated once a delta has come, since the delta may have been shown. The first
    wait is `delay` seconds, with back-off and jitter, after the time that the provider asks for. A
    call that is refused for its images is made once more without them.
    """
    attempt = 0
    backoff = Backoff(delay, max(delay, _LONGEST))
    while True:
        has_begun = False
        try:
            async with aclosing(client.stream(call)) as deltas:
                async for delta in deltas:
                    if not has_begun:
                        has_begun = True
                        sight.answered()
                    yield delta
            return
        except ModelFailure as failure:
            metrics.model_failed(failure.kind)
            if not has_begun and sight.gives_up(call, failure):
                log_.info("the model is asked without images", model=call.model, said=failure.said)
                continue
            asked = failure.retry_after or 0.0
            is_final = failure.kind != "unavailable" or attempt >= retries or asked > _LONGEST
            if has_begun or is_final:
                raise
            wait = asked + backoff.failed()
            log_.info("model call is tried again", model=call.model, said=failure.said, wait=wait)
        await asyncio.sleep(wait)
        attempt += 1


async def run_calls(
    planned: Sequence[Planned], tools: ToolRegistry, context: ToolContext
) -> AsyncGenerator[tuple[Planned, ToolResult], None]:
    """Yield each call with its result, in the order of completion; closing cancels the rest.

    Raises nothing of its own: a call that fails has a result with `is_error`.
    """
    slots = asyncio.Semaphore(_AT_ONCE)

    async def run(one: Planned) -> tuple[Planned, ToolResult]:
        if one.problem:
            call = one.call
            return one, ToolResult(call.tool, one.problem, call.call_id, is_error=True)
        async with slots:
            shown = replace(context, show_image=one.images.append)
            return one, await tools.run(one.call, shown)

    running = {asyncio.create_task(run(one), name=f"tool {one.call.tool}") for one in planned}
    try:
        while running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    finally:
        for task in running:
            task.cancel()
        if running:
            _, deaf = await asyncio.wait(running, timeout=_STOP_SECONDS)
            for task in deaf:
                log_.error("a tool ignores its cancellation", task=task.get_name())
