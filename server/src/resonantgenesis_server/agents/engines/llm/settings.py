"""The settings of models, and the names of models: `openai:gpt-5-mini`, `ollama:llama3.2`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from ...tools.settings import listed

#: What a provider may be called.
PROVIDER = re.compile(r"[a-z0-9][a-z0-9_/-]{0,63}")


class BadModelName(ValueError):
    """The text is no name of a model. The message says why."""


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model and its provider."""

    provider: str
    name: str

    def __str__(self) -> str:
        return f"{self.provider}:{self.name}"

    @property
    def key_variable(self) -> str:
        """The environment variable in which this provider's key is customarily kept."""
        # openai-chat and openai-responses are other protocols of one account.
        account = "openai" if self.provider.startswith("openai-") else self.provider
        return re.sub(r"[^A-Z0-9]", "_", account.upper()) + "_API_KEY"

    @property
    def key_setting(self) -> str:
        """Where a person sets the key."""
        return f"{self.key_variable} or llm.api_keys.{self.provider} where the server runs"


def parse_model(text: str | None) -> ModelName:
    """`PROVIDER:MODEL`. Raises BadModelName."""
    example = "e.g. openai:gpt-5-mini or ollama:llama3.2"
    if not text:
        raise BadModelName(f"is missing; {example}")
    provider, colon, name = text.partition(":")
    if not colon or not name.strip() or PROVIDER.fullmatch(provider) is None:
        raise BadModelName(f"{text[:64]!r} is not PROVIDER:MODEL, {example}")
    return ModelName(provider, name.strip())


#: Servers that speak OpenAI's chat completions, at their usual addresses if they have some, and the
#: variables, if any, by which the providers' own libraries move those. Of the providers that
#: pydantic-ai knows as well, these need nothing in a request that only it would send.
_CHAT_SERVERS: Mapping[str, tuple[str, str]] = {
    "openai": ("https://api.openai.com/v1", "OPENAI_BASE_URL"),
    "openai-chat": ("https://api.openai.com/v1", "OPENAI_BASE_URL"),
    "ollama": ("http://127.0.0.1:11434/v1", "OLLAMA_BASE_URL"),
    "deepseek": ("https://api.deepseek.com", ""),
    "fireworks": ("https://api.fireworks.ai/inference/v1", ""),
    "groq": ("https://api.groq.com/openai/v1", "GROQ_BASE_URL"),
    "moonshotai": ("https://api.moonshot.ai/v1", "MOONSHOTAI_BASE_URL"),
    "nebius": ("https://api.studio.nebius.com/v1", ""),
    "openrouter": ("https://openrouter.ai/api/v1", ""),
    "ovhcloud": ("https://oai.endpoints.kepler.ai.cloud.ovh.net/v1", ""),
    "sambanova": ("https://api.sambanova.ai/v1", "SAMBANOVA_BASE_URL"),
    "together": ("https://api.together.xyz/v1", ""),
    "vllm": ("", "VLLM_BASE_URL"),
}
#: Headers by which a provider wants to know whose requests they are, and their variables.
_CHAT_HEADERS: Mapping[str, Mapping[str, str]] = {
    "openrouter": {"HTTP-Referer": "OPENROUTER_APP_URL", "X-Title": "OPENROUTER_APP_TITLE"},
}
#: The path of Groq's chat completions; its variable names the part before.
_GROQ_PATH = "/openai/v1"
#: Names of servers whose models are known to write `<think>…</think>` into their texts.
_THINK_TAGS = frozenset(
    {"ollama", "lmstudio", "lm-studio", "lm_studio", "llamacpp", "llama-cpp", "llama_cpp", "vllm"}
    | {"sglang", "tgi", "localai", "minimax", "perplexity", "together", "fireworks", "deepseek"}
    | {"groq", "moonshotai", "nebius", "openrouter", "ovhcloud", "sambanova"}
)
#: Providers with a protocol of their own: an address for them is no server of chat completions.
_OWN_PROTOCOL = frozenset({"anthropic", "google", "bedrock", "cohere", "huggingface", "xai"})
#: Models that are known to see images, by any provider.
_SEEING = (
    *("*:*gpt-4o*", "*:*gpt-4.1*", "*:*gpt-5*", "openai*:o[13-9]*", "*:*claude-*", "*:*gemini-*"),
    *("*:*gemma3*", "*:*gemma-3*", "*:*llama4*", "*:*llama-4*", "*:*pixtral*", "*:*llava*"),
    *("*:*-vl*", "*:*vl:*", "*:*vision*", "*:grok-4*"),
)
#: A key travels in a header, so: printable ASCII without spaces.
_KEY = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class EngineWorkers:
    """How many processes ask models for the server, none for 0, and how they log."""

    count: int = 0
    log_level: str = "info"
    log_format: str = "text"


