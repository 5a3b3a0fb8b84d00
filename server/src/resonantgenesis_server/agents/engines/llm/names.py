"""Names of models: `openai:gpt-5-mini`, `anthropic:claude-haiku-4-5`, `ollama:llama3.2`."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: What a provider may be called.
PROVIDER = re.compile(r"[a-z0-9][a-z0-9_/-]{0,63}")


class BadModelName(ValueError):
    """The text is no name of a model; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model and who provides it."""

    provider: str
    name: str

    def __str__(self) -> str:
        return f"{self.provider}:{self.name}"

    @property
    def key_variable(self) -> str:
        """The environment variable in which this provider's key is customarily kept."""
        # openai-chat and openai-responses are other protocols of the same account.
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
