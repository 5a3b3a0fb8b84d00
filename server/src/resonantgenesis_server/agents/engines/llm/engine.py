"""The engine `llm`: agents on language models."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import structlog

from ....model.chunks import AgentChunk
from ....model.errors import AgentError, InvalidRequest
from ...base import Turn
from ...tools.base import ToolRegistry
from ...tools.toolbox import Toolbox
from .calls import FailureKind, ModelFailure, Sampling
from .conversation import open_conversation
from .loop import ShowReasoning, ToolLoop
from .models import Models, ModelSource
from .settings import EngineWorkers, LlmSettings, ModelName
from .vision import Sight
from .workers.pool import ModelWorkers

log_ = structlog.get_logger("resonantgenesis.llm")

#: Seconds to wait where a provider limits the rate and does not say for how long.
_RATE_PAUSE = 5.0
#: What cannot be mended by trying again.
_WORDS: Mapping[FailureKind, str] = {
    "key": "{provider} refused the server's key: check {setting}",
    "quota": "the server's account at {provider} has no credit or quota left",
    "context": "the conversation is too long for {model}: start a new session, give it less"
    " context, or lower llm.history_chars (now {history})",
    "model": "{provider} has no model {name!r}{pull}",
    "tools": "{model} cannot call tools: give its agent none, `tools: []` (chat: --no-tools)",
    "refused": "{provider} refused the request; the server's log says why",
    "filtered": "the content filter of {provider} stopped the answer",
    "unreadable": "the answer of {provider} cannot be read; the server's log says why",
}
#: Stated by the providers themselves: "a max of 128 functions are supported" (OpenAI, Groq and
#: DeepSeek, chat completions, `tools`), "at most 512 function declarations" (Gemini, the error).
MAX_TOOLS: Mapping[str, int] = {
    "openai": 128,
    "openai-chat": 128,
    "openai-responses": 128,
    "azure": 128,
    "groq": 128,
    "deepseek": 128,
    "google": 512,
    "google-cloud": 512,
}
_STATED = re.compile(
    r"(?:maximum length|more than|at most|max(?:imum)? of|up to|limit of) (\d{1,6})"
)


@dataclass(frozen=True, slots=True)
class LlmOptions:
    """The options in an agent's defaults."""

    model: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    show_reasoning: ShowReasoning = False

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> LlmOptions:
        """From values that were checked where they came in."""
        sampling = Sampling(
            settings.get("temperature"),
            settings.get("max_output_tokens"),
            settings.get("reasoning_effort"),
        )
        return cls(settings.get("model"), sampling, settings.get("show_reasoning") or False)


class LlmEngine:
    """Makes agents on one source of models; `close` ends its connections."""

    def __init__(self, models: ModelSource, toolbox: Toolbox) -> None:
        self._models = models
        self._toolbox = toolbox
        self._blind: set[str] = set()

    async def start(self) -> None:
        await self._models.start()

    def build(self, settings: Mapping[str, Any]) -> LlmAgent:
        """An agent with the settings `model`, `temperature`, `max_output_tokens`,
        `reasoning_effort`, `show_reasoning`, all optional: a turn may name the model too."""
        return LlmAgent(self._models, self._toolbox, LlmOptions.of(settings), self._blind)

    async def check(self, settings: Mapping[str, Any]) -> None:
        """Raises InvalidRequest for a model that cannot be asked as the server is set up."""
        try:
            await self._models.find(settings.get("model"))
        except AgentError as error:
            raise InvalidRequest.field("model", error.message.removeprefix("model ")) from error

    async def close(self) -> None:
        await self._models.close()


