"""Models of every other provider, through pydantic-ai's direct requests.

Only its models are used and not its agents: the tool loop is ours for every provider.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from typing import Any

from pydantic_ai import exceptions as errors
from pydantic_ai.direct import model_request_stream
from pydantic_ai.models import Model, infer_model
from pydantic_ai.providers import Provider, infer_provider, infer_provider_class
from pydantic_ai.settings import ModelSettings

from .calls import Delta, ModelCall, ModelFailure
from .pydantic_messages import (
    delta_of,
    ending_of,
    failure_of,
    messages_of,
    parameters_of,
)
from .vision import has_images

#: Models kept made, past which all are made anew.
_KEPT = 100
_WORDS = 1_000
_VARIABLE = re.compile(r"`([A-Z][A-Z0-9_]+)`")


class NoSuchProvider(Exception):
    """pydantic-ai knows no provider of this name."""


class NotSetUp(Exception):
    """The provider lacks something; `variable` is the environment variable to set, if known."""

    def __init__(self, said: str, variable: str | None) -> None:
        super().__init__(said)
        self.variable = variable


class PydanticClient:
    """Models of one provider of pydantic-ai; `close` ends its connections.

    Making one is slow the first time: it imports the provider's library. Raises NoSuchProvider,
    and NotSetUp for a library or a key that is missing.
    """

    def __init__(
        self, provider: str, *, key: str | None, base_url: str | None, idle_seconds: float
    ) -> None:
        self._name = provider
        self._key = key
        self._idle = idle_seconds
        self._provider = _make(provider, key, base_url)
        self._models: dict[str, Model] = {}

    async def open(self) -> None:
        """To be called once, in the event loop that the calls will be made in."""
        await self._provider.__aenter__()

    async def close(self) -> None:
        await self._provider.__aexit__(None, None, None)

    async def stream(self, call: ModelCall) -> AsyncGenerator[Delta, None]:
        """As `ModelClient.stream` promises."""
        try:
            request = model_request_stream(
                self._model(call.model),
                messages_of(call.messages),
                model_settings=self._settings(call),
                model_request_parameters=parameters_of(call),
            )
            async with request as answer:
                async for event in answer:
                    delta = delta_of(event)
                    if delta is not None:
                        yield delta
            response = answer.get()
        except errors.AgentRunError as error:
            raise failure_of(error).without(self._key) from error
        except errors.UserError as error:
            raise ModelFailure("refused", error.message[:_WORDS]) from error
        except (NotImplementedError, RuntimeError) as error:
            if not has_images(call):
                raise
            # The library's word for a model that it shows no images.
            raise ModelFailure("refused", f"images: {error}"[:_WORDS]) from error
        for delta in ending_of(response):
            yield delta

    def _model(self, name: str) -> Model:
        known = self._models.get(name)
        if known is None:
            if len(self._models) >= _KEPT:
                self._models.clear()
            known = infer_model(f"{self._name}:{name}", lambda _: self._provider)
            self._models[name] = known
        return known

    def _settings(self, call: ModelCall) -> ModelSettings:
        settings = ModelSettings(max_retries=0, timeout=self._idle)
        sampling = call.sampling
        if sampling.temperature is not None:
            settings["temperature"] = sampling.temperature
        if sampling.max_output_tokens is not None:
            settings["max_tokens"] = sampling.max_output_tokens
        if sampling.reasoning_effort is not None:
            settings["thinking"] = sampling.reasoning_effort
        return settings


def _make(name: str, key: str | None, base_url: str | None) -> Provider[Any]:
    try:
        # How they are made differs; most take a key and an address, by these names.
        found: Callable[..., Provider[Any]] = infer_provider_class(name)
    except ValueError as error:
        raise NoSuchProvider(name) from error
    except ImportError as error:
        raise NotSetUp(str(error), None) from error
    given = {"api_key": key, "base_url": base_url}
    settings = {setting: value for setting, value in given.items() if value is not None}
    try:
        return found(**settings) if settings else infer_provider(name)
    except (errors.UserError, ImportError, TypeError) as error:
        variable = _VARIABLE.search(str(error))
        raise NotSetUp(str(error)[:_WORDS], variable and variable.group(1)) from error