class LlmSettings(BaseModel):
    """Agents on language models. Provider settings that are missing here come from the customary
    environment variables."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    api_keys: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="Keys by the provider's name; else from its own variable: OPENAI_API_KEY,"
        " ANTHROPIC_API_KEY, …",
    )
    base_urls: dict[str, str] = Field(
        default_factory=dict,
        description="Addresses by the provider's name; a new name makes an OpenAI-compatible"
        " server a provider: `local` → `http://127.0.0.1:8000/v1`.",
    )
    think_tags: dict[str, bool] = Field(
        default_factory=dict,
        description="By the provider's name: true if `<think>…</think>` in texts of its models is"
        " reasoning. On for servers that are known for it, such as `ollama`.",
    )
    models: Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed)] = Field(
        default=(),
        description="Models that agents and requests may name, with `*` for any characters:"
        " `openai:gpt-5*`, `ollama:*`; none: every model.",
    )
    vision: Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed)] = Field(
        default=_SEEING,
        description="Models that see the images of tools, with `*` for any characters; other"
        " models get a note.",
    )
    history_chars: int = Field(
        default=60_000,
        ge=0,
        le=200_000,
        description="Characters of earlier turns that a model gets, with their calls of tools; the"
        " oldest turns are left out.",
    )
    history_result_chars: int = Field(
        default=4_000,
        ge=0,
        le=4_000,
        description="Characters of each result of a tool that a model gets of earlier turns; 0:"
        " earlier turns come without their calls of tools.",
    )
    idle_seconds: float = Field(
        default=120.0,
        gt=0,
        le=3600,
        description="Seconds that a provider may be silent, before and within an answer.",
    )
    retries: int = Field(
        default=2,
        ge=0,
        le=10,
        description="Repeats of a call whose provider is overloaded or out of reach; none once the"
        " answer has begun.",
    )
    retry_delay: float = Field(
        default=0.5,
        ge=0,
        le=60,
        description="About so many seconds pass before the first repeat; each further wait is twice"
        " as long.",
    )

    @field_validator("api_keys")
    @classmethod
    def _check_keys(cls, keys: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, key in keys.items():
            _check_name(name)
            if _KEY.fullmatch(key.get_secret_value()) is None:
                raise ValueError(f"{name}: a key is printable characters without spaces")
        return keys

    @field_validator("think_tags")
    @classmethod
    def _check_think_tags(cls, tags: dict[str, bool]) -> dict[str, bool]:
        for name in tags:
            _check_name(name)
        return tags

    @field_validator("base_urls")
    @classmethod
    def _check_urls(cls, urls: dict[str, str]) -> dict[str, str]:
        for name, url in urls.items():
            _check_name(name)
            parts = urlsplit(url)
            if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
                raise ValueError(f"{name}: {url!r} is not an address like http://127.0.0.1:8000/v1")
        return urls

    def allows(self, model: ModelName) -> bool:
        """True if agents and requests may name the model."""
        return not self.models or any(fnmatchcase(str(model), each) for each in self.models)

    def chat_url(self, provider: str) -> str | None:
        """The provider's address for chat completions; None if it is not known to speak them."""
        given = self.base_urls.get(provider)
        if given is not None and provider in _OWN_PROTOCOL:
            return None
        if given is None and provider in _CHAT_SERVERS:
            usual, variable = _CHAT_SERVERS[provider]
            moved = _variable(variable)
            if moved and provider == "groq":
                moved = moved.rstrip("/").removesuffix(_GROQ_PATH) + _GROQ_PATH
            given = moved or usual or None
        return _ollama_url(given) if given and provider == "ollama" else given

    def chat_headers(self, provider: str) -> dict[str, str]:
        """Headers for a server of chat completions."""
        named = _CHAT_HEADERS.get(provider, {})
        return {name: value for name, each in named.items() if (value := _variable(each))}

    def thinks_in_text(self, provider: str) -> bool:
        """True if `<think>` in the texts of the provider's models begins reasoning."""
        return self.think_tags.get(provider, provider in _THINK_TAGS)

    def key(self, model: ModelName) -> str | None:
        """The credential for this model's provider."""
        given = self.api_keys.get(model.provider)
        if given is not None:
            return given.get_secret_value()
        return _variable(model.key_variable) or None

    def needs_key(self, provider: str) -> bool:
        """True if the provider is known to need a key; a server of one's own may have no keys."""
        usual, _ = _CHAT_SERVERS.get(provider, ("", ""))
        return usual.startswith("https:") and self.chat_url(provider) == usual


def _variable(name: str) -> str:
    """A variable of the environment, in one line; empty if it is not set."""
    return " ".join(os.environ.get(name, "").split()) if name else ""


def _ollama_url(url: str) -> str:
    """With the /v1 under which it speaks chat completions: its own variable has none."""
    url = (url if "://" in url else f"http://{url}").rstrip("/")
    return url if urlsplit(url).path.removesuffix("/api") else f"{url.removesuffix('/api')}/v1"


def _check_name(name: str) -> None:
    if PROVIDER.fullmatch(name) is None:
        raise ValueError(f"{name!r} is no provider's name (a-z 0-9 _ - /)")
