"""The engine `llm`: agents on language models."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import structlog

from ....model.chunks import AgentChunk
from ....model.errors import AgentError, InvalidRequest
from ...base import Turn
from ...tools.toolbox import Toolbox
from .calls import ModelFailure, Sampling
from .conversation import open_conversation
from .failures import agent_error, check_tool_count
from .loop import ToolLoop
from .models import Models, ModelSource
from .names import ModelName
from .settings import EngineWorkers, LlmSettings
from .vision import Sight
from .workers.pool import ModelWorkers

log_ = structlog.get_logger("resonantgenesis.llm")


@dataclass(frozen=True, slots=True)
class LlmOptions:
    """What an agent's defaults say; `show_reasoning`: its steps tell what the model thinks."""

    model: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    show_reasoning: bool = False

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> LlmOptions:
        """From values that were checked where they came in."""
        sampling = Sampling(
            settings.get("temperature"),
            settings.get("max_output_tokens"),
            settings.get("reasoning_effort"),
        )
        return cls(settings.get("model"), sampling, bool(settings.get("show_reasoning")))


class LlmEngine:
    """Makes agents that ask one source of models; `close` ends its connections."""

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

    Its chunks: a step per call of the model, its text as it comes, the calls of tools and their
    results, usage. A tool that fails is told to the model. Never more steps than `max_steps`.
    `blind`: see `Sight`.
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
        check_tool_count(model, len(tools))
        loop = ToolLoop(
            turn,
            client,
            tools,
            open_conversation(turn, model.name, settings.history_chars, with_tools=len(tools) > 0),
            settings,
            Sight(model, settings.vision, self._blind),
            sampling=self._options.sampling,
            show_reasoning=self._options.show_reasoning,
        )
        try:
            async with aclosing(loop.chunks()) as chunks:
                async for chunk in chunks:
                    yield chunk
        except ModelFailure as failure:
            _report(failure, model, turn)
            raise agent_error(
                failure, model, history_chars=settings.history_chars, tools=len(tools)
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