class LlmAgent:
    """An agent on a language model, as `Agent` promises.

    Its chunks are a step per call of the model, the text as it comes, the calls of tools and their
    results, and usage. The model learns of a tool that fails. There are never more steps than
    `max_steps`. `blind`: see `Sight`.
    """

    def __init__(
        self, models: ModelSource, toolbox: Toolbox, options: LlmOptions, blind: set[str]
    ) -> None:
        self._models = models
        self._toolbox = toolbox
        self._options = options
        self._blind = blind

    async def run(self, turn: Turn) -> AsyncGenerator[AgentChunk, None]:
        settings = self._models.settings
        model, client = await self._models.find(turn.model or self._options.model)
        tools = await self._toolbox.for_turn(turn.tools)
        check_client_tools(turn, tools)
        count = len(tools) + len(turn.client_tools)
        check_tool_count(model, count)
        loop = ToolLoop(
            turn,
            client,
            tools,
            open_conversation(
                turn,
                model.name,
                settings.history_chars,
                with_tools=count > 0,
                result_chars=settings.history_result_chars,
            ),
            settings,
            Sight(model, settings.vision, self._blind),
            sampling=self._options.sampling,
            show_reasoning=self._options.show_reasoning,
            provider=model.provider,
        )
        try:
            async with aclosing(loop.chunks()) as chunks:
                async for chunk in chunks:
                    yield chunk
        except ModelFailure as failure:
            _report(failure, model, turn)
            raise agent_error(
                failure, model, history_chars=settings.history_chars, tools=count
            ) from failure


def make_engine(
    settings: LlmSettings | None, toolbox: Toolbox, workers: EngineWorkers | None
) -> LlmEngine:
    """The engine whose models are asked from here, or from workers if there shall be any."""
    settings = settings or LlmSettings()
    if workers is None or not workers.count:
        return LlmEngine(Models(settings), toolbox)
    source = ModelWorkers(
        settings, workers.count, log_level=workers.log_level, log_format=workers.log_format
    )
    return LlmEngine(source, toolbox)


def _report(failure: ModelFailure, model: ModelName, turn: Turn) -> None:
    """The provider's own words are for the server's log."""
    log_.warning(
        "model call failed",
        model=str(model),
        kind=failure.kind,
        said=failure.said,
        session=turn.session_id,
        turn=turn.turn,
    )


def agent_error(
    failure: ModelFailure, model: ModelName, *, history_chars: int, tools: int
) -> AgentError:
    """In our words: a provider's may name accounts and addresses, so they go to the log only."""
    provider, is_ollama = model.provider, model.provider == "ollama"
    if failure.kind == "rate_limited":
        seconds = _RATE_PAUSE if failure.retry_after is None else failure.retry_after
        words = f"{provider} limits the rate of requests; try again in {math.ceil(seconds)} s"
        return AgentError(words, "RATE_LIMITED", retry_after=seconds)
    if failure.kind == "crashed":
        words = "the process that asked the model ended; the server's log says how"
        return AgentError(words, retryable=True)
    if failure.kind == "unavailable":
        hint = " (is it running?)" if is_ollama else ""
        words = f"{provider} does not answer, or broke off its answer{hint}"
        return AgentError(words, "MODEL_UNAVAILABLE", retry_after=failure.retry_after)
    if failure.kind == "tool_count":
        return AgentError(too_many_tools(model, tools, stated_limit(failure.said)))
    return AgentError(
        _WORDS[failure.kind].format(
            provider=provider,
            name=model.name,
            model=model,
            setting=model.key_setting,
            history=history_chars,
            pull=f"; `ollama pull {model.name}` gets it" if is_ollama else "",
        )
    )


def check_client_tools(turn: Turn, tools: ToolRegistry) -> None:
    """Raises AgentError where a tool of the client has the name of one of the server."""
    for tool in turn.client_tools:
        if tool.name in tools:
            raise AgentError(f"client_tools: the server has a tool {tool.name!r} of its own")


def check_tool_count(model: ModelName, count: int) -> None:
    """Raises AgentError for more tools than the model's provider is known to take."""
    limit = MAX_TOOLS.get(model.provider)
    if limit is not None and count > limit:
        raise AgentError(too_many_tools(model, count, limit))


def stated_limit(said: str) -> int | None:
    """The number of tools that a provider's refusal says it takes."""
    match = _STATED.search(said.lower())
    return None if match is None else int(match.group(1))


def too_many_tools(model: ModelName, count: int, limit: int | None) -> str:
    """The error text for clients."""
    takes = "fewer" if limit is None else f"at most {limit}"
    return (
        f"the turn has {count} tools, {model.provider} takes {takes}:"
        " name fewer in the agent's `tools`"
    )
