"""The models that a server can ask: finds the client for a name, and keeps it."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import ipaddress
from types import ModuleType
from typing import Protocol
from urllib.parse import urlsplit

import structlog

from ....model.errors import AgentError
from ....model.extras import how_to_install
from .calls import ModelClient
from .settings import BadModelName, LlmSettings, ModelName, parse_model

_CLOSE_SECONDS = 5.0
log_ = structlog.get_logger("resonantgenesis.llm")
#: Said while no process is there that could ask models.
NO_MODEL = "models cannot be asked right now"
_EXTRA = f"install it: {how_to_install('llm')}"


class ModelSource(Protocol):
    """Where models are found and asked."""

    @property
    def settings(self) -> LlmSettings: ...

    async def start(self) -> None:
        """To be called once, before anything else."""
        ...

    async def find(self, text: str | None) -> tuple[ModelName, ModelClient]:
        """The named model and its client.

        Raises AgentError, whose message says what to set or to install.
        """
        ...

    async def close(self) -> None:
        """End every connection to providers."""
        ...


class Models:
    """Asks models from this process.

    The libraries are imported when they are first wanted, and in a thread: that takes seconds.
    """

    def __init__(self, settings: LlmSettings) -> None:
        self.settings = settings
        self._clients: dict[str, ModelClient] = {}
        self._making = asyncio.Lock()

    async def start(self) -> None:
        """Nothing to do: clients are made when they are first wanted."""

    async def find(self, text: str | None) -> tuple[ModelName, ModelClient]:
        """Find the client, or make it."""
        model = named(text, self.settings)
        client = self._clients.get(model.provider)
        if client is None:
            async with self._making:
                client = self._clients.get(model.provider)
                if client is None:
                    client = self._clients[model.provider] = await self._make(model)
        return model, client

    async def close(self) -> None:
        async with self._making:
            clients, self._clients = list(self._clients.values()), {}
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                for client in clients:
                    await client.close()
        except TimeoutError:
            log_.warning("connections to providers did not close in time")

    async def _make(self, model: ModelName) -> ModelClient:
        url, key = self.settings.chat_url(model.provider), self.settings.key(model)
        # Said before a key is asked for: without it no key would help.
        _check_installed("pydantic_ai" if url is None else "aiohttp")
        if url is not None:
            if key is None and self.settings.needs_key(model.provider):
                raise AgentError(f"no key for {model.provider}: set {model.key_setting}")
            return await self._make_chat(model.provider, url, key)
        return await self._make_other(model, key)

    async def _make_chat(self, provider: str, url: str, key: str | None) -> ModelClient:
        module = await _import("openai.client")
        client: ModelClient = module.OpenAIChatClient(
            url,
            key=key,
            idle_seconds=self.settings.idle_seconds,
            # OpenAI's own reasoning models know only the new name, other servers only the old one.
            tokens_field=(
                "max_completion_tokens" if provider.startswith("openai") else "max_tokens"
            ),
            trust_env=not _is_loopback(url),
            think=self.settings.thinks_in_text(provider),
            headers=self.settings.chat_headers(provider),
        )
        return client

    async def _make_other(self, model: ModelName, key: str | None) -> ModelClient:
        module = await _import("pydantic_client")
        try:
            client = await asyncio.to_thread(
                module.PydanticClient,
                model.provider,
                key=key,
                base_url=self.settings.base_urls.get(model.provider),
                idle_seconds=self.settings.idle_seconds,
            )
        except module.NoSuchProvider as error:
            raise AgentError(
                f"there is no provider {model.provider!r}; llm.base_urls.{model.provider} would"
                " make it an OpenAI-compatible server"
            ) from error
        except module.NotSetUp as error:
            raise AgentError(_not_set_up(model, error.variable)) from error
        await client.open()
        made: ModelClient = client
        return made


def named(text: str | None, settings: LlmSettings) -> ModelName:
    """Raises AgentError for a malformed name, and for a model that the settings do not allow."""
    try:
        model = parse_model(text)
    except BadModelName as error:
        raise AgentError(f"model {error}") from error
    if not settings.allows(model):
        allowed = ", ".join(settings.models)
        raise AgentError(f"model {str(model)[:128]!r} is not one of this server's: {allowed}")
    return model


def _not_set_up(model: ModelName, variable: str | None) -> str:
    if variable is not None:
        return (
            f"{model.provider} is not set up: set {variable} or llm.api_keys.{model.provider}"
            " where the server runs"
        )
    return (
        f"{model.provider} needs a library:"
        f" pip install 'pydantic-ai-slim[{model.provider}]' where the server runs"
    )


def _check_installed(library: str) -> None:
    if importlib.util.find_spec(library) is None:
        raise AgentError(f"the extra llm is not installed where the server runs; {_EXTRA}")


async def _import(name: str) -> ModuleType:
    return await asyncio.to_thread(importlib.import_module, f".{name}", __package__)


def _is_loopback(url: str) -> bool:
    """For which no proxy of the environment is asked."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
